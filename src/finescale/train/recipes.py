"""Recipes of published trainings, converted to settings of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finescale.networks import Recipe, recipes
from finescale.settings import suggest

VALIDATE_EVERY = 5000
"""Steps between two validations, as in most published trainings."""


def recipe_of(name: str, *, scale: int | None = None, stage: int | None = None) -> tuple[Recipe, int]:
    """Find one stage of a recipe, and its scale.

    Args:
        name: Such as "hit-srf" or "hit-srf-df2k".
        scale: May be None where the recipe has only one.
        stage: Number from 1; may be None where the recipe has only one.

    Raises:
        ValueError: There is no such recipe, or it has no such scale or stage, or has several of which none is named.
    """
    known = recipes()
    names = list(dict.fromkeys(other for other, _ in known))
    if name not in names:
        raise ValueError(f"unknown recipe {name!r}{suggest(name, names)}; known: {', '.join(names)}")
    scales = [offered for other, offered in known if other == name]
    if scale is None and len(scales) == 1:
        scale = scales[0]
    if scale is None or scale not in scales:
        raise ValueError(f"the scale of {name} must be one of {', '.join(map(str, scales))}, got {scale or 'none'}")
    stages = known[name, scale]
    if stage is None and len(stages) == 1:
        stage = 1
    if stage is None or not 1 <= stage <= len(stages):
        parts = ", then ".join(f"{number} ({part.data})" for number, part in enumerate(stages, start=1))
        raise ValueError(f"the stage of {name} x{scale} must be {parts}, got {stage or 'none'}")
    return stages[stage - 1], scale


def training_name(name: str, scale: int, stage: int | None = None) -> str:
    """Return a recipe's default training name: "hit-srf_x4", "drct_x4_stage1"; by default of its last stage."""
    stages = len(recipes()[name, scale])
    return f"{name}_x{scale}" + (f"_stage{stage or stages}" if stages > 1 else "")


def start_of(name: str, *, scale: int, stage: int | None = None) -> str | None:
    """Return the name of the training whose weights a recipe starts with; None where they are random.

    Raises:
        ValueError: There is no such recipe, scale or stage.
    """
    recipe, _ = recipe_of(name, scale=scale, stage=stage)
    if recipe.start is None:
        return None
    own = recipe.start == (name, scale)
    return training_name(*recipe.start, stage - 1 if own and stage else None)


def recipe_values(name: str, *, scale: int, stage: int | None = None) -> dict[str, Any]:
    """Convert a recipe to fields of `TrainSettings`, without the paths of the data and of the initial weights.

    Raises:
        ValueError: There is no such recipe, scale or stage.
    """
    recipe, _ = recipe_of(name, scale=scale, stage=stage)
    return {
        "name": training_name(name, scale, stage),
        "variant": recipe.variant,
        "scale": scale,
        "data": {"patch": recipe.patch, "augmentation": recipe.augmentation},
        "train": {
            "iterations": recipe.iterations,
            "batch": recipe.batch,
            "optimizer": recipe.optimizer,
            "betas": recipe.betas,
            "lr": recipe.lr,
            "milestones": recipe.milestones,
            "gamma": recipe.gamma,
            "warm_up": recipe.warm_up,
            "loss": dict(recipe.loss),
            "average": recipe.average,
            "average_warm_up": False,
            "seed": recipe.seed,
        },
        "validation": {"every": VALIDATE_EVERY},
    }


def weights_of(training: str, *, output: Path) -> Path:
    """Return the path of a training's weights."""
    return output / training / "weights.safetensors"
