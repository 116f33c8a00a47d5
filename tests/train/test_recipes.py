"""Published recipes become settings, number for number."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from finescale.networks import recipes
from finescale.settings import parse_settings
from finescale.train import TrainSettings
from finescale.train.recipes import recipe_of, recipe_values, start_of, training_name, weights_of

EVERY = [(name, scale, stage) for (name, scale), stages in recipes().items() for stage in range(1, len(stages) + 1)]


def settings(name: str, scale: int, stage: int | None = None, **data: Any) -> TrainSettings:
    values = recipe_values(name, scale=scale, stage=stage)
    values["data"]["hr"] = [Path("pictures")]
    if scale == 1:
        values["data"]["lr"] = [Path("spoilt")]
    return parse_settings(TrainSettings, values, source="recipe")


@pytest.mark.parametrize(("name", "scale", "stage"), EVERY)
def test_every_recipe_makes_valid_settings(name: str, scale: int, stage: int) -> None:
    made = settings(name, scale, stage)
    recipe, _ = recipe_of(name, scale=scale, stage=stage)
    assert (made.variant, made.scale, made.network, made.warm_start) == (recipe.variant, scale, {}, None)
    told = made.train
    assert (told.batch, told.lr, told.iterations, told.milestones) == (
        recipe.batch, recipe.lr, recipe.iterations, recipe.milestones,
    )  # fmt: skip
    assert (told.average, told.average_warm_up, told.seed, told.loss) == (
        recipe.average, False, recipe.seed, recipe.loss,
    )  # fmt: skip
    assert (made.data.patch, made.data.augmentation) == (recipe.patch, recipe.augmentation)
    assert (told.clip, told.warm_up, told.weight_decay, told.precision) == (None, recipe.warm_up, 0.0, "float32")


def test_the_numbers_are_the_published_ones() -> None:
    long, short = (250_000, 400_000, 450_000, 475_000), (125_000, 200_000, 225_000, 237_500)
    facts = {
        ("hit-srf", 4): (64, 64, 5e-4, 500_000, long, 0.0, 1226),
        ("hit-srf-df2k", 2): (64, 64, 5e-4, 500_000, long, 0.0, 1226),
        ("craft", 3): (64, 64, 2e-4, 500_000, long, 0.0, 33),
        ("drct-scratch", 2): (64, 32, 2e-4, 500_000, long, 0.999, 0),
        ("drct-from-x2", 4): (64, 32, 1e-4, 250_000, (125_000, 200_000, 225_000, 240_000), 0.999, 0),
        ("hat", 3): (64, 32, 2e-4, 500_000, long, 0.999, 0),
        ("hat-s", 4): (64, 32, 1e-4, 250_000, (125_000, 200_000, 225_000, 240_000), 0.999, 0),
        ("span", 2): (66, 32, 5e-4, 500_000, long, 0.999, 0),
        ("span", 4): (66, 64, 5e-4, 500_000, long, 0.999, 0),
        ("dat", 2): (64, 32, 2e-4, 500_000, long, 0.0, 10),
        ("dat-s", 3): (64, 32, 1e-4, 250_000, short, 0.0, 10),
        ("dat-light", 4): (64, 32, 2e-4, 500_000, long, 0.0, 10),
        ("cit", 4): (64, 32, 2e-4, 500_000, long, 0.0, 10),
    }
    for key, numbers in facts.items():
        (recipe,) = recipes()[key]
        found = (
            recipe.patch, recipe.batch, recipe.lr, recipe.iterations, recipe.milestones, recipe.average, recipe.seed,
        )  # fmt: skip
        assert found == numbers, key


@pytest.mark.parametrize("name", ["drct-l", "hat-l", "hat-imagenet"])
def test_drct_and_hat_are_trained_on_imagenet_and_then_on_df2k(name: str) -> None:
    first, second = recipes()[name, 4]
    assert (first.data, first.iterations, first.lr, first.start) == ("ImageNet", 800_000, 2e-4, None)
    assert first.milestones == (300_000, 500_000, 650_000, 700_000, 750_000)
    assert (second.iterations, second.lr, second.start) == (250_000, 1e-5, (name, 4))
    assert second.milestones == (125_000, 200_000, 225_000, 240_000)


@pytest.mark.parametrize(
    ("name", "scale", "stage", "training"),
    [
        ("hit-srf", 2, None, None),
        ("hit-srf", 4, None, "hit-srf_x2"),
        ("hit-srf-df2k", 3, None, "hit-srf-df2k_x2"),
        ("drct", 4, 1, None),
        ("drct", 4, 2, "drct_x4_stage1"),
        ("drct-from-x2", 4, None, "drct-scratch_x2"),
        ("hat-s", 4, None, "hat-s_x2"),
        ("hat-imagenet", 2, 2, "hat-imagenet_x2_stage1"),
        ("cit-from-dat-light", 2, None, "dat-light_x2"),
    ],
)
def test_a_recipe_begins_where_another_ends(name: str, scale: int, stage: int | None, training: str | None) -> None:
    assert start_of(name, scale=scale, stage=stage) == training


def test_a_training_is_named_after_its_recipe() -> None:
    assert settings("hit-srf", 4).name == training_name("hit-srf", 4) == "hit-srf_x4"
    assert settings("drct", 3, 1).name == training_name("drct", 3, 1) == "drct_x3_stage1"
    assert training_name("drct", 3) == "drct_x3_stage2"
    assert weights_of("a", output=Path("b")) == Path("b/a/weights.safetensors")


def test_one_scale_and_one_stage_need_not_be_said() -> None:
    assert recipe_of("craft-sequel") == (recipes()["craft-sequel", 4][0], 4)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "hit-srff"}, "unknown recipe 'hit-srff' (did you mean 'hit-srf'?); known: hit-sir"),
        ({"name": "hit-srf"}, "the scale of hit-srf must be one of 2, 3, 4, got none"),
        ({"name": "craft-sequel", "scale": 2}, "the scale of craft-sequel must be one of 4, got 2"),
        ({"name": "drct", "scale": 4}, "the stage of drct x4 must be 1 (ImageNet), then 2 (DF2K"),
        ({"name": "craft", "scale": 4, "stage": 2}, "the stage of craft x4 must be 1 (DIV2K), got 2"),
    ],
)
def test_what_there_is_not_is_refused_with_what_there_is(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)):
        recipe_of(**arguments)
