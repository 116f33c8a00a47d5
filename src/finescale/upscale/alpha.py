"""Replacement of the hidden colours under transparent pixels, which a network would carry into visible ones.

Source: the push-pull pyramid of Gortler et al., "The Lumigraph" (SIGGRAPH 1996).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MAX_IN_MEMORY = 2**20
"""Pixels of the largest level of the pyramid that stays in memory, where the image is on disk."""


def extend_color(pixels: Tensor, alpha: Tensor) -> Tensor:
    """Extend the visible colours under the fully transparent pixels, so that no hidden colour bleeds into an edge.

    Args:
        pixels: Colours (C, H, W).
        alpha: Opacity (1, H, W); colours are kept wherever it is above 0.

    Returns:
        Colours (C, H, W): each hidden one is replaced by a mean of visible ones, over a smaller area where they are
        nearer. Where nothing is visible at all, the colours are unchanged.
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    return _fill(pixels, visible)


class ColorExtension:
    """The extension of `extend_color` for an image of which a few rows are in memory: the same colours, to the bit.

    The levels of the pyramid are stored on disk until they are small; together they take a third more than the image's
    colours as float32, of which the first level is not stored.

    Args:
        read: Returns colours (C, rows, W) and alpha (1, rows, W) from a first row to before a last one.
        size: Height and width of the image; some pixels are visible, some are not.
        folder: Where the levels are stored.
        block: Rows that are in memory at once, an even number.
    """

    def __init__(
        self,
        read: Callable[[int, int], tuple[Tensor, Tensor]],
        size: tuple[int, int],
        folder: Path,
        *,
        block: int = 64,
    ) -> None:
        self._read, self._size, self._block = read, size, block
        levels: list[_Level] = []
        fine: Callable[[int, int], tuple[Tensor, Tensor]] = self._visible
        while math.prod(size) > MAX_IN_MEMORY or not levels:
            level = _Level(folder / f"colors-{len(levels)}", (math.ceil(size[0] / 2), math.ceil(size[1] / 2)))
            for first, last in _blocks(size[0], block):
                level.write(first // 2, *_reduced(*fine(first, last)))
            levels.append(level)
            size, fine = level.size, level.read
            if level.is_known:
                break
        smallest = levels[-1]
        if not smallest.is_known:
            color, known = smallest.read(0, smallest.size[0])
            smallest.write(0, _fill(color, known), known)
        for level, coarse in zip(levels[-2::-1], levels[:0:-1], strict=True):
            for first, last in _blocks(level.size[0], block):
                color, known = level.read(first, last)
                level.write(first, _filled(color, known, coarse, level.size, (first, last)), known)
        self._coarse = levels[0]

    def rows(self, first: int, last: int) -> Tensor:
        """Return the extended colours (C, rows, W) from a first row to before a last one."""
        color, visible = self._visible(first, last)
        return color if visible.all() else _filled(color, visible, self._coarse, self._size, (first, last))

    def _visible(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        color, alpha = self._read(first, last)
        return color, alpha > 0


class _Level:
    """Colours of one level of the pyramid, and which of them are known, in two files."""

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        self.size = size
        self.is_known = True
        """Whether all colours written so far were known."""
        self._path, self._num_channels = path, 0

    def write(self, first: int, color: Tensor, known: Tensor) -> None:
        """Write rows, (C, rows, W) and (1, rows, W), from a first one on."""
        self._num_channels = len(color)
        self.is_known &= bool(known.all())
        for kind, values in (("color", color.permute(1, 0, 2)), ("known", known.permute(1, 0, 2))):
            rows = np.ascontiguousarray(values.numpy())
            path = self._path.with_suffix(f".{kind}")
            with path.open("r+b" if path.exists() else "xb") as file:
                file.seek(first * rows[0].nbytes)
                file.write(rows.data)

    def read(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return rows, (C, rows, W) and (1, rows, W)."""
        width = self.size[1]
        color = self._values("color", np.float32, self._num_channels * width, first, last)
        known = self._values("known", np.bool_, width, first, last)
        return color.reshape(last - first, -1, width).permute(1, 0, 2).contiguous(), known[None]

    def _values(self, kind: str, dtype: type[np.generic], row_length: int, first: int, last: int) -> Tensor:
        offset = first * row_length * np.dtype(dtype).itemsize
        values = np.fromfile(self._path.with_suffix(f".{kind}"), dtype, (last - first) * row_length, offset=offset)
        return torch.from_numpy(values.reshape(last - first, row_length))


def _blocks(height: int, step: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + step, height)) for first in range(0, height, step))


def _fill(color: Tensor, known: Tensor) -> Tensor:
    """Fill the unknown pixels of (C, H, W) from the same image at half the size, filled by the same rule."""
    if known.all():
        return color
    mean, is_known = _reduced(color, known)
    size = (color.shape[1], color.shape[2])
    return torch.where(known, color, _enlarged(_fill(mean, is_known), 0, mean.shape[1], size, (0, size[0])))


def _reduced(color: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Return the image at half the size: means of known pixels, and which pixels have one."""
    weight = F.avg_pool2d(known.to(color.dtype), 2, ceil_mode=True)
    mean = F.avg_pool2d(color * known, 2, ceil_mode=True) / torch.where(weight > 0, weight, 1)
    return mean, weight > 0


def _filled(color: Tensor, known: Tensor, coarse: _Level, size: tuple[int, int], rows: tuple[int, int]) -> Tensor:
    """Fill the unknown pixels of some rows of an image from a level at half the size."""
    above, below, _ = _neighbours(torch.arange(*rows), coarse.size[0], size[0])
    first, last = int(above[0]), int(below[-1]) + 1
    smooth = _enlarged(coarse.read(first, last)[0], first, coarse.size[0], size, rows)
    return torch.where(known, color, smooth)


def _enlarged(coarse: Tensor, first: int, height: int, size: tuple[int, int], rows: tuple[int, int]) -> Tensor:
    """Return rows of an image that is enlarged bilinearly.

    Args:
        coarse: (C, h, w), rows of the small image from ``first`` on, as many as are needed.
        first: Number of its first row.
        height: Height of the small image.
        size: Height and width of the large one.
        rows: First row to return, and one after the last.
    """
    left, right, share = _neighbours(torch.arange(size[1]), coarse.shape[2], size[1])
    wide = torch.lerp(coarse[:, :, left], coarse[:, :, right], share.to(coarse.dtype))
    above, below, share = _neighbours(torch.arange(*rows), height, size[0])
    return torch.lerp(wide[:, above - first], wide[:, below - first], share.to(coarse.dtype)[:, None])


def _neighbours(place: Tensor, coarse: int, fine: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two samples of a coarse axis on either side of places of a fine one, and the share of the second."""
    position = ((place.double() + 0.5) * (coarse / fine) - 0.5).clamp(min=0)
    before = position.long().clamp(max=coarse - 1)
    return before, (before + 1).clamp(max=coarse - 1), position - before
