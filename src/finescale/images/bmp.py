"""BMP files <-> arrays of bytes, since the libvips of our dependency reads and writes no BMP.

A BMP file consists of a file header (14 bytes), an information header, a palette if there are 8 bits per pixel or
fewer, and rows of pixels, blue first, each padded to 4 bytes, the bottom row first unless the height is negative.

Source: the structures BITMAPFILEHEADER, BITMAPCOREHEADER and BITMAPINFOHEADER to BITMAPV5HEADER of the Windows API.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finescale.errors import ImageReadError, ImageWriteError

Bytes = npt.NDArray[np.uint8]

_UNCOMPRESSED, _BITFIELDS = 0, 3
_COLOUR_MASKS = (0xFF0000, 0xFF00, 0xFF)  # red, green, blue: the usual order BGRX
_ALPHA_MASK = 0xFF000000
_FILE_HEADER, _CORE_HEADER, _INFO_HEADER, _V3_HEADER = 14, 12, 40, 56  # bytes
_MAX_FILE = 2**32 - 1  # bytes; the length is stored in 32 bits


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    bottom_up: bool
    bits: int
    has_alpha: bool
    palette: Bytes | None  # (colours, 3) RGB
    offset: int  # of the first row, in bytes

    @property
    def stride(self) -> int:
        """Bytes of a row, padding included."""
        return (self.width * self.bits + 31) // 32 * 4


def read_size(data: bytes) -> tuple[int, int]:
    """Return (height, width) from the header alone.

    Raises:
        ImageReadError: The header is truncated, damaged, or of a kind that `decode` does not support.
    """
    header = _read_header(data)
    return header.height, header.width


def decode(data: bytes) -> Bytes:
    """Return the pixels of an uncompressed BMP file of 1, 4, 8, 24 or 32 bits per pixel.

    Returns:
        (H, W, C): C = 1 where the palette is gray, 4 where the file declares an alpha channel, else 3.

    Raises:
        ImageReadError: The file is truncated or damaged, or of a rare kind (run-length encoded, 16 bits, other masks).
    """
    header = _read_header(data)
    if len(data) < header.offset + header.stride * header.height:
        raise ImageReadError("truncated BMP: pixels are missing at the end")
    rows = np.frombuffer(data, np.uint8, header.stride * header.height, header.offset)
    rows = rows.reshape(header.height, header.stride)[:: -1 if header.bottom_up else 1]
    if header.palette is None:
        pixels = rows[:, : header.width * header.bits // 8].reshape(header.height, header.width, -1)
        return pixels[:, :, [2, 1, 0, 3] if header.has_alpha else [2, 1, 0]]
    indices = _unpack(rows, header.bits)[:, : header.width]
    if indices.max() >= len(header.palette):
        raise ImageReadError(
            f"damaged BMP: a pixel refers to colour {indices.max()} of a palette of {len(header.palette)}"
        )
    is_gray = bool((header.palette == header.palette[:, :1]).all())
    return header.palette[:, :1][indices] if is_gray else header.palette[indices]


def encode(pixels: Bytes) -> bytes:
    """Return an uncompressed BMP file: 8 bits with a gray palette for (H, W, 1), 24 bits for RGB (H, W, 3).

    Raises:
        ImageWriteError: The file would exceed 4 GiB.
    """
    height, width, channels = pixels.shape
    bits = 8 * channels
    stride = (width * bits + 31) // 32 * 4
    colours = b"".join(bytes((level, level, level, 0)) for level in range(256)) if channels == 1 else b""
    offset = _FILE_HEADER + _INFO_HEADER + len(colours)
    length = offset + stride * height
    if length > _MAX_FILE:
        raise ImageWriteError(f"{width} x {height} pixels exceed the 4 GiB that a BMP holds; choose .png or .tif")
    rows = np.zeros((height, stride), np.uint8)
    rows[:, : width * channels] = pixels[::-1, :, ::-1].reshape(height, -1)
    header = struct.pack("<2sIHHI", b"BM", length, 0, 0, offset)
    header += struct.pack("<IiiHHIIiiII", _INFO_HEADER, width, height, 1, bits, _UNCOMPRESSED, 0, 0, 0, 0, 0)
    return header + colours + rows.tobytes()


def _read_header(data: bytes) -> _Header:
    try:
        offset, length = struct.unpack_from("<II", data, 10)
        if length == _CORE_HEADER:
            width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
            compression = num_colours = 0
        else:
            width, height, _, bits, compression, _, _, _, num_colours = struct.unpack_from("<iiHHIIiiI", data, 18)
    except struct.error:
        raise ImageReadError("truncated BMP: its header is incomplete") from None
    if width <= 0 or height == 0 or length not in range(_CORE_HEADER, 125):
        raise ImageReadError(f"damaged BMP: its header states {width} x {height} pixels")
    has_alpha = False
    if compression == _BITFIELDS and bits == 32 and len(data) >= _FILE_HEADER + _V3_HEADER:
        *colour_masks, alpha_mask = struct.unpack_from("<4I", data, _FILE_HEADER + _INFO_HEADER)
        if tuple(colour_masks) == _COLOUR_MASKS:
            compression, has_alpha = _UNCOMPRESSED, length >= _V3_HEADER and alpha_mask == _ALPHA_MASK
    if compression != _UNCOMPRESSED or bits not in (1, 4, 8, 24, 32):
        raise ImageReadError(
            f"a BMP file with {bits} bits and compression {compression} is not supported; save it as PNG first"
        )
    palette = _read_palette(data, length, num_colours or 2**bits) if bits <= 8 else None
    return _Header(width, abs(height), height > 0, bits, has_alpha, palette, offset)


def _read_palette(data: bytes, header_length: int, num_colours: int) -> Bytes:
    entry = 3 if header_length == _CORE_HEADER else 4  # blue, green, red, and a byte of padding in all but the oldest
    start = _FILE_HEADER + header_length
    if num_colours > 256 or start + entry * num_colours > len(data):
        raise ImageReadError(f"damaged BMP: its palette of {num_colours} colours is incomplete")
    return np.frombuffer(data, np.uint8, entry * num_colours, start).reshape(-1, entry)[:, 2::-1]


def _unpack(rows: Bytes, bits: int) -> Bytes:
    """Unpack indices of 1, 4 or 8 bits, leftmost pixel in the highest bits: (H, stride) -> (H, stride * 8 / bits)."""
    if bits == 1:
        return np.unpackbits(rows, axis=1)
    if bits == 4:
        return np.stack((rows >> 4, rows & 15), axis=2).reshape(len(rows), -1)
    return rows
