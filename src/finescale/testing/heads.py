"""Tiny networks at scales 1 and 8, which no family publishes, with each reconstruction head that a family has there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, get_args

import pytest

from finescale.layers.upsampling import SCALES, Upsampler
from finescale.networks import FAMILIES, FrameSettings


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


def _kinds(settings: FrameSettings) -> tuple[Upsampler, ...]:
    """The heads that a family offers."""
    offered: Any = type(settings).model_fields["upsampler"].annotation
    return get_args(offered)
