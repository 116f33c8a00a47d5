"""What families declare about themselves is complete and free of contradictions."""

from __future__ import annotations

import re

import pytest
import torch

from finescale.networks import FAMILIES, Family, Frame, build, family_of, recipes, variants

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)


@families
def test_each_variant_has_a_tiny_sister(family: Family) -> None:
    assert set(family.tiny) == set(family.variants)


@families
def test_tiny_networks_are_small(family: Family) -> None:
    for variant, settings in family.tiny.items():
        network = family.network(settings=settings, scale=family.scales(variant)[0])
        assert sum(parameter.numel() for parameter in network.parameters()) < 300_000


def test_no_name_is_used_twice() -> None:
    assert len(variants()) == sum(len(family.variants) for family in FAMILIES.values())
    classes = [name for family in FAMILIES.values() for name in family.options.classes]
    assert len(classes) == len(set(classes))


@families
def test_a_variant_is_nearest_to_itself(family: Family) -> None:
    for variant, settings in family.variants.items():
        assert family.nearest(settings) == (variant, [])


@families
def test_the_nearest_variant_comes_with_the_fields_that_differ(family: Family) -> None:
    for variant, settings in family.variants.items():
        changed = settings.model_copy(update={"image_range": 2.0})
        assert family.nearest(changed) == (variant, ["image_range"])


@families
def test_every_published_network_has_its_recipe(family: Family) -> None:
    other = re.compile(r"\dbit|.*\bgan\b.*")  # quantized after training, or trained against a discriminator
    named = {(facts.name, facts.scale) for facts in family.publication.networks if not other.fullmatch(facts.tag)}
    assert named <= set(family.recipes)
    trained = {(stages[-1].variant, scale) for (_, scale), stages in family.recipes.items()}
    if family.recipes:
        assert {(variant, scale) for variant in family.variants for scale in family.scales(variant)} <= trained


@families
def test_recipes_are_whole(family: Family) -> None:
    for (name, scale), stages in family.recipes.items():
        assert len(stages) > 0
        for number, recipe in enumerate(stages):
            assert recipe.variant in family.variants
            assert list(recipe.milestones) == sorted(recipe.milestones)
            assert recipe.milestones[-1] < recipe.iterations
            if recipe.start == (name, scale):
                assert number > 0, f"the first stage of {name} x{scale} begins with itself"
            elif recipe.start is not None:
                assert recipe.start in recipes()


@families
def test_a_recipe_has_one_name_at_all_scales(family: Family) -> None:
    for name in {name for name, _ in family.recipes}:
        assert len({stages[0].variant for (other, _), stages in family.recipes.items() if other == name}) == 1


@families
def test_a_third_party_state_is_not_recognised(family: Family) -> None:
    assert not family.files.recognises({"conv_first.weight": torch.zeros(60, 3, 3, 3)})
    assert not family.files.recognises({})


@families
def test_what_no_shape_shows_are_fields(family: Family) -> None:
    for settings in family.variants.values():
        assert set(family.files.unseen(settings, {})) <= set(type(settings).model_fields)


@pytest.mark.parametrize(
    ("variant", "scale"),
    [(variant, scale) for variant, family in variants().items() for scale in family.scales(variant)],
)
def test_every_variant_is_built_by_its_name(variant: str, scale: int) -> None:
    with torch.device("meta"):
        network = build(variant, scale=scale)
    assert isinstance(network, Frame)
    assert network.scale == scale
    assert network.settings == variants()[variant].variants[variant]
    assert family_of(network) is variants()[variant]


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
