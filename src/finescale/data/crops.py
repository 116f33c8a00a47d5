"""A training sample as a pure function of (seed, index): which picture, which part, which way round.

Nothing is remembered between samples, so a resumed training sees exactly the samples it would have seen, on any machine
and in any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
from torch import Tensor

from finescale.data.degradation import BLOCK, REACH, DegradationSettings, degrade
from finescale.resize import downsample, tap_margin

Augmentation = Literal["flips-and-transpose", "flip-and-turn", "none"]
"""How samples are varied: upside down, left to right and transposed, each half of the time; or left to right and a
quarter turn, each half of the time; or not at all."""


def sample(
    images: Sequence[Tensor],
    lr_images: Sequence[Tensor] | None = None,
    *,
    seed: int,
    index: int,
    scale: int,
    patch: int,
    augmentation: Augmentation = "flips-and-transpose",
    degradation: DegradationSettings | None = None,
) -> tuple[Tensor, Tensor]:
    """Draw one pair of patches.

    The picture is drawn first, each with the same chance, then a place on the grid of low-resolution pixels, then coins
    for the augmentation. The pair is turned after the downsampling, as published, and after all degradation.

    Args:
        images: Originals (3, H, W), uint8, each side at least ``scale * patch``.
        lr_images: Their low-resolution pictures (3, H // scale, W // scale), uint8; None makes what is needed of them
            by `downsample`.
        seed: Names a sequence of samples; 0 to 2**64 - 1.
        index: The place in the sequence; 0 to 2**64 - 1.
        scale: How many times smaller the low-resolution patch is.
        patch: Height and width of the low-resolution patch.
        augmentation: How the pair is varied.
        degradation: What else happens to an lr that is made here; None is nothing.

    Returns:
        lr (3, patch, patch) and hr (3, scale * patch, scale * patch), uint8; an lr that is made here and not degraded
        is, byte for byte, that part of the whole picture's `downsample`.

    Raises:
        ValueError: The drawn picture is smaller than the patch, or ``degradation`` is for ``lr_images``.
    """
    if lr_images is not None and degradation is not None:
        raise ValueError("degradation must be None for low-resolution pictures that are given, got both")
    # Raw numbers of a counter-based generator are the same in every version of NumPy; its `integers` may change.
    drawn = np.random.Philox(key=np.array([seed, index], dtype=np.uint64)).random_raw(4)
    which, row, column, coins = (int(number) for number in drawn)
    number = which % len(images)
    hr_image = images[number]
    rows, columns = (side // scale - patch + 1 for side in hr_image.shape[-2:])
    if rows < 1 or columns < 1:
        size = " x ".join(str(side) for side in hr_image.shape[-2:])
        raise ValueError(f"a picture of {size} pixels has no patch of {patch} x {patch} at scale {scale}")
    top, left = row % rows, column % columns
    hr = _crop(hr_image, scale * top, scale * left, scale * patch)
    if lr_images is not None:
        lr = _crop(lr_images[number], top, left, patch)
    elif degradation is not None:
        make = partial(degrade, settings=degradation, scale=scale, seed=seed, index=index)
        lr = _made(hr_image, make, top, left, patch, scale=scale, margin=REACH, grid=BLOCK)
    else:
        lr, hr = crop_pair(hr_image, top=top, left=left, scale=scale, patch=patch)
    return _vary(lr, coins, augmentation), _vary(hr, coins, augmentation)


def crop_pair(hr: Tensor, *, top: int, left: int, scale: int, patch: int) -> tuple[Tensor, Tensor]:
    """A part of an original and the same part of its low-resolution image, of which no more than needed is made.

    Args:
        hr: Original (3, H, W), uint8.
        top: First row of the part, in low-resolution pixels.
        left: First column of the part, in low-resolution pixels.
        scale: How many times smaller the low-resolution part is.
        patch: Height and width of the low-resolution part.

    Returns:
        lr (3, patch, patch) and hr (3, scale * patch, scale * patch), uint8.
    """
    make, margin = partial(downsample, scale=scale), -(-tap_margin(scale) // scale)
    lr = _made(hr, make, top, left, patch, scale=scale, margin=margin)
    return lr, _crop(hr, scale * top, scale * left, scale * patch)


def _made(
    hr: Tensor,
    make: Callable[[Tensor], Tensor],
    top: int,
    left: int,
    patch: int,
    *,
    scale: int,
    margin: int,
    grid: int = 1,
) -> Tensor:
    """A part of what ``make`` makes of an original, from that part and its surroundings.

    As many lr pixels as ``margin`` come along on every side; where the picture ends earlier, the whole one is mirrored
    too. What comes along begins at a multiple of ``grid``, counted from the picture's corner.
    """
    height, width = hr.shape[-2] // scale, hr.shape[-1] // scale
    above, before = (max(start - margin, 0) // grid * grid for start in (top, left))
    below, after = min(top + patch + margin, height), min(left + patch + margin, width)
    surroundings = make(hr[:, scale * above : scale * below, scale * before : scale * after])
    return _crop(surroundings, top - above, left - before, patch)


def _crop(image: Tensor, top: int, left: int, side: int) -> Tensor:
    return image[:, top : top + side, left : left + side]


def _vary(image: Tensor, coins: int, augmentation: Augmentation) -> Tensor:
    """One of the ways to turn and mirror an image (3, H, W), by the lowest bits of ``coins``."""
    if augmentation == "none":
        return image
    if augmentation == "flip-and-turn":
        image = image.flip(-1) if coins & 1 else image
        return image.rot90(1, (-2, -1)) if coins & 2 else image
    if coins & 1:
        image = image.flip(-2)
    if coins & 2:
        image = image.flip(-1)
    return image.transpose(-2, -1) if coins & 4 else image
