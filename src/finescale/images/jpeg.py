"""JPEG files as bytes: kind, completeness, and the quality that the quantization tables imply."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from finescale.errors import ImageReadError

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

_TABLES, _SCAN, _END = 0xDB, 0xDA, 0xD9  # markers: quantization tables, start of a scan, end of the image
_PROGRESSIVE = 0xC2
_HUFFMAN_FRAMES = (0xC0, 0xC1, _PROGRESSIVE)  # markers of a frame: baseline, extended, progressive
_FRAMES = (*_HUFFMAN_FRAMES, 0xC9, 0xCA)  # and with arithmetic coding
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7)  # lossless, hierarchical, JPEG-LS
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # within coded data: no stuffed byte, no restart, no fill
_NUM_COEFFICIENTS = 64


def check_kind(data: bytes) -> None:
    """Check that the decoder reads this kind of JPEG file.

    Raises:
        ImageReadError: It has 12 bits per channel, or is lossless or hierarchical.
    """
    for kind, content in _segments(data):
        if kind in _OTHER_FRAMES:
            problem = "lossless or hierarchical coding"
        elif kind in _FRAMES and content[:1] == b"\x0c":
            problem = "12 bits per channel"
        elif kind in _FRAMES:
            return
        else:
            continue
        raise ImageReadError(f"a JPEG file with {problem} is not supported; convert it to PNG or TIFF first")


def complete_end(data: bytes) -> bytes | None:
    """Return a JPEG file with the end marker that it lacks, or None if it has one, or lacks more than that.

    Every coefficient must have been sent in full; whether the last scan is whole, only its decoder can tell. Where
    coding is arithmetic, not even that: its decoder takes missing bits for zeros.
    """
    frame, unsent = 0, {}  # by component: how many low bits of each coefficient are still to come
    for kind, content in _segments(data):
        if kind == _END:
            return None
        if kind in _FRAMES and len(content) >= 6:
            frame = kind
            unsent = {component: [1] * _NUM_COEFFICIENTS for component in content[6 : 6 + 3 * content[5] : 3]}
        elif kind == _SCAN and content and len(content) >= 4 + 2 * content[0]:
            first, last, low_bits = content[-3], content[-2], content[-1] & 15
            if frame != _PROGRESSIVE:  # these numbers are idle, and some cameras get them wrong
                first, last, low_bits = 0, _NUM_COEFFICIENTS - 1, 0
            for component in content[1 : 1 + 2 * content[0] : 2]:
                for coefficient in range(first, min(last + 1, _NUM_COEFFICIENTS)):
                    unsent.setdefault(component, [1] * _NUM_COEFFICIENTS)[coefficient] = low_bits
    is_sent = bool(unsent) and not any(any(bits) for bits in unsent.values())
    return data + bytes((0xFF, _END)) if is_sent and frame in _HUFFMAN_FRAMES else None


def jpeg_quality(data: bytes) -> int | None:
    """Return an estimate of the quality, 1 to 100, of a JPEG file, or None where its tables are missing.

    A file stores its quantization steps, not its quality. The estimate is the quality at which the encoder of the
    Independent JPEG Group has the same sum of luma steps; programs with tables of their own use other numbers.
    """
    sums: dict[int, int] = {}
    for kind, content in _segments(data):
        if kind == _SCAN:
            break
        if kind == _TABLES:
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
    """Yield kind and content of each complete segment: 0xFF, kind, length (2 bytes), content; of the end, no content.

    Coded data behind the start of a scan are passed over. What follows the end is not looked at.
    """
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind == _END:
            yield kind, b""
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data):
            return
        yield kind, data[at + 4 : at + 2 + length]
        at += 2 + length
        if kind == _SCAN:
            marker = _MARKER.search(data, at)
            if marker is None:
                return
            at = marker.start()


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
