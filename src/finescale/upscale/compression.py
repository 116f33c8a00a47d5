"""Detection of visible JPEG compression, by the tables of the file or by the blocks in its pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finescale.images import Image

QUALITIES = {2: 80, 3: 85, 4: 90}
"""Up to this quality, by the scale, a JPEG counts as visibly compressed: the bundled network for photos is the better
one, see docs/models.md. The less a picture is enlarged, the less of its blocks is seen."""

_OTHER_QUALITY = 90  # at scales without a bundled network

_BLOCK = 8
_SIDE = 1024  # pixels; larger images are judged by their middle
_MIN_BLOCKS = 4  # on each side
_EDGE = 20  # levels; larger jumps are edges of the image's content
# Thresholds between Kodak's 24 images and their JPEG copies, full and reduced; rates: docs/upscale-measurements.md.
_MIN_JUMP = 1.0  # levels
_MIN_CERTAINTY = 8.0  # standard errors


@dataclass(frozen=True)
class Compression:
    """Visible JPEG compression of an image."""

    quality: int | None
    """Approximate quality of its JPEG file; None where only the pixels show the compression."""

    @property
    def look(self) -> str:
        """What the image looks, after "looks"."""
        return f"compressed ({self})"

    def __str__(self) -> str:
        return "blocks of a JPEG" if self.quality is None else f"JPEG quality about {self.quality}"


def middle(size: Sequence[int]) -> tuple[slice, ...]:
    """Return the rows and columns by which an image (height, width) is judged: all, or the middle of a large one."""
    starts = (max(0, (side - _SIDE) // 2) for side in size)
    return tuple(slice(start, start + _SIDE) for start in starts)


def compression_of(image: Image, *, scale: int) -> Compression | None:
    """Return the visible JPEG compression of an image that is to be enlarged by a scale, or None.

    Another file format, or a JPEG of high quality, may have been made from a worse JPEG. Its pixels then show the
    blocks, unless it was resized in between.
    """
    if image.jpeg_quality is not None and image.jpeg_quality <= QUALITIES.get(scale, _OTHER_QUALITY):
        return Compression(image.jpeg_quality)
    return Compression(None) if _shows_blocks(image.pixels) else None


def _shows_blocks(pixels: Tensor) -> bool:
    """Whether neighbouring pixels of (C, H, W) differ more at every eighth place than elsewhere, in both directions."""
    rows, columns = middle(pixels.shape[1:])
    brightness = 255 * pixels[:, rows, columns].mean(0)
    if min(brightness.shape) < _MIN_BLOCKS * _BLOCK + 3:
        return False
    (jump, certainty), (other_jump, other_certainty) = map(_jump, (brightness, brightness.T))
    return jump + other_jump >= _MIN_JUMP and certainty + other_certainty >= _MIN_CERTAINTY


def _jump(brightness: Tensor) -> tuple[float, float]:
    """How much more columns (H, W) differ at block borders than within blocks, in levels and in standard errors.

    Borders are taken to be where columns differ most, since an image may have been cropped; the bias of that choice for
    images without blocks is below the thresholds.
    """
    steps = (brightness[:, 1:] - brightness[:, :-1]).abs()
    excess = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2
    excess = torch.where(steps.unfold(1, 3, 1).amax(2) < _EDGE, excess, 0.0).mean(0)
    excess = excess[: len(excess) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)  # (blocks, places in a block)
    places = excess.mean(0)
    error = float((excess.std(0) / len(excess) ** 0.5).mean())
    jump = float(places.max() - places.median())
    return jump, jump / max(error, 1e-3)
