"""What a family declares about itself is complete and free of contradictions."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from finescale import zoo
from finescale.networks import FAMILIES, Family, Frame, build, family_of, recipes, variants

families = pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES)
SIZES = [(variant, scale) for variant, family in variants().items() for scale in family.scales(variant)]


@pytest.fixture(scope="module")
def states() -> Mapping[str, list[Mapping[str, Tensor]]]:
    """State dicts of all tiny networks, without values, by their family."""
    with torch.device("meta"):
        return {
            name: [
                family.network(settings=settings, scale=family.scales(variant)[0]).state_dict()
                for variant, settings in family.tiny.items()
            ]
            for name, family in FAMILIES.items()
        }


@families
def test_each_variant_has_a_tiny_sister(family: Family) -> None:
    assert set(family.tiny) == set(family.variants)


@families
def test_tiny_networks_are_small(family: Family) -> None:
    for variant, settings in family.tiny.items():
        network = family.network(settings=settings, scale=family.scales(variant)[0])
        assert sum(parameter.numel() for parameter in network.parameters()) < 300_000


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


@pytest.mark.parametrize(("variant", "scale"), SIZES)
def test_every_variant_is_built_by_its_name(variant: str, scale: int) -> None:
    with torch.device("meta"):
        network = build(variant, scale=scale)
    assert isinstance(network, Frame)
    assert network.scale == scale
    assert network.settings == variants()[variant].variants[variant]
    assert family_of(network) is variants()[variant]


@families
def test_networks_of_other_families_are_not_recognised(
    family: Family, states: Mapping[str, list[Mapping[str, Tensor]]]
) -> None:
    taken = {name for name, theirs in states.items() if any(family.files.recognises(state) for state in theirs)}
    assert taken == {family.name}


@families
def test_every_variant_has_a_scale(family: Family) -> None:
    assert all(family.scales(variant) for variant in family.variants)


@pytest.mark.parametrize(("variant", "scale"), SIZES)
def test_parameters_are_those_of_the_built_network(variant: str, scale: int) -> None:
    with torch.device("meta"):
        network = build(variant, scale=scale)
    counted = sum(parameter.numel() for parameter in network.parameters())
    assert counted == zoo.entry(variant, scale=scale).cost.num_parameters
