"""Decoded pixels on disk, for images larger than memory: rows are in memory while they are used."""

from __future__ import annotations

import math
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyvips

from finescale.images.image import Levels

_STRIP_ROWS = 16
_TIFF_TYPES = {"H": 3, "I": 4, "Q": 16}
BLOCK_BYTES = 2**24  # of the file that are mapped into memory at once
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32, "double": np.float64}


class AnyLevels(Protocol):
    """Levels (H, W, C), in memory or elsewhere, of which rows are taken by slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(H, W, C)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a sample."""

    def __getitem__(self, rows: slice, /) -> Levels: ...


class StoredLevels:
    """Levels (H, W, C) in a file, as decoded, which are read upright.

    Args:
        path: The file: samples without a header.
        stored: (H, W, C) in the file.
        dtype: Type of a sample.
        orientation: EXIF's number, 1 to 8, of how rows and columns are stored.
    """

    def __init__(self, path: Path, stored: tuple[int, int, int], dtype: npt.DTypeLike, *, orientation: int = 1) -> None:
        self._path, self._stored = path, stored
        self.dtype = np.dtype(dtype)
        self._is_transposed = orientation in (5, 6, 7, 8)
        self._flips_rows, self._flips_columns = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
        height, width, num_channels = stored
        self.shape = (width, height, num_channels) if self._is_transposed else stored

    def __getitem__(self, rows: slice) -> Levels:
        first, last, _ = rows.indices(self.shape[0])
        if self._flips_rows:
            first, last = self.shape[0] - last, self.shape[0] - first
        if self._is_transposed:
            levels = np.empty((last - first, *self.shape[1:]), self.dtype)
            for top, bottom in self._blocks(0, self._stored[0]):
                levels[:, top:bottom] = self._read(top, bottom)[:, first:last].swapaxes(0, 1)
        else:
            levels = np.empty((last - first, *self.shape[1:]), self.dtype)
            for top, bottom in self._blocks(first, last):
                levels[top - first : bottom - first] = self._read(top, bottom)
        if self._flips_rows:
            levels = levels[::-1]
        if self._flips_columns:
            levels = levels[:, ::-1]
        return np.ascontiguousarray(levels)

    def _blocks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        step = max(1, BLOCK_BYTES // self._row_bytes)
        return ((top, min(top + step, last)) for top in range(first, last, step))

    @property
    def _row_bytes(self) -> int:
        return self._stored[1] * self._stored[2] * self.dtype.itemsize

    def _read(self, first: int, last: int) -> npt.NDArray[Any]:
        """Map stored rows into memory, until the array is no longer used."""
        shape = (last - first, *self._stored[1:])
        return np.memmap(self._path, self.dtype, "r", offset=first * self._row_bytes, shape=shape)


def store_levels(image: pyvips.Image, folder: Path, *, orientation: int) -> StoredLevels:
    """Decode an image into a file of a folder, a few rows at a time.

    Args:
        image: An opened image, whose decoder may work from top to bottom.
        folder: Where the file is created.
        orientation: EXIF's number, 1 to 8, of how rows and columns are stored.
    """
    path = folder / "input.raw"
    pyvips.Operation.call("rawsave", image, os.fsencode(path))
    return StoredLevels(path, (image.height, image.width, image.bands), _DTYPES[image.format], orientation=orientation)


def levels_header(size: tuple[int, int], num_channels: int, depth: int) -> bytes:
    """Return what makes a file of levels an uncompressed BigTIFF, which libvips reads row by row.

    A file without a header it would map into memory as a whole.

    Args:
        size: (height, width).
        num_channels: 1 to 4; the last of two or four is transparency.
        depth: Bits per channel, 8 or 16, in this machine's byte order.
    """
    height, width = size
    num_strips = math.ceil(height / _STRIP_ROWS)
    row_bytes = width * num_channels * depth // 8
    colors = 3 if num_channels > 2 else 1
    tags: dict[int, tuple[str, Sequence[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [depth] * num_channels),
        259: ("H", [1]),  # no compression
        262: ("H", [2 if colors == 3 else 1]),  # RGB, or gray whose 0 is black
        273: ("Q", range(num_strips)),  # places, set below
        277: ("H", [num_channels]),
        278: ("I", [_STRIP_ROWS]),
        279: ("Q", [row_bytes * min(_STRIP_ROWS, height - top) for top in range(0, height, _STRIP_ROWS)]),
    }
    if num_channels > colors:
        tags[338] = ("H", [2])  # transparency by which colours are not multiplied
    directory_end = 16 + 8 + 20 * len(tags) + 8
    length = directory_end + 2 * 8 * num_strips + 8
    start = math.ceil(length / 4096) * 4096
    tags[273] = ("Q", [start + row_bytes * top for top in range(0, height, _STRIP_ROWS)])
    entries, values = b"", b""
    for tag, (kind, numbers) in tags.items():
        packed = struct.pack(f"={len(numbers)}{kind}", *numbers)
        if len(packed) > 8:
            packed, values = struct.pack("=Q", directory_end + len(values)), values + packed
        entries += struct.pack("=HHQ", tag, _TIFF_TYPES[kind], len(numbers)) + packed.ljust(8, b"\0")
    mark = b"II" if sys.byteorder == "little" else b"MM"
    header = mark + struct.pack("=HHHQQ", 43, 8, 0, 16, len(tags)) + entries + struct.pack("=Q", 0) + values
    return header.ljust(start, b"\0")


def row_blocks(levels: AnyLevels) -> Iterator[Levels]:
    """Yield all rows of levels from top to bottom, some at a time."""
    height = levels.shape[0]
    row_bytes = levels.shape[1] * levels.shape[2] * levels.dtype.itemsize
    step = max(1, BLOCK_BYTES // row_bytes)
    return (levels[top : top + step] for top in range(0, height, step))
