"""Upscaling of arrays that may be larger than memory, such as memory maps, by blocks of rows."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Tensor

from finescale.upscale.bands import Band, RowSource, upscale_bands
from finescale.upscale.image_types import AdaptedImage, adapt_image
from finescale.upscale.tiny import margin_of

if TYPE_CHECKING:
    from finescale.upscale.upscaler import OnTile, Upscaler

_ROWS = 64  # of a result that are converted at once


class RowArray(Protocol):
    """Array of which blocks of rows are read and written: numpy's, memory maps, zarr's and HDF5's."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W) or (H, W, C)."""

    @property
    def dtype(self) -> Any:
        """Type of a sample."""

    def __getitem__(self, rows: slice, /) -> Any: ...

    def __setitem__(self, rows: slice, values: Any, /) -> None: ...


def upscale_array(upscaler: Upscaler, source: RowArray, target: RowArray, *, on_tile: OnTile | None = None) -> None:
    """Upscale an array into another one, as `Upscaler.upscale_rows` describes."""
    height, width = source.shape[:2] if len(source.shape) in (2, 3) else (0, 0)
    upscaler = upscaler.resolved([(height, width)])
    start = _adapted(source, 0, 1)
    expected = (height * upscaler.scale, width * upscaler.scale, *source.shape[2:])
    if tuple(target.shape) != expected or np.dtype(target.dtype) != np.dtype(source.dtype):
        raise ValueError(
            f"the target must have shape {expected} and dtype {source.dtype}, got {tuple(target.shape)} and "
            f"{target.dtype}"
        )
    if upscaler.tiling.rule == "blend" and margin_of((height, width)):
        raise ValueError(f"an array must be at least 8 x 8 pixels, got {height} x {width}; call the upscaler with it")
    if upscaler.network.mirrored_size((height, width)) != (height, width):
        raise ValueError(
            f"an array must be whole windows of this network to be upscaled by rows, got {height} x {width}; call the "
            "upscaler with it"
        )
    num_colors = start.color.shape[1]

    def read(first: int, last: int) -> tuple[Tensor, Tensor | None]:
        rows = _adapted(source, first, last)
        return rows.color[0], None if rows.alpha is None else rows.alpha[0]

    def write(band: Band) -> None:
        for first in range(0, band.color.shape[1], _ROWS):
            rows = slice(first, first + _ROWS)
            alpha = None if band.alpha is None else band.alpha[None, :, rows]
            values = start.restore(band.color[None, :, rows], alpha)
            target[band.top + first : band.top + first + len(values)] = values

    with TemporaryDirectory(prefix="finescale-") as folder:
        rows = RowSource(
            read, (height, width), num_colors=num_colors, has_alpha=start.alpha is not None, folder=Path(folder)
        )
        upscale_bands(upscaler, rows, write, on_tile=on_tile)


def _adapted(source: RowArray, first: int, last: int) -> AdaptedImage:
    return adapt_image(np.asarray(source[first:last]))
