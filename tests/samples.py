"""Samples of pictures that a test makes itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from finescale.data import Source


def source_of(images: Sequence[Tensor], lr: Sequence[Tensor] | None = None, **fields: Any) -> Source:
    """A source of these pictures, varied as trainings usually are."""
    given = {"seed": 0, "augmentation": "flips-and-transpose", **fields}
    names = tuple(f"{number}.png" for number in range(len(images)))
    sizes = [(image.shape[-2], image.shape[-1]) for image in images]
    return Source(names=names, hr=images, sizes=sizes, lr=lr, **given)


def sample(images: Sequence[Tensor], lr: Sequence[Tensor] | None = None, *, index: int, **fields: Any) -> Any:
    """The pair of patches that a source of these pictures has at a place."""
    return source_of(images, lr, **fields).sample(index)
