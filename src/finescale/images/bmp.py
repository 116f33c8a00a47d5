"""BMP files <-> arrays of levels, since the libvips of our dependency reads and writes no BMP.

A BMP file consists of a file header (14 bytes), an information header, masks or a palette, and rows of pixels, blue
first, each padded to 4 bytes, the bottom row first unless the height is negative. `bmp_header` reads what stands before
the pixels, `bmp_rle` decodes runs.
"""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from finescale.errors import ImageReadError, ImageWriteError
from finescale.images.bmp_header import FILE_HEADER, INFO_HEADER, Bytes, Coding, Header
from finescale.images.bmp_rle import decode_rle
from finescale.images.image import Levels, Notes

_MAX_FILE = 2**32 - 1  # bytes; the length is stored in 32 bits


def embedded_picture(data: bytes, header: Header) -> bytes | None:
    """Return the PNG or JPEG file that takes the place of the pixels, or None where the pixels are stored.

    Raises:
        ImageReadError: The file ends before it.
    """
    if header.coding not in (Coding.JPEG, Coding.PNG):
        return None
    if header.offset >= len(data):
        raise ImageReadError(f"truncated BMP: {header.coding.value} file is missing at the end")
    return data[header.offset :]


def decode(data: bytes, header: Header) -> tuple[Levels, Notes]:
    """Return the stored pixels of a BMP file.

    Returns:
        (H, W, C) of 8 bits, or 16 where a mask has more than 8; C is 1 or 2 where the palette is gray, 2 or 4 where the
        file declares an alpha channel or leaves out pixels; and notes.

    Raises:
        ImageReadError: The pixels are truncated or damaged.
    """
    height = header.size[0]
    stated, notes = None, header.notes
    if header.coding in (Coding.RLE4, Coding.RLE8):
        rows, stated = decode_rle(data[header.offset :], header.size, header.bits)
    else:
        if len(data) < header.offset + header.stride * height:
            raise ImageReadError("truncated BMP: pixels are missing at the end")
        rows = np.frombuffer(data, np.uint8, header.stride * height, header.offset).reshape(height, header.stride)
    levels = _levels(rows, header)
    if stated is not None:
        levels = np.dstack([levels, stated])
        notes = (*notes, f"the file leaves out {np.count_nonzero(stated == 0)} pixels: they are transparent")
    return (levels[::-1] if header.is_bottom_up else levels).copy(), notes


def encode(pixels: Bytes) -> bytes:
    """Return an uncompressed BMP file: 8 bits with a gray palette for (H, W, 1), 24 bits for RGB (H, W, 3).

    Raises:
        ImageWriteError: The file would exceed 4 GiB.
    """
    height, width, channels = pixels.shape
    bits = 8 * channels
    stride = (width * bits + 31) // 32 * 4
    colours = b"".join(bytes((level, level, level, 0)) for level in range(256)) if channels == 1 else b""
    offset = FILE_HEADER + INFO_HEADER + len(colours)
    length = offset + stride * height
    if length > _MAX_FILE:
        raise ImageWriteError(f"{width} x {height} pixels exceed the 4 GiB that a BMP holds; choose .png or .tif")
    rows = np.zeros((height, stride), np.uint8)
    rows[:, : width * channels] = pixels[::-1, :, ::-1].reshape(height, -1)
    header = struct.pack("<2sIHHI", b"BM", length, 0, 0, offset)
    header += struct.pack("<IiiHHIIiiII", INFO_HEADER, width, height, 1, bits, 0, 0, 0, 0, 0, 0)
    return header + colours + rows.tobytes()


def _levels(rows: Bytes, header: Header) -> Levels:
    """Return (H, W, C) in the order of the rows; of runs, ``rows`` holds one value a byte."""
    height, width = header.size
    if header.palette is not None:
        is_packed = header.coding is Coding.PLAIN
        indices = _unpack(rows, header.bits)[:, :width] if is_packed else rows
        return _look_up(indices, header.palette, keep_rgb=header.profile is not None)
    if header.masks:
        return _unmask(rows.view(f"<u{header.bits // 8}")[:, :width], header.masks)
    return rows[:, : 3 * width].reshape(height, width, 3)[:, :, ::-1]


def _look_up(indices: Bytes, palette: Bytes, *, keep_rgb: bool) -> Bytes:
    """Return the colours of a palette, one channel if all are gray and there is no profile that is one for RGB."""
    if indices.max() >= len(palette):
        raise ImageReadError(f"damaged BMP: a pixel refers to colour {indices.max()} of a palette of {len(palette)}")
    is_gray = bool((palette == palette[:, :1]).all())
    colours: Bytes = palette[:, :1] if is_gray and not keep_rgb else palette
    return colours[indices]


def _unmask(pixels: npt.NDArray[np.unsignedinteger], masks: tuple[int, ...]) -> Levels:
    """Separate the channels of pixels of 16 or 32 bits: (H, W) -> (H, W, C), of 16 bits if a mask has more than 8."""
    kind = np.uint16 if max(mask.bit_count() for mask in masks) > 8 else np.uint8
    peak = np.iinfo(kind).max
    levels = np.empty((*pixels.shape, len(masks)), kind)
    for channel, mask in enumerate(masks):
        num_bits = min(16, mask.bit_count())  # further ones make no difference
        lowest = mask.bit_length() - num_bits
        values = (pixels >> lowest) & (2**num_bits - 1)
        table = np.arange(2**num_bits, dtype=np.float64) * peak / (2**num_bits - 1) + 0.5
        levels[:, :, channel] = table.astype(kind)[values]
    return levels


def _unpack(rows: Bytes, bits: int) -> Bytes:
    """Unpack indices of 1 to 8 bits, leftmost pixel in the highest bits: (H, stride) -> (H, stride * 8 / bits)."""
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    indices: Bytes = rows[:, :, None] >> shifts & (2**bits - 1)
    return indices.reshape(len(rows), -1)
