"""What families declare about themselves is complete and free of contradictions."""

from __future__ import annotations

import re

import pytest
import torch

from finescale.networks import FAMILIES, Family, build, variants

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


def test_no_name_is_used_twice() -> None:
    assert len(variants()) == sum(len(family.variants) for family in FAMILIES.values())
    classes = [name for family in FAMILIES.values() if family.options for name in family.options.classes]
    assert len(classes) == len(set(classes))


@families
def test_every_published_network_has_its_recipe(family: Family) -> None:
    other = re.compile(r"\dbit|.*\bgan\b.*")  # quantized after training, or trained against a discriminator
    named = {(facts.name, facts.scale) for facts in family.publication.networks if not other.fullmatch(facts.tag)}
    assert named <= set(family.recipes)
    trained = {(stages[-1].variant, scale) for (_, scale), stages in family.recipes.items()}
    if family.recipes:
        assert {(variant, scale) for variant in family.variants for scale in family.scales(variant)} <= trained


@pytest.mark.parametrize(
    ("variant", "restoring", "eightfold"),
    [
        ("hit-sir", 767_195, 869_444),
        ("hit-sng", 1_007_715, 1_109_964),
        ("hit-srf", 842_075, 944_324),
        ("craft", 733_859, 815_696),
        ("drct", 13_844_155, 14_287_291),
        ("span", 494_811, 597_060),
        ("dat-s", 10_916_707, 11_359_843),
        ("dat-light", 548_421, 650_670),
        ("cit", 647_223, 749_472),
    ],
)
def test_a_published_size_at_x1_and_x8_has_the_parameters_of_the_published_network(
    variant: str, restoring: int, eightfold: int
) -> None:
    for scale, expected in ((1, restoring), (8, eightfold)):
        with torch.device("meta"):
            network = build(variant, scale=scale)
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


def test_an_unknown_variant_is_refused_with_the_right_name() -> None:
    with pytest.raises(
        ValueError, match=r"no variant is called 'hit-srff' \(did you mean 'hit-srf'\?\); known: hit-sir"
    ):
        build("hit-srff", scale=2)


@pytest.mark.parametrize("scale", [17, 0, -2])
def test_an_unknown_scale_is_refused(scale: int) -> None:
    with pytest.raises(ValueError, match=f"scale must be 1 to 16 for the upsampler 'pixelshuffledirect', got {scale}"):
        build("hit-srf", scale=scale)
