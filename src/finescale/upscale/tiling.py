"""Tile planner for images larger than memory: where an image is cut, and the weights that merge its upscaled tiles.

Each axis is cut on its own into spans; a tile is one row span times one column span. Where two neighbours meet, one
fades out while the other fades in: span i has the weight R(i) - R(i + 1), where the ramp R(i) rises from 0 to 1 between
span i - 1 and span i, R(0) is 1 and R(n) is 0. These weights sum to one by construction, so no division is needed.
A ramp of zero length is a hard seam; the papers' rules that paste without blending are plans with such seams. One
published rule averages instead: all spans that hold a pixel have the same weight there.

The plans are integer arithmetic: they need no image, network or device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from finescale.errors import ImageError
from finescale.layers.windows import mirrored
from finescale.settings import Settings

DEFAULT_OVERLAP = 64  # half as much makes the error at HiT-SRF's seams (random weights) 4.6 times as large
MOST_FOR_EQUAL = 1.1  # times the pixels of uneven tiles that equal ones may have along an axis
CHOP_LENGTH = 200  # the published rule cuts an axis into length // 200 + 1 parts
CHOP_MARGIN = 16  # lr pixels of context on each inner side of a part


Rule = Literal["blend", "chop", "pad", "average"]
"""How tiles are cut and merged; `Tiling.rule` describes each."""


class Tiling(Settings):
    """Settings of the tile planner; sizes in lr pixels."""

    tile: Literal["auto"] | int = "auto"
    """Largest side of a tile: "auto" chooses it by the free memory, N is at most N pixels, 0 the whole image.

    Tiles of "auto" and N that do not fit on the device are halved; with 0 that is an error."""

    overlap: int | None = Field(default=None, ge=0)
    """Pixels that neighbours share, at most half a tile; None is 64, or a quarter of the tile where that is less.

    For the rule "pad" this is the published `tile_pad`, the context on each side of a tile; for "average" it is
    `tile_overlap`, which may be anything smaller than the tile."""

    rule: Rule = "blend"
    """Even tiles that fade into each other ("blend"), or a published rule.

    "chop" is `use_chop` of HiT-SR and DAT, which fixes tile and overlap. The other two need both: tests of HAT and DRCT
    paste tiles that are computed with context ("pad"), DRCT's script averages tiles where they overlap ("average")."""

    max_memory: int | None = Field(default=None, gt=0)
    """Bytes that a tile may take on the device, besides the weights; None is half of what is free."""

    @model_validator(mode="after")
    def _check(self) -> Tiling:
        if isinstance(self.tile, int) and self.tile < 0:
            raise ValueError(f"tile must be 'auto', 0 (the whole image) or a number of pixels, got {self.tile}")
        if self.rule == "chop":
            if self.tile != "auto" or self.overlap is not None:
                raise ValueError("rule 'chop' fixes tile and overlap; leave both at their defaults")
        elif self.rule == "blend":
            if isinstance(self.tile, int) and self.tile and self.overlap is not None and 2 * self.overlap > self.tile:
                raise ValueError(f"overlap must be at most half of tile={self.tile}, got {self.overlap}")
        else:
            tile, overlap = self.stated
            if self.rule == "average" and overlap >= tile:
                raise ValueError(f"overlap must be smaller than tile={tile} for rule 'average', got {overlap}")
        return self

    @property
    def stated(self) -> tuple[int, int]:
        """Tile and overlap in pixels, which the rules "pad" and "average" require.

        Raises:
            ValueError: One of them is not given in pixels.
        """
        if self.tile == "auto" or not self.tile or self.overlap is None:
            raise ValueError(
                f"rule {self.rule!r} needs tile and overlap in pixels, "
                f"got tile={self.tile!r} and overlap={self.overlap}"
            )
        return self.tile, self.overlap

    def check_windows(self, side: int) -> None:
        """Check that a published rule cuts an image into whole windows.

        Args:
            side: Lr pixels after which the network's windows repeat.

        Raises:
            ValueError: A size of the rule "pad" or "average" is no multiple of ``side``.
        """
        whole = {"pad": ("tile", "overlap"), "average": ("tile",)}
        for name in whole.get(self.rule, ()):
            if getattr(self, name) % side:
                raise ValueError(
                    f"{name} must be a multiple of {side}, the network's windows, for rule {self.rule!r}, "
                    f"got {getattr(self, name)}; use such a number, or rule 'blend'"
                )

    def overlap_of(self, tile: int) -> int:
        """Return the number of pixels that neighbouring tiles of this size share."""
        return min(DEFAULT_OVERLAP, tile // 4) if self.overlap is None else min(self.overlap, tile // 2)


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in lr pixels: the pixels that the network sees, and where their weight rises and falls.

    Attributes:
        start: First pixel that the network sees.
        stop: One after the last.
        rise: From where to where its weight rises from 0 to 1; a hard edge where both are equal.
        fall: The same for its fall; it is the ``rise`` of the next span.
    """

    start: int
    stop: int
    rise: tuple[int, int]
    fall: tuple[int, int]

    @property
    def kept(self) -> tuple[int, int]:
        """First pixel of nonzero weight, and one after the last."""
        return self.rise[0], self.fall[1]

    def weights(self, scale: int) -> Tensor:
        """Return the weight of each upscaled pixel of `kept`, float32, of shape (kept pixels * scale)."""
        first, last = self.kept
        position = torch.arange(first * scale, last * scale)
        return (_ramp(position, self.rise, scale) - _ramp(position, self.fall, scale)).float()


@dataclass(frozen=True)
class EqualSpan:
    """One tile along one axis, in lr pixels, whose weight at a pixel equals that of every other tile there.

    Attributes:
        start: First pixel that the network sees.
        stop: One after the last.
        counts: Number of spans that hold each of its pixels, itself included.
    """

    start: int
    stop: int
    counts: tuple[int, ...]

    @property
    def kept(self) -> tuple[int, int]:
        """First pixel of nonzero weight, and one after the last: all of them."""
        return self.start, self.stop

    def weights(self, scale: int) -> Tensor:
        """Return the weight of each upscaled pixel, float32, of shape (pixels * scale)."""
        return torch.tensor(self.counts).reciprocal().repeat_interleave(scale)


@dataclass(frozen=True)
class Tile:
    """One tile of an image.

    Attributes:
        rows: Its span of the height.
        columns: Its span of the width.
        repeat_edge: Whether mirroring beyond the image repeats the edge's pixels.
    """

    rows: Span | EqualSpan
    columns: Span | EqualSpan
    repeat_edge: bool = True

    @property
    def top(self) -> int:
        """First row."""
        return self.rows.start

    @property
    def left(self) -> int:
        """First column."""
        return self.columns.start

    @property
    def height(self) -> int:
        """Rows that the network sees."""
        return self.rows.stop - self.rows.start

    @property
    def width(self) -> int:
        """Columns that the network sees."""
        return self.columns.stop - self.columns.start

    def cut(self, image: Tensor) -> Tensor:
        """Cut this tile out of an image (C, H, W), which is mirrored beyond its edges."""
        height = image.shape[-2]
        if self.rows.stop <= height:
            return self.cut_columns(image[:, self.rows.start : self.rows.stop])
        return self.cut_columns(image[:, self.mirrored_rows(height)])

    def cut_columns(self, rows: Tensor) -> Tensor:
        """Cut this tile out of its rows (C, height, W), which are mirrored beyond their ends."""
        width = rows.shape[-1]
        if self.columns.stop <= width:
            return rows[:, :, self.columns.start : self.columns.stop]
        return rows[:, :, mirrored(width, self.columns.stop, repeat_edge=self.repeat_edge)[self.columns.start :]]

    def mirrored_rows(self, height: int) -> Tensor:
        """Return the number of each of its rows in an image of a given height, which is mirrored beyond its end."""
        return mirrored(height, self.rows.stop, repeat_edge=self.repeat_edge)[self.rows.start :]

    def add_to(self, canvas: Tensor, sr: Tensor, scale: int, *, skipped: int = 0) -> None:
        """Add this tile's weighted upscaled pixels to the canvas, without those beyond the canvas.

        Args:
            canvas: The result so far (C, H * scale, W * scale), or some of its rows, changed in place.
            sr: The upscaled tile (C, height * scale, width * scale).
            scale: The network's scale.
            skipped: Rows of the result above those of the canvas; none of the tile's is among them.
        """
        (top, bottom), (left, right) = self.rows.kept, self.columns.kept
        area = canvas[:, top * scale - skipped : bottom * scale - skipped, left * scale : right * scale]
        height, width = area.shape[-2:]
        rows, columns = self.rows.weights(scale)[:height], self.columns.weights(scale)[:width]
        skip_rows, skip_columns = (top - self.top) * scale, (left - self.left) * scale
        sr = sr[:, skip_rows : skip_rows + height, skip_columns : skip_columns + width]
        area += sr * rows[:, None] * columns


def plan_tiles(size: tuple[int, int], tile: int, overlap: int, *, period: int = 1) -> list[Tile]:
    """Cut an image evenly into the fewest tiles of at most a given side.

    The result of a network that works in windows is much closer to that of the whole image where tiles start at a
    multiple of the windows' period, since the windows are then the same (55 dB instead of 32 dB for HiT-SRF with random
    weights).

    Args:
        size: Height and width of the image.
        tile: Largest side of a tile.
        overlap: Least number of pixels that neighbours share.
        period: Tiles start at multiples of this many pixels, unless ``tile - overlap`` is less.

    Returns:
        Tiles row by row, of one size, or of two along an axis where ``period`` leaves no other way; together they cover
        the image and nothing else.

    Raises:
        ValueError: A size below 1, or ``overlap`` is negative or not smaller than ``tile``.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be at least 0 and smaller than tile={tile}, got {overlap}")
    return _plan(size, lambda length: _cut_evenly(length, tile, overlap, period))


def plan_chop(size: tuple[int, int]) -> list[Tile]:
    """Cut an image by the published `use_chop` of HiT-SR and DAT: hard seams, 16 pixels of context.

    The last tiles may extend a few pixels beyond the image; `Tile.cut` mirrors them as the papers do.

    Raises:
        ValueError: A size below 1.
    """
    return _plan(size, _chop)


def plan_pad(size: tuple[int, int], tile: int, overlap: int, *, period: int = 1) -> list[Tile]:
    """Cut an image as the published tests of HAT and DRCT do: hard seams, and context around each tile.

    The image is first extended to whole windows by mirroring that does not repeat the edge. Context ends where the
    extended image does, so tiles have up to nine sizes.

    Args:
        size: Height and width of the image.
        tile: Side of a tile without its context; published as `tile_size`.
        overlap: Pixels of context on each side; published as `tile_pad`.
        period: Side of the network's windows, of which ``tile`` and ``overlap`` are multiples.

    Raises:
        ValueError: A size below 1.
    """

    def cut(length: int) -> list[Span]:
        whole = math.ceil(length / period) * period
        edges = [*range(0, whole, tile), whole]
        return [
            Span(max(first - overlap, 0), min(last + overlap, whole), (first, first), (last, last))
            for first, last in pairwise(edges)
        ]

    return [replace(tile, repeat_edge=False) for tile in _plan(size, cut)]


def plan_average(size: tuple[int, int], tile: int, overlap: int, *, period: int = 1) -> list[Tile]:
    """Cut an image as the published script of DRCT does: tiles of one size, averaged where they overlap.

    The image is first extended to whole windows by mirroring that repeats the edge, and by one more window on a side
    that already consists of whole windows. Tiles are no longer than the shorter side of the extended image.

    Args:
        size: Height and width of the image.
        tile: Side of a tile.
        overlap: Pixels that neighbours share; the last two of an axis often share more. Published as `tile_overlap`.
        period: Side of the network's windows, of which ``tile`` is a multiple.

    Raises:
        ValueError: A size below 1.
        ImageError: The image is so small that its tiles do not exceed ``overlap``.
    """
    side = min(tile, *((length // period + 1) * period for length in size))

    def cut(length: int) -> list[EqualSpan]:
        whole = (length // period + 1) * period
        if side <= overlap and side < whole:
            raise ImageError(
                f"an image of {size[0]} x {size[1]} pixels makes tiles of {side} pixels under rule 'average', "
                f"no more than overlap={overlap}; use a smaller overlap, or rule 'blend'"
            )
        starts = [*range(0, whole - side, max(side - overlap, 1)), whole - side]
        counts = [0] * whole
        for start in starts:
            for pixel in range(start, start + side):
                counts[pixel] += 1
        return [EqualSpan(start, start + side, tuple(counts[start : start + side])) for start in starts]

    return _plan(size, cut)


def plan_whole(size: tuple[int, int]) -> list[Tile]:
    """Plan the image as a single tile."""
    return plan_tiles(size, max(size), 0)


def _plan(size: tuple[int, int], cut: Callable[[int], Sequence[Span | EqualSpan]]) -> list[Tile]:
    """All tiles of an image, row by row, whose axes are cut by one rule."""
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be at least 1 x 1, got {height} x {width}")
    columns = cut(width)
    return [Tile(row, column) for row in cut(height) for column in columns]


def _cut_evenly(length: int, tile: int, overlap: int, period: int) -> list[Span]:
    """The fewest spans of at most ``tile`` pixels, equal where that costs at most a tenth more pixels.

    A period of the starts may leave no equal spans, or only many more of them; the last span then has a length of its
    own. Neighbours fade into each other over the middle half of their overlap. The outer quarters are not used, since a
    tile lacks context there most.
    """
    step = (tile - overlap) // period * period
    if step == 0:  # tiles are too small to keep the period
        return _cut_evenly(length, tile, overlap, 1)
    count = max(1, math.ceil((length - overlap) / step))
    if count == 1:
        return [Span(0, length, (0, 0), (length, length))]
    ends = _uneven_ends(length, tile, overlap, period, count)
    most = MOST_FOR_EQUAL * sum(stop - start for start, stop in ends)
    for more in (count, count + 1):
        equal = _equal_ends(length, tile, overlap, period, more)
        if equal is not None and sum(stop - start for start, stop in equal) <= most:
            ends = equal
            break
    fade = (overlap + 1) // 2
    seams = [start + (stop - start - fade) // 2 for (_, stop), (start, _) in pairwise(ends)]
    fades = [(0, 0), *((seam, seam + fade) for seam in seams), (length, length)]
    return [Span(*end, *span) for end, span in zip(ends, pairwise(fades), strict=True)]


def _equal_ends(length: int, tile: int, overlap: int, period: int, count: int) -> list[tuple[int, int]] | None:
    """Start and stop of so many spans of one length, the least possible; None where it would exceed ``tile``."""
    least = math.ceil((length + (count - 1) * overlap) / count)
    least += (length - least) % period  # the last span starts at a multiple of the period
    for side in range(least, min(tile, length) + 1, period):
        periods = (length - side) // period
        if math.ceil(periods / (count - 1)) * period + overlap <= side:
            starts = [index * periods // (count - 1) * period for index in range(count)]
            return [(start, start + side) for start in starts]
    return None


def _uneven_ends(length: int, tile: int, overlap: int, period: int, count: int) -> list[tuple[int, int]]:
    """Start and stop of so many spans, as even as the period of their starts allows."""
    side = math.ceil((length + (count - 1) * overlap) / count)
    even = [index * (length - side) // (count - 1) for index in range(count)]
    starts = [start // period * period for start in even]
    if length - starts[-1] > tile:
        starts = [math.ceil(start / period) * period for start in even]
    side = max(side, overlap + max(after - before for before, after in pairwise(starts)))
    stops = [*(min(length, start + side) for start in starts[:-1]), length]
    return list(zip(starts, stops, strict=True))


def _chop(length: int) -> list[Span]:
    """The published rule `use_chop` for one axis; its last span ends up to ``count - 1`` pixels beyond the axis."""
    count = length // CHOP_LENGTH + 1
    part = math.ceil(length / count)
    end = count * part
    seams = [(index * part, index * part) for index in range(count + 1)]
    return [
        Span(max(0, rise[0] - CHOP_MARGIN), min(end, fall[0] + CHOP_MARGIN), rise, fall)
        for rise, fall in pairwise(seams)
    ]


def _ramp(position: Tensor, interval: tuple[int, int], scale: int) -> Tensor:
    """A raised cosine from 0 to 1 over an interval of lr pixels, at the centres of upscaled pixels; float64."""
    first, last = interval[0] * scale, interval[1] * scale
    if first == last:
        return (position >= first).double()
    progress = ((position - first).double() + 0.5) / (last - first)
    return 0.5 - 0.5 * torch.cos(math.pi * progress.clamp(0, 1))
