"""What the families declare of published networks is true where it can be checked, and the manual shows it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from finescale import zoo
from finescale.networks import FAMILIES, SCALES, SETS, Family, build, published
from finescale.networks.family import scores

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"
COSTS = [(variant, scale) for family in FAMILIES.values() for variant, scale in family.publication.costs]

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


# ---- facts


@families
def test_every_variant_has_its_cost_at_every_scale(family: Family) -> None:
    assert set(family.publication.costs) == set(product(family.variants, SCALES))


@pytest.mark.parametrize(("variant", "scale"), COSTS)
def test_parameters_are_those_of_the_built_network(variant: str, scale: int) -> None:
    with torch.device("meta"):
        network = build(variant, scale=scale)
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert counted == zoo.entry(variant, scale=scale).cost.num_parameters


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("variant", "tolerance"), [("drct", 1e-4), ("drct-l", 1e-4), ("span", 1e-2)])
def test_multiply_adds_are_those_of_one_pass(variant: str, tolerance: float, scale: int) -> None:
    # Of the sliding proxy network the authors count the constant shifts as well, which ours does without.
    stated = zoo.entry(variant, scale=scale).cost.multiply_adds
    assert stated
    with torch.device("meta"):
        network, image = build(variant, scale=scale).eval(), torch.empty(1, 3, *stated.size)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    assert counter.get_total_flops() / 2e9 == pytest.approx(stated.giga, rel=tolerance)


@families
def test_what_is_published_is_of_the_familys_variants_and_told_once(family: Family) -> None:
    told = Counter((facts.name, facts.scale) for facts in family.publication.networks)
    assert set(told.values()) <= {1}
    assert {(facts.variant, facts.scale) for facts in family.publication.networks} <= set(family.publication.costs)


def test_a_published_file_can_be_found_and_a_missing_one_has_its_reason() -> None:
    for facts in published().values():
        assert bool(facts.file) == bool(facts.page or facts.hub)
        assert facts.file or facts.remark


def test_no_file_name_stands_for_two_networks() -> None:
    names = Counter(facts.file for facts in published().values() if facts.file)
    assert [name for name, count in names.items() if count > 1] == []


def test_results_are_of_all_sets_or_of_none() -> None:
    for facts in published().values():
        assert tuple(facts.scores) in (SETS, ()), facts.name


@pytest.mark.parametrize("name", [name for name, scale in published() if scale == 2])
def test_results_fall_with_the_scale(name: str) -> None:
    tables = [published()[name, scale].scores for scale in SCALES]
    tables = [table for table in tables if table]
    for larger, smaller in pairwise(tables):
        for test_set in SETS:
            (psnr, ssim), (lower_psnr, lower_ssim) = larger[test_set], smaller[test_set]
            assert psnr > lower_psnr
            assert ssim is None or lower_ssim is None or 1 > ssim > lower_ssim


def test_a_row_of_results_must_have_a_word_for_each_set() -> None:
    assert scores("1/0.5 2 3 4 5/0.25")["Set5"] == (1.0, 0.5)
    assert scores("1/0.5 2 3 4 5/0.25")["Set14"] == (2.0, None)
    with pytest.raises(ValueError, match="shorter"):
        scores("1/0.5 2 3 4")


@families
def test_every_field_that_a_file_does_not_show_is_explained(family: Family) -> None:
    known = [*family.variants.values(), *family.tiny.values()]
    assert {field for settings in known for field in family.files.unseen(settings, {})} == set(family.files.unseen_help)


def test_our_own_reading_claims_nothing_of_its_authors() -> None:
    assert FAMILIES["cit"].publication.networks == ()
    assert FAMILIES["cit"].about.caution.startswith("This is our own reading of an abstract")


# ---- the list


def test_every_variant_and_every_published_network_is_listed_once() -> None:
    listed = Counter((found.name, found.scale) for found in zoo.models())
    assert set(listed.values()) == {1}
    assert set(listed) == {*COSTS, *published()}


def test_what_is_asked_for_narrows_the_list() -> None:
    assert {found.family for found in zoo.models(family="dat")} == {"dat"}
    assert {found.scale for found in zoo.models(scale=3)} == {3}
    assert [(found.name, found.scale) for found in zoo.models(name="hit-srf-df2k")] == [
        ("hit-srf-df2k", scale) for scale in SCALES
    ]
    small = zoo.models(family="dat", max_parameters=561_405)
    assert [(found.name, found.scale) for found in small] == [("dat-light", 2), ("dat-light", 3)]
    large = zoo.models(min_parameters=27_580_719)
    assert [(found.name, found.scale) for found in large] == [("drct-l", 3), ("drct-l", 4)]


def test_where_weights_are_is_told() -> None:
    places = {(found.name, found.scale): found.weights for found in zoo.models()}
    assert places["hit-srf", 4] == "hub"
    assert places["hit-srf-df2k", 4] == "link"
    assert places["drct", 4] == "link"
    assert places["drct", 2] == "none"
    assert places["cit", 4] == "none"


def test_a_training_of_its_own_is_of_the_same_variant() -> None:
    found = zoo.entry("hit-srf-df2k", scale=2)
    assert found.variant == "hit-srf"
    assert found.cost == zoo.entry("hit-srf", scale=2).cost


def test_other_networks_come_first_and_obey_the_same_filters() -> None:
    own = zoo.Entry(**{**vars(zoo.entry("hit-sir", scale=2)), "name": "mine", "variant": None})
    assert zoo.models(also=[own])[0] is own
    assert zoo.models(also=[own], name="mine") == [own]
    assert own not in zoo.models(also=[own], scale=4)


def test_one_entry_is_of_the_largest_scale_unless_told() -> None:
    assert zoo.entry("craft").scale == 4
    assert zoo.entry("craft", scale=2).scale == 2


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"name": "hit-srff"}, r"no network is called 'hit-srff' \(did you mean 'hit-srf'\?\); known: hit-sir, "),
        ({"family": "hitsr"}, r"no family is called 'hitsr' \(did you mean 'hit-sr'\?\); known: hit-sr, "),
        ({"scale": 5}, "scale must be 2, 3 or 4, got 5"),
    ],
)
def test_what_does_not_exist_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        zoo.models(**asked)


def test_an_entry_at_another_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be one of 2, 3, 4 for craft, got 8"):
        zoo.entry("craft", scale=8)


# ---- docs/networks.md


def test_the_page_is_current() -> None:
    assert PAGE.read_bytes() == zoo.networks_page().encode(), "run `make docs`"


def test_recipes_that_are_the_same_at_several_scales_have_one_row() -> None:
    rows = [line for line in zoo.networks_page().splitlines() if line.startswith("| `hit-srf` | x") and "k |" in line]
    assert [row.split(" | ")[1:4] for row in rows] == [["x2", "DIV2K", "random"], ["x3, x4", "DIV2K", "`hit-srf` x2"]]
    (edge,) = (line for line in zoo.networks_page().splitlines() if line.startswith("| `craft-sequel` | x4"))
    assert "loss l1 + edge" in edge


def test_the_module_prints_the_page() -> None:
    done = subprocess.run([sys.executable, "-m", "finescale.zoo"], capture_output=True, check=True, timeout=120)
    assert done.stdout == PAGE.read_bytes()


@families
def test_a_section_begins_with_the_caution(family: Family) -> None:
    about, paper = family.about, family.publication.paper
    section = zoo.networks_page().partition(f"## {about.title}\n\n")[2]
    assert section.startswith(f"**{about.caution}**" if about.caution else paper.authors or "[*")


def test_all_rows_of_a_table_have_as_many_cells_as_its_head() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", zoo.networks_page(), flags=re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_the_sliding_proxy_network_is_not_called_by_its_acronym_alone() -> None:
    headings = re.findall(r"^## (.*)$", zoo.networks_page(), flags=re.MULTILINE)
    assert "The sliding proxy network" in headings
    assert "SPAN" not in headings


# ---- model cards


def card(**changed: Any) -> str:
    usual: dict[str, Any] = {"family": "hit-sr", "variant": "hit-srf", "scale": 4, "source": "a test", "licence": "MIT"}
    return zoo.model_card(**{**usual, **changed})


def front_matter(text: str) -> dict[str, Any]:
    _, head, _ = text.split("---\n", 2)
    return dict(yaml.safe_load(head))


def test_a_card_begins_with_what_hubs_read() -> None:
    assert front_matter(card()) == {
        "library_name": "finescale",
        "license": "mit",
        "pipeline_tag": "image-to-image",
        "tags": ["super-resolution", "image-upscaling", "hit-sr", "hit-srf", "x4"],
    }


def test_a_licence_that_hubs_do_not_know_is_named() -> None:
    head = front_matter(card(licence="my terms: ask"))
    assert (head["license"], head["license_name"]) == ("other", "my terms: ask")
    assert "license" not in front_matter(card(licence=None))
    assert "| licence | not stated |" in card(licence=None)


def test_published_results_on_a_card_are_marked_as_those_of_other_weights() -> None:
    before, heading, after = card().partition("## What the authors publish")
    assert heading
    assert "32.55/0.8999" not in before
    assert "32.55/0.8999" in after
    assert "for **their own weights**" in after
    assert "they were not measured with the weights of this page" in after


def test_a_size_of_its_own_shows_its_settings_and_no_published_results() -> None:
    settings = FAMILIES["hit-sr"].tiny["hit-srf"]
    text = card(variant=None, settings=settings)
    assert '"feed_forward": "conv"' in text
    assert "PSNR" not in text
    assert "hit-srf" not in front_matter(text)["tags"]


def test_the_card_of_our_own_reading_says_so_first() -> None:
    text = card(family="cit", variant="cit")
    assert text.partition("\n# CIT: cit, x4\n\n")[2].startswith("**This is our own reading of an abstract")
    assert "PSNR" not in text
    assert front_matter(text)["tags"] == ["super-resolution", "image-upscaling", "cit", "x4"]


def test_what_a_user_writes_stays_in_its_cell() -> None:
    assert "| source of the weights | a \\| b # c |" in card(source="a | b\n# c")


def test_the_code_of_a_card_names_the_repository() -> None:
    text = card(repository="me/mine")
    assert "finescale upscale photo.jpg -n me/mine" in text
    assert 'from_pretrained("me/mine", scale=4)' in text


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"family": "hit"}, r"no family is called 'hit'"),
        ({"variant": "dat"}, r"hit-sr has no variant 'dat' at scale 4; known: hit-sir, hit-sng, hit-srf"),
        ({"scale": 5}, r"hit-sr has no variant 'hit-srf' at scale 5"),
    ],
)
def test_a_card_of_what_does_not_exist_is_refused(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        card(**asked)


def test_results_of_quantized_networks_fall_with_the_bits() -> None:
    names = ("craft", "craft-8bit", "craft-6bit", "craft-4bit")
    for row in zip(*(published()[name, 4].scores.values() for name in names), strict=True):
        assert list(row) == sorted(row, reverse=True)
