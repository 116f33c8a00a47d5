"""Where a large image is cut, and with which weights its upscaled tiles are put together again.

Each axis is cut on its own into spans; a tile is one row span times one column span. Where two neighbours meet, the one
fades out while the other fades in: span i has the weight R(i) - R(i + 1), where the ramp R(i) rises from 0 to 1 between
span i - 1 and span i, R(0) is 1 and R(n) is 0. These weights sum to one by construction, so nothing is ever divided.
A ramp of no length is a hard seam; the papers' rules that paste without blending are plans with such seams. One
published rule averages instead: all spans that hold a pixel have the same share in it.

Everything here is arithmetic on integers: no image, no network, no device.
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

DEFAULT_OVERLAP = 64  # with half as much the error of HiT-SRF's seams, random weights, is 4.6 times as large
CHOP_LENGTH = 200  # the published rule cuts an axis into length // 200 + 1 parts
CHOP_MARGIN = 16  # lr pixels of context on each inner side of a part


Rule = Literal["blend", "chop", "pad", "average"]
"""How tiles are cut and put together, see `Tiling.rule`."""


class Tiling(Settings):
    """How an image is cut into tiles; sizes in lr pixels."""

    tile: Literal["auto"] | int = "auto"
    """Largest side of a tile: "auto" plans it from the memory, N takes at most N pixels, 0 the whole image.

    Where tiles do not fit on the device, those of "auto" and N are halved; the whole image is never cut unasked."""

    overlap: int | None = Field(default=None, ge=0)
    """Pixels that neighbours share, at most half a tile; None takes 64, or a quarter of the tile where that is less.

    For the rule "pad" it is the published `tile_pad`, what a tile sees beyond its own pixels on each side; for
    "average" it is `tile_overlap`, which may be anything below the tile."""

    rule: Rule = "blend"
    """Even tiles that fade into each other ("blend"), or a published rule.

    "chop" is `use_chop` of HiT-SR and DAT, which fixes tile and overlap. DRCT has two rules, which need both: its tests
    paste tiles that saw more than they keep ("pad"), its script averages tiles where they overlap ("average")."""

    max_memory: int | None = Field(default=None, gt=0)
    """Bytes that a tile may take on the device, besides the weights; None takes half of what is free."""

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
        """Tile and overlap, both stated in pixels, as the rules "pad" and "average" need them.

        Raises:
            ValueError: One of them is not.
        """
        if self.tile == "auto" or not self.tile or self.overlap is None:
            raise ValueError(
                f"rule {self.rule!r} needs tile and overlap in pixels, "
                f"got tile={self.tile!r} and overlap={self.overlap}"
            )
        return self.tile, self.overlap

    def check_windows(self, side: int) -> None:
        """Refuse sizes that a published rule does not cut into whole windows.

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
                    f"got {getattr(self, name)}; take such a number, or rule 'blend'"
                )

    def overlap_of(self, tile: int) -> int:
        """Pixels that neighbouring tiles of this size share."""
        return min(DEFAULT_OVERLAP, tile // 4) if self.overlap is None else min(self.overlap, tile // 2)


@dataclass(frozen=True)
class Span:
    """One tile along one axis, in lr pixels: what the network sees, and where its weight rises and falls.

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
        """The pixels that have a weight at all, from and to."""
        return self.rise[0], self.fall[1]

    def weights(self, scale: int) -> Tensor:
        """Weight of each upscaled pixel of `kept`, float32, of shape (kept pixels * scale)."""
        first, last = self.kept
        position = torch.arange(first * scale, last * scale)
        return (_ramp(position, self.rise, scale) - _ramp(position, self.fall, scale)).float()


@dataclass(frozen=True)
class EqualSpan:
    """One tile along one axis, in lr pixels, whose part in a pixel is that of every other tile that holds it.

    Attributes:
        start: First pixel that the network sees.
        stop: One after the last.
        counts: Spans that hold each of its pixels, itself among them.
    """

    start: int
    stop: int
    counts: tuple[int, ...]

    @property
    def kept(self) -> tuple[int, int]:
        """The pixels that have a weight: all, from and to."""
        return self.start, self.stop

    def weights(self, scale: int) -> Tensor:
        """Weight of each upscaled pixel, float32, of shape (pixels * scale)."""
        return torch.tensor(self.counts).reciprocal().repeat_interleave(scale)


@dataclass(frozen=True)
class Tile:
    """One tile of an image.

    Attributes:
        rows: What it takes of the height.
        columns: What it takes of the width.
        repeat_edge: Whether the mirror beyond the image repeats the edge's pixels.
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
        """This tile of an image (C, H, W); what lies beyond the image is its mirror."""
        height, width = image.shape[-2:]
        if self.rows.stop <= height and self.columns.stop <= width:
            return image[:, self.rows.start : self.rows.stop, self.columns.start : self.columns.stop]
        rows, columns = (
            mirrored(length, span.stop, repeat_edge=self.repeat_edge)[span.start :]
            for length, span in ((height, self.rows), (width, self.columns))
        )
        return image[:, rows][:, :, columns]

    def add_to(self, canvas: Tensor, sr: Tensor, scale: int) -> None:
        """Add this tile's upscaled pixels, weighted, to the canvas; what lies beyond the canvas is dropped.

        Args:
            canvas: The result so far (C, H * scale, W * scale), changed in place.
            sr: The upscaled tile (C, height * scale, width * scale).
            scale: Of the network.
        """
        (top, bottom), (left, right) = self.rows.kept, self.columns.kept
        area = canvas[:, top * scale : bottom * scale, left * scale : right * scale]
        height, width = area.shape[-2:]
        rows, columns = self.rows.weights(scale)[:height], self.columns.weights(scale)[:width]
        skip_rows, skip_columns = (top - self.top) * scale, (left - self.left) * scale
        sr = sr[:, skip_rows : skip_rows + height, skip_columns : skip_columns + width]
        area += sr * rows[:, None] * columns


def plan_tiles(size: tuple[int, int], tile: int, overlap: int, *, period: int = 1) -> list[Tile]:
    """Cut an image evenly into the fewest tiles of at most a given side.

    A network that works in windows answers much alike for a tile and for the whole image where the tile starts at a
    multiple of the period of its windows: they are then the same windows (55 dB in place of 32 for HiT-SRF
    with random weights).

    Args:
        size: Height and width of the image.
        tile: Largest side of a tile.
        overlap: Pixels that neighbours share, at least.
        period: Tiles start at multiples of this many pixels, unless ``tile - overlap`` is less.

    Returns:
        Tiles row by row, of one size where ``period`` is 1; together they cover the image and nothing else.

    Raises:
        ValueError: A size below 1, or ``overlap`` is negative or not smaller than ``tile``.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap must be at least 0 and smaller than tile={tile}, got {overlap}")
    return _plan(size, lambda length: _cut_evenly(length, tile, overlap, period))


def plan_chop(size: tuple[int, int]) -> list[Tile]:
    """Cut an image as the published `use_chop` of HiT-SR and DAT does: hard seams, a margin of 16 pixels as context.

    The last tiles may reach a few pixels beyond the image; `Tile.cut` mirrors them as the papers do.

    Raises:
        ValueError: A size below 1.
    """
    return _plan(size, _chop)


def plan_pad(size: tuple[int, int], tile: int, overlap: int, *, period: int = 1) -> list[Tile]:
    """Cut an image as the published tests of DRCT do: hard seams, and context around each tile.

    The image is first extended to whole windows by mirroring, the edge not repeated. Context ends where that image
    does, so tiles are of up to nine sizes.

    Args:
        size: Height and width of the image.
        tile: Side of what a tile keeps; published as `tile_size`.
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

    The image is first extended by mirroring, the edge repeated: to whole windows, and by one more where it has them
    already. Tiles are no longer than that image's shorter side.

    Args:
        size: Height and width of the image.
        tile: Side of a tile.
        overlap: Pixels that neighbours share, the last two of an axis often more; published as `tile_overlap`.
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
                f"no more than overlap={overlap}; take a smaller overlap, or rule 'blend'"
            )
        starts = [*range(0, whole - side, max(side - overlap, 1)), whole - side]
        counts = [0] * whole
        for start in starts:
            for pixel in range(start, start + side):
                counts[pixel] += 1
        return [EqualSpan(start, start + side, tuple(counts[start : start + side])) for start in starts]

    return _plan(size, cut)


def plan_whole(size: tuple[int, int]) -> list[Tile]:
    """The image as a single tile."""
    return plan_tiles(size, max(size), 0)


def _plan(size: tuple[int, int], cut: Callable[[int], Sequence[Span | EqualSpan]]) -> list[Tile]:
    """All tiles of an image, row by row, whose axes are cut by one rule."""
    height, width = size
    if height < 1 or width < 1:
        raise ValueError(f"size must be at least 1 x 1, got {height} x {width}")
    columns = cut(width)
    return [Tile(row, column) for row in cut(height) for column in columns]


def _cut_evenly(length: int, tile: int, overlap: int, period: int) -> list[Span]:
    """The fewest spans of at most ``tile`` pixels, as even as the period of their starts allows.

    Neighbours fade into each other over half of the overlap, in its middle. What is outside is not used: there a tile
    lacks context most.
    """
    step = (tile - overlap) // period * period
    if step == 0:  # tiles too small to keep the period
        return _cut_evenly(length, tile, overlap, 1)
    count = max(1, math.ceil((length - overlap) / step))
    if count == 1:
        return [Span(0, length, (0, 0), (length, length))]
    side = math.ceil((length + (count - 1) * overlap) / count)
    even = [index * (length - side) // (count - 1) for index in range(count)]
    starts = [start // period * period for start in even]
    if length - starts[-1] > tile:
        starts = [math.ceil(start / period) * period for start in even]
    side = max(side, overlap + max(after - before for before, after in pairwise(starts)))
    stops = [*(min(length, start + side) for start in starts[:-1]), length]
    fade = (overlap + 1) // 2
    seams = [start + (stop - start - fade) // 2 for stop, start in zip(stops, starts[1:], strict=False)]
    fades = [(0, 0), *((seam, seam + fade) for seam in seams), (length, length)]
    return [Span(*span) for span in zip(starts, stops, fades, fades[1:], strict=False)]


def _chop(length: int) -> list[Span]:
    """The published rule for one axis; its last span ends up to ``count - 1`` pixels beyond the axis."""
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
