"""What the families declare of published networks is true where it can be checked."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from finescale import zoo
from finescale.networks import FAMILIES, SCALES, SETS, Family, build, published
from finescale.networks.family import scores

UNPUBLISHED = {"swinir-real-l": {2}}
"""Scales at which the authors have a head but no network."""

COSTS = [(variant, scale) for family in FAMILIES.values() for variant, scale in family.publication.costs]

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@families
def test_every_variant_has_its_cost_at_every_scale(family: Family) -> None:
    for variant, settings in family.variants.items():
        usual = set(SCALES) & set(settings.scales) or set(settings.scales)
        assert set(family.scales(variant)) >= usual - UNPUBLISHED.get(variant, set())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(("variant", "tolerance"), [("drct", 1e-4), ("drct-l", 1e-4), ("hat", 1e-4), ("span", 1e-2)])
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


@pytest.mark.parametrize(
    ("name", "scale", "files"),
    [
        ("craft", 4, ["CRAFT_MODEL_X4.pth", "CRAFT_MODEL_x4.pth"]),
        ("craft-4bit", 4, ["CRAFT_MODEL_4bit_x4.pth"]),
        ("dat-s", 2, ["DAT_S_x2.pth"]),
        ("dat-light", 3, ["DAT_light_x3.pth"]),
        ("drct", 4, ["DRCT_X4.pth", "DRCT_SRx4.pth"]),
        ("drct-l", 4, ["DRCT-L_X4.pth", "DRCT-L_SRx4_ImageNet-pretrain.pth"]),
        ("hit-srf", 4, ["HiT-SRF-4x.pth"]),
        ("hit-srf-df2k", 2, ["HiT-SRF-2x-DF2K.pth"]),
        ("span", 4, ["sr4.pth"]),
    ],
)
def test_the_names_of_every_readme_are_recognised_in_any_case(name: str, scale: int, files: list[str]) -> None:
    for file in files:
        for spelling in (file, file.lower(), file.upper(), file.replace(".pth", ".safetensors")):
            assert [key for key, facts in published().items() if facts.is_file(spelling)] == [(name, scale)]


def test_no_file_name_stands_for_two_networks() -> None:
    names = Counter(file.casefold() for facts in published().values() for file in facts.file_names)
    assert [name for name, count in names.items() if count > 1] == []


def test_results_are_of_all_sets_or_of_none() -> None:
    for facts in published().values():
        assert tuple(facts.scores) in (SETS, ()), facts.name


@pytest.mark.parametrize("name", [name for name, scale in published() if scale == 2])
def test_results_fall_with_the_scale(name: str) -> None:
    tables = [facts.scores for (other, _), facts in sorted(published().items()) if other == name and facts.scores]
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
    known += [
        settings.model_copy(update={"position_size": (settings.window_size, 2 * settings.window_size)})
        for settings in known
        if "position_size" in type(settings).model_fields
    ]
    assert {field for settings in known for field in family.files.unseen(settings, {})} == set(family.files.unseen_help)


def test_our_own_reading_claims_nothing_of_its_authors() -> None:
    assert FAMILIES["cit"].publication.networks == ()
    assert FAMILIES["cit"].about.caution.startswith("This is our own reading of an abstract")


def test_results_of_quantized_networks_fall_with_the_bits() -> None:
    names = ("craft", "craft-8bit", "craft-6bit", "craft-4bit")
    for row in zip(*(published()[name, 4].scores.values() for name in names), strict=True):
        assert list(row) == sorted(row, reverse=True)
