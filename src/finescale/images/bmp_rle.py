"""Run-length coding of BMP files: codes of two bytes, with ends of rows, jumps, and pixels as they are.

A code is a number of pixels and their value (4 bits: two values in turn). Where the number is 0, the second byte means:
0 end of the row, 1 end of the picture, 2 a jump to the right and up by the two bytes that follow, else a number of
pixels that follow as they are, padded to two bytes. Pixels that are jumped over have no value.

Source: "Bitmap Compression" of the Windows API.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from finescale.errors import ImageReadError

_END_OF_ROW, _END_OF_PICTURE, _JUMP = 0, 1, 2

Bytes = npt.NDArray[np.uint8]


def decode_rle(codes: bytes, size: tuple[int, int], bits: int) -> tuple[Bytes, Bytes | None]:
    """Decode runs of 4 or 8 bits per pixel.

    Args:
        codes: The file from its first code on.
        size: (height, width).
        bits: 4 or 8.

    Returns:
        The values (H, W) in the order of the file, 0 where it states none; and (H, W), 255 where it states a value and
        0 where not, or None where every pixel has one.

    Raises:
        ImageReadError: The codes reach beyond the picture, or the file ends before it.
    """
    height, width = size
    pixels = bytearray(height * width)
    gaps: list[tuple[int, int]] = []
    row = column = 0
    is_ended = False
    for run, right, up in _steps(codes, bits):
        if right is None and up is None:
            is_ended = True
            break
        start = row * width + column
        end = start + len(run)
        column = column + len(run) + right if right is not None else 0
        row += up or 0
        if column > width or row > height or end > len(pixels):
            raise ImageReadError(f"damaged BMP: a run leaves its {width} x {height} pixels at {column}, {row}")
        pixels[start:end] = run
        if end < row * width + column:
            gaps.append((end, row * width + column))
    end = row * width + column
    if end < len(pixels) and not is_ended:
        raise ImageReadError(f"truncated BMP: its pixels end at {column}, {row} of {width} x {height}")
    if end < len(pixels):
        gaps.append((end, len(pixels)))
    return np.frombuffer(pixels, np.uint8).reshape(size), _stated(gaps, size) if gaps else None


def _steps(codes: bytes, bits: int) -> Iterator[tuple[bytes, int | None, int | None]]:
    """Yield each run, and how far to go right and up behind it.

    Right is None at the end of a row, both are None at the end of the picture. Stops where the file ends.
    """
    at = 0
    while at + 2 <= len(codes):
        count, value = codes[at], codes[at + 1]
        at += 2
        if count:
            yield _values(bytes((value,)) * count, bits)[:count], 0, 0
        elif value == _END_OF_ROW:
            yield b"", None, 1
        elif value == _END_OF_PICTURE:
            yield b"", None, None
        else:
            num_bytes = 2 if value == _JUMP else (value * bits + 7) // 8
            stored = codes[at : at + num_bytes]
            at += num_bytes + num_bytes % 2
            if len(stored) < num_bytes:
                return
            yield (b"", stored[0], stored[1]) if value == _JUMP else (_values(stored, bits)[:value], 0, 0)


def _values(packed: bytes, bits: int) -> bytes:
    """Return the values of packed pixels, one a byte, the upper four bits first."""
    if bits == 8:
        return packed
    both = np.frombuffer(packed, np.uint8)
    return np.stack((both >> 4, both & 15), axis=1).tobytes()


def _stated(gaps: list[tuple[int, int]], size: tuple[int, int]) -> Bytes:
    """Return 0 for the pixels of each gap (from, to), and 255 for all others."""
    stated = np.full(size[0] * size[1], 255, np.uint8)
    for start, end in gaps:
        stated[start:end] = 0
    return stated.reshape(size)
