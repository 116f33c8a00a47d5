"""JPEG files as bytes: the quality that their quantization tables imply."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

# Quantization steps for luma at quality 50 (ITU-T T.81, annex K.1), row by row.
_STEPS = (
    16, 11, 10, 16, 24, 40, 51, 61,
    12, 12, 14, 19, 26, 58, 60, 55,
    14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62,
    18, 22, 37, 56, 68, 109, 103, 77,
    24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip


def jpeg_quality(data: bytes) -> int | None:
    """Return an estimate of the quality, 1 to 100, of a JPEG file, or None where its tables are missing.

    A file stores its quantization steps, not its quality. The estimate is the quality at which the encoder of the
    Independent JPEG Group has the same sum of luma steps; programs with tables of their own use other numbers.
    """
    sums: dict[int, int] = {}
    for kind, content in _segments(data):
        if kind == 0xDB:
            sums |= _sums_of_steps(content)
    if 0 not in sums:
        return None
    return min(range(1, 101), key=lambda quality: abs(_usual_sum(quality) - sums[0]))


@lru_cache
def _usual_sum(quality: int) -> int:
    """Return the sum of the luma steps of the Independent JPEG Group's encoder."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return sum(min(max((step * percent + 50) // 100, 1), 255) for step in _STEPS)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of each complete segment before the first scan: 0xFF, kind, length (2 bytes), content."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        kind, length = data[start + 1], int.from_bytes(data[start + 2 : start + 4], "big")
        if kind == 0xFF:  # a fill byte
            start += 1
            continue
        if kind == 0xDA or length < 2 or start + 2 + length > len(data):
            return
        yield kind, data[start + 4 : start + 2 + length]
        start += 2 + length


def _sums_of_steps(content: bytes) -> dict[int, int]:
    """Return the sum of each complete table of a segment by its number: one byte of width and number, then 64 steps."""
    sums = {}
    start = 0
    while start < len(content):
        width, number = 1 + (content[start] >> 4 & 1), content[start] & 15
        steps = content[start + 1 : start + 1 + 64 * width]
        if len(steps) < 64 * width:
            break
        sums[number] = sum(int.from_bytes(steps[at : at + width], "big") for at in range(0, len(steps), width))
        start += 1 + len(steps)
    return sums
