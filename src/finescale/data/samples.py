"""Training samples as a pure function of seed and index: which picture, which part of it, which way round.

Nothing is remembered between samples, so a resumed training sees exactly the samples it would have seen, on any machine
and in any number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from finescale.data.degradation import BLOCK, REACH, DegradationSettings, degrade
from finescale.resize import downsample, tap_margin

Size = tuple[int, int]

Augmentation = Literal["flips-and-transpose", "flip-and-turn", "flip", "upside-down-and-transpose", "none"]
"""How samples are varied: mirrored upside down, mirrored left to right and transposed, each half of the time; mirrored
left to right and turned by a quarter, each half of the time; only the mirroring left to right of the first, or only its
other two; or not at all."""


NUM_WAYS = 8
"""Ways to turn and mirror a sample, of which an augmentation may use fewer."""


class Draw(NamedTuple):
    """Choice of a sample."""

    picture: int
    """Index of the picture."""
    top: int
    """First row of the part, in lr pixels."""
    left: int
    """First column of the part, in lr pixels."""
    coins: int
    """Way round, see `vary`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Source:
    """Pictures, each drawn with the same chance, and how samples are made of them.

    Raises:
        ValueError: ``degradation`` is given besides ``lr``.
    """

    names: tuple[str, ...]
    """File names of the HR images, for messages."""
    hr: Sequence[Tensor]
    """HR images (3, H, W), uint8, each side at least ``scale * patch``."""
    sizes: Sequence[Size]
    """Their (height, width)."""
    lr: Sequence[Tensor] | None = None
    """Their low-resolution pictures (3, H // scale, W // scale), uint8; None makes the needed part by `downsample`."""
    scale: int
    """How many times smaller the low-resolution pictures are."""
    patch: int
    """Height and width of a sample, in lr pixels."""
    seed: int
    """Names the sequence of samples; 0 to 2**64 - 1."""
    augmentation: Augmentation
    """How samples are varied."""
    degradation: DegradationSettings | None = None
    """What else happens to low-resolution pictures that samples make; None is nothing."""
    channels: int = 3
    """Channels of a sample: 3 for RGB; 1 for gray, made by `as_gray` of the HR image and of a given lr picture."""
    too_small: tuple[str, ...] = ()
    """File names of the HR images that were left out because no patch fits into them."""

    def __post_init__(self) -> None:
        if self.lr is not None and self.degradation is not None:
            raise ValueError("degradation must be None for low-resolution pictures that are given, got both")

    def __len__(self) -> int:
        return len(self.hr)

    def draw(self, index: int) -> Draw:
        """Draw which picture, which part of it and which way round a sample is.

        The picture is drawn first, then a place on the grid of low-resolution pixels, then coins for the augmentation.

        Args:
            index: The place in the sequence that the seed names; 0 to 2**64 - 1.

        Raises:
            ValueError: The drawn picture is smaller than the patch.
        """
        # Raw numbers of a counter-based generator are the same in every version of NumPy; its `integers` may change.
        drawn = np.random.Philox(key=np.array([self.seed, index], dtype=np.uint64)).random_raw(4)
        which, row, column, coins = (int(number) for number in drawn)
        number = which % len(self.sizes)
        height, width = self.sizes[number]
        rows, columns = (side // self.scale - self.patch + 1 for side in (height, width))
        if rows < 1 or columns < 1:
            part = f"{self.patch} x {self.patch} at scale {self.scale}"
            raise ValueError(f"a picture of {height} x {width} pixels has no patch of {part}")
        return Draw(number, row % rows, column % columns, coins % NUM_WAYS)

    def sample(self, index: int) -> tuple[Tensor, Tensor]:
        """Make one pair of patches, see `draw`.

        The pair is turned after the downsampling, as published, and after all degradation.

        Args:
            index: The place in the sequence that the seed names; 0 to 2**64 - 1.

        Returns:
            lr (C, patch, patch) and hr (C, scale * patch, scale * patch), uint8, C = ``channels``; an lr that is made
            here and not degraded is, byte for byte, that part of the whole picture's `downsample`.

        Raises:
            ValueError: The drawn picture is smaller than the patch.
            DataError: The drawn picture is decoded now, and damaged.
            ImageReadError: The same, where it is a file.
        """
        scale, patch = self.scale, self.patch
        number, top, left, coins = self.draw(index)
        hr_image = self.hr[number]
        hr = with_channels(_crop(hr_image, scale * top, scale * left, scale * patch), self.channels)
        if self.lr is not None:
            lr = with_channels(_crop(self.lr[number], top, left, patch), self.channels)
        elif self.degradation is not None:
            make = partial(degrade, settings=self.degradation, scale=scale, seed=self.seed, index=index)
            lr = _made(hr_image, make, top, left, patch, scale=scale, margin=REACH, grid=BLOCK, channels=self.channels)
        else:
            lr, hr = crop_pair(hr_image, top=top, left=left, scale=scale, patch=patch, channels=self.channels)
        return vary(lr, coins, self.augmentation), vary(hr, coins, self.augmentation)


def as_gray(levels: Tensor) -> Tensor:
    """Convert RGB to gray: luma by the weights of ITU-R BT.601 over the full range, rounded to whole levels.

    So do MATLAB's ``rgb2gray``, OpenCV and Pillow, with which gray pictures of data sets are made. Black stays 0 and
    white 255, as in a gray file, unlike the luma that PSNR is measured on (`finescale.metrics`), from 16 to 235.

    Args:
        levels: RGB (3, H, W), uint8.

    Returns:
        (1, H, W), uint8; of equal channels, one of them.
    """
    red, green, blue = levels.to(torch.int32)
    luma: Tensor = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return luma.to(torch.uint8)[None]


def crop_pair(hr: Tensor, *, top: int, left: int, scale: int, patch: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Cut a part of an HR image and the same part of its low-resolution image, of which no more than needed is made.

    Args:
        hr: HR image (3, H, W), uint8.
        top: First row of the part, in low-resolution pixels.
        left: First column of the part, in low-resolution pixels.
        scale: How many times smaller the low-resolution part is.
        patch: Height and width of the low-resolution part.
        channels: 3 for RGB, 1 for gray, see `as_gray`.

    Returns:
        lr (C, patch, patch) and hr (C, scale * patch, scale * patch), uint8, C = ``channels``.
    """
    make, margin = partial(downsample, scale=scale), -(-tap_margin(scale) // scale)
    lr = _made(hr, make, top, left, patch, scale=scale, margin=margin, channels=channels)
    return lr, with_channels(_crop(hr, scale * top, scale * left, scale * patch), channels)


def _made(
    hr: Tensor,
    make: Callable[[Tensor], Tensor],
    top: int,
    left: int,
    patch: int,
    *,
    scale: int,
    margin: int,
    channels: int,
    grid: int = 1,
) -> Tensor:
    """Part of what ``make`` makes of an HR image, made of that part and its surroundings.

    As many lr pixels as ``margin`` come along on every side; where the picture ends earlier, the whole one is mirrored
    too. What comes along begins at a multiple of ``grid``, counted from the picture's corner.
    """
    height, width = hr.shape[-2] // scale, hr.shape[-1] // scale
    above, before = (max(start - margin, 0) // grid * grid for start in (top, left))
    below, after = min(top + patch + margin, height), min(left + patch + margin, width)
    surroundings = hr[:, scale * above : scale * below, scale * before : scale * after]
    return _crop(make(with_channels(surroundings, channels)), top - above, left - before, patch)


def with_channels(image: Tensor, channels: int) -> Tensor:
    """Return an image (3, H, W), uint8, with 3 channels, or with 1 by `as_gray`."""
    return as_gray(image) if channels == 1 else image


def _crop(image: Tensor, top: int, left: int, side: int) -> Tensor:
    return image[:, top : top + side, left : left + side]


def vary(image: Tensor, coins: int, augmentation: Augmentation) -> Tensor:
    """Turn and mirror an image (C, H, W), in the way that the bits of ``coins`` choose, 0 to `NUM_WAYS` - 1."""
    if augmentation == "none":
        return image
    if augmentation == "flip-and-turn":
        image = image.flip(-1) if coins & 1 else image
        return image.rot90(1, (-2, -1)) if coins & 2 else image
    if coins & 1 and augmentation != "flip":
        image = image.flip(-2)
    if coins & 2 and augmentation != "upside-down-and-transpose":
        image = image.flip(-1)
    return image.transpose(-2, -1) if coins & 4 and augmentation != "flip" else image
