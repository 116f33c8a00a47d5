"""Upscaling band by band: one row of tiles at a time, of an image of which a few rows are in memory.

The plan of tiles is that of the whole image, and each pixel sums its tiles in the same order, so the result is the same
to the bit. What is in memory grows with the image's width only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from finescale.system.memory import is_out_of_memory
from finescale.upscale.alpha import ColorExtension
from finescale.upscale.tiling import Tile

if TYPE_CHECKING:
    from finescale.upscale.upscaler import OnTile, Upscaler

_SCANNED_ROWS = 64

ReadRows = Callable[[int, int], tuple[Tensor, Tensor | None]]
"""Returns colours (1 or 3, rows, W) and alpha (1, rows, W) or None, from a first row to before a last one."""


class RowSource:
    """Rows of an image as the network gets them: with colours extended under transparent pixels.

    Args:
        read: Rows as they are stored.
        size: Height and width of the image.
        num_colors: 1 (gray) or 3 (RGB).
        has_alpha: Whether ``read`` returns alpha; its rows are then read once here.
        folder: Where colours under transparent pixels are stored, if there are any.

    Attributes:
        uniform_alpha: The alpha of all pixels, where it is the same; the network does not see it then.
    """

    def __init__(
        self, read: ReadRows, size: tuple[int, int], *, num_colors: int, has_alpha: bool, folder: Path
    ) -> None:
        self._read = read
        self.size, self.num_colors, self.has_alpha = size, num_colors, has_alpha
        self.uniform_alpha: Tensor | None = None
        self._extension: ColorExtension | None = None
        if not has_alpha:
            return
        lowest, highest = torch.tensor(torch.inf), torch.tensor(-torch.inf)
        for first in range(0, size[0], _SCANNED_ROWS):
            _, alpha = self._both(first, min(first + _SCANNED_ROWS, size[0]))
            lowest, highest = torch.minimum(lowest, alpha.amin()), torch.maximum(highest, alpha.amax())
        if lowest == highest:
            self.uniform_alpha = lowest
        if lowest <= 0 < highest:
            self._extension = ColorExtension(self._both, size, folder)

    def rows(self, first: int, last: int) -> tuple[Tensor, Tensor | None]:
        """Return colours and alpha; None for an alpha that the network does not see."""
        color, alpha = self._read(first, last)
        if self._extension is not None:
            color = self._extension.rows(first, last)
        return color, None if self.uniform_alpha is not None else alpha

    def _both(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        color, alpha = self._read(first, last)
        assert alpha is not None
        return color, alpha


@dataclass(frozen=True, eq=False)
class Band:
    """Finished rows of a result, and what there is of the rows below."""

    tile: int
    """Side of the tiles, as `Upscaler.plan` takes it."""
    number: int
    """Rows of tiles that are done."""
    top: int
    """Number of its first row."""
    color: Tensor
    """(1 or 3, rows, W * scale) in [0, 1]."""
    alpha: Tensor | None
    """(1, rows, W * scale)."""
    rest: Tensor
    """(channels, rows, W * scale): sums over the tiles that are done, of the rows below that they reach."""
    num_redone: int
    """Tiles of this band that were recomputed in float32."""


def upscale_bands(
    upscaler: Upscaler,
    source: RowSource,
    on_band: Callable[[Band], None],
    *,
    tile: int | None = None,
    num_done: int = 0,
    rest: Tensor | None = None,
    on_tile: OnTile | None = None,
) -> None:
    """Upscale an image by one row of tiles after the other.

    Where tiles do not fit on the device, the whole image is redone with smaller ones, from its first band on.

    Args:
        upscaler: Computes the tiles.
        source: The image.
        on_band: Called for each band in its order; the band's tensors are reused afterwards.
        tile: `Band.tile` of an earlier call; None chooses it by the free memory.
        num_done: Rows of tiles that the earlier call has done.
        rest: `Band.rest` of the last one of them.
        on_tile: As in `Upscaler.__call__`.
    """
    tile = upscaler.first_tile(source.size) if tile is None else tile
    while True:
        plan = upscaler.plan(source.size, tile)
        try:
            _attempt(upscaler, source, plan, on_band, tile=tile, num_done=num_done, rest=rest, on_tile=on_tile)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            return
        # Outside the handler, where the failed tile's tensors are released.
        tile, num_done, rest = upscaler.smaller_tile(plan), 0, None


def _attempt(
    upscaler: Upscaler,
    source: RowSource,
    plan: Sequence[Tile],
    on_band: Callable[[Band], None],
    *,
    tile: int,
    num_done: int,
    rest: Tensor | None,
    on_tile: OnTile | None,
) -> None:
    scale, (height, width) = upscaler.scale, source.size
    rows_of_tiles = [list(tiles) for _, tiles in groupby(plan, key=lambda tile: tile.rows)]
    sees_alpha = source.has_alpha and source.uniform_alpha is None
    num_planes = source.num_colors + sees_alpha
    # A network for grayscale takes colours one by one; what it takes at once is a part of the planes.
    parts = [slice(plane, plane + 1) for plane in range(source.num_colors)]
    parts = parts if upscaler.in_channels == 1 else [slice(0, source.num_colors)]
    parts += [slice(source.num_colors, num_planes)] * sees_alpha
    done, total = num_done * len(rows_of_tiles[0]) * len(parts), len(plan) * len(parts)
    for number, tiles in enumerate(rows_of_tiles[num_done:], num_done + 1):
        span = tiles[0].rows
        top = span.kept[0] * scale
        bottom = min(span.kept[1], height) * scale
        if rest is not None:
            bottom = max(bottom, top + rest.shape[1])
        canvas = torch.zeros(num_planes, bottom - top, width * scale)
        if rest is not None:
            canvas[:, : rest.shape[1]] = rest
        planes = _planes_of(source, tiles[0])
        num_redone = 0
        for part in parts:
            for place in tiles:
                sr, precision = upscaler.upscale_tile(place.cut_columns(planes[part]))
                place.add_to(canvas[part], sr, scale, skipped=top)
                num_redone += precision != upscaler.precision
                done += 1
                if on_tile is not None:
                    on_tile(done, total)
        is_last = number == len(rows_of_tiles)
        finished = bottom - top if is_last else rows_of_tiles[number][0].rows.kept[0] * scale - top
        rest = canvas[:, finished:].clone()
        canvas[:, :finished].clamp_(0, 1)
        color, alpha = canvas[: source.num_colors, :finished], canvas[source.num_colors :, :finished]
        if source.uniform_alpha is not None:
            alpha = source.uniform_alpha.expand(1, finished, width * scale)
        on_band(Band(tile, number, top, color, alpha if source.has_alpha else None, rest, num_redone))
        del canvas, color, alpha  # before the next ones are made


def _planes_of(source: RowSource, tile: Tile) -> Tensor:
    """Return the rows of a row of tiles, colours and the alpha that the network sees: (channels, rows, W)."""
    height = source.size[0]
    if tile.rows.stop <= height:
        return _joined(*source.rows(tile.rows.start, tile.rows.stop))
    numbers = tile.mirrored_rows(height)
    first = int(numbers.min())
    return _joined(*source.rows(first, int(numbers.max()) + 1))[:, numbers - first]


def _joined(color: Tensor, alpha: Tensor | None) -> Tensor:
    return color if alpha is None else torch.cat((color, alpha))
