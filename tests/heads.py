"""Tiny networks at scales 1 and 8, which no family publishes, with each reconstruction head that a family has there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_args

import pytest
import torch

from finescale.layers.upsampling import SCALES, Upsampler
from finescale.networks import FAMILIES, Frame, FrameSettings


def heads(families: Collection[str] = tuple(FAMILIES)) -> list[Any]:
    """Return the parameters (family, settings, scale) of a test, by each family's first tiny size."""
    return [
        pytest.param(
            family,
            type(tiny).model_validate({**tiny.model_dump(), "upsampler": kind}),
            scale,
            id=f"{name}-{kind}-x{scale}",
        )
        for name, family in FAMILIES.items()
        if name in families
        for tiny in [next(iter(family.tiny.values()))]
        for kind in _kinds(tiny)
        for scale in (1, 8)
        if scale in SCALES[kind]
    ]


def one_block(kind: str, scale: int) -> Frame:
    """Return a network with a head and a single block, for what takes seconds for each layer."""
    torch.manual_seed(0)
    family = FAMILIES["hit-sr"]
    fields = {"embed_dim": 16, "depths": (1,), "num_heads": (1,), "base_window": (4, 4), "window_ratios": (1,)}
    settings = type(family.tiny["hit-sir"]).model_validate({**fields, "upsampler": kind})
    return family.network(settings=settings, scale=scale).eval()


def _kinds(settings: FrameSettings) -> tuple[Upsampler, ...]:
    """The heads that a family offers."""
    offered: Any = type(settings).model_fields["upsampler"].annotation
    return get_args(offered)
