"""JPEG files as bytes: kind, completeness, and the quality that the quantization tables imply."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

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
_MAX_SIDE = 65500  # that the decoder takes


class _Segment(NamedTuple):
    kind: int
    start: int
    """Place of the content in the file."""
    content: bytes


@dataclass(frozen=True)
class JpegEnd:
    """A JPEG file with its end marker, and a way to show whether coded data are missing before it."""

    data: bytes

    was_missing: bool
    """Whether the marker is ours."""

    probe: bytes
    """The file with a header that states further rows, so that the decoder goes on behind the last one: it reports
    only on the rows before those that it is asked for."""

    probe_rows: int
    """Number of rows of the probe that can be decoded if, and only if, no coded data are missing."""


def check_kind(data: bytes) -> None:
    """Check that the decoder reads this kind of JPEG file.

    Raises:
        ImageReadError: It has 12 bits per channel, or is lossless or hierarchical.
    """
    for kind, _, content in _segments(data):
        if kind in _OTHER_FRAMES:
            problem = "lossless or hierarchical coding"
        elif kind in _FRAMES and content[:1] == b"\x0c":
            problem = "12 bits per channel"
        elif kind in _FRAMES:
            return
        else:
            continue
        raise ImageReadError(f"a JPEG file with {problem} is not supported; convert it to PNG or TIFF first")


def inspect_end(data: bytes) -> JpegEnd | None:
    """Return the file with the end marker that it may lack, or None if it has one and its decoder needs no help.

    Where the marker is missing, every coefficient must have been sent in full; whether the last scan is whole, only its
    decoder can tell. Where coding is arithmetic, not even that: its decoder takes missing bits for zeros.

    Raises:
        ImageReadError: The file lacks more than the marker.
    """
    frame = None
    is_ended = False
    num_scans = last_scan = 0
    unsent: dict[int, list[int]] = {}  # by component: how many low bits of each coefficient are still to come
    for segment in _segments(data):
        kind, _, content = segment
        if kind == _END:
            is_ended = True
        if kind in _HUFFMAN_FRAMES and len(content) >= 6:
            frame = segment
            unsent = {component: [1] * _NUM_COEFFICIENTS for component in content[6 : 6 + 3 * content[5] : 3]}
        elif kind == _SCAN and frame and content and len(content) >= 4 + 2 * content[0]:
            num_scans, last_scan = num_scans + 1, segment.start
            first, last, low_bits = content[-3], content[-2], content[-1] & 15
            if frame.kind != _PROGRESSIVE:  # these numbers are idle, and some cameras get them wrong
                first, last, low_bits = 0, _NUM_COEFFICIENTS - 1, 0
            for component in content[1 : 1 + 2 * content[0] : 2]:
                for coefficient in range(first, min(last + 1, _NUM_COEFFICIENTS)):
                    unsent.setdefault(component, [1] * _NUM_COEFFICIENTS)[coefficient] = low_bits
    is_decoded_at_once = num_scans > 1 or frame is None or frame.kind == _PROGRESSIVE
    if is_ended:
        return None if frame is None or is_decoded_at_once else JpegEnd(data, False, *_probe(data, frame))
    if data.find(bytes((0xFF, _END)), last_scan) >= 0:
        return None  # behind bytes that belong to no segment, over which the decoder passes
    is_sent = bool(unsent) and not any(any(bits) for bits in unsent.values())
    # Coded data end in ones: zeros are what is written in place of missing blocks of a file.
    is_filled_up = data.endswith(b"\0") and not data.endswith(b"\xff\0")
    if frame is None or not is_sent or is_filled_up:
        raise ImageReadError("truncated JPEG: its end is missing")
    whole = data + bytes((0xFF, _END))
    return JpegEnd(whole, True, *((whole, _height(frame)) if is_decoded_at_once else _probe(whole, frame)))


def _height(frame: _Segment) -> int:
    return int.from_bytes(frame.content[1:3], "big")


def _probe(data: bytes, frame: _Segment) -> tuple[bytes, int]:
    """Return the probe of a file with a single scan, and its number of rows, as `JpegEnd` has them.

    libvips looks for warnings before each strip of 8 rows, so that the last blocks must be decoded at least one strip
    before the last that is asked for. (Several scans are decoded before the first row.)
    """
    height = _height(frame)
    samplings = frame.content[7 : 7 + 3 * frame.content[5] : 3]  # for each component: 16 * horizontal + vertical
    block = 8 * max(sampling & 15 for sampling in samplings) if len(samplings) > 1 else 8
    rows = -(-height // block) * block
    if not height or not block or rows > _MAX_SIDE - 16:
        return data, height
    probe = bytearray(data)
    if len(samplings) == 1:
        probe[frame.start + 7] = 0x11  # without effect on a single component, but for the rows decoded at a time
    further = 16 if block == 8 else 0
    probe[frame.start + 1 : frame.start + 3] = (rows + further).to_bytes(2, "big")
    return bytes(probe), rows + further // 16


def jpeg_quality(data: bytes) -> int | None:
    """Return an estimate of the quality, 1 to 100, of a JPEG file, or None where its tables are missing.

    A file stores its quantization steps, not its quality. The estimate is the quality at which the encoder of the
    Independent JPEG Group has the same sum of luma steps; programs with tables of their own use other numbers.
    """
    sums: dict[int, int] = {}
    for kind, _, content in _segments(data):
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


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yield each complete segment: 0xFF, kind, length (2 bytes), content; the end has no length and no content.

    Coded data behind the start of a scan are passed over. What follows the end is not looked at.
    """
    at = 2
    while at + 2 <= len(data) and data[at] == 0xFF:
        kind = data[at + 1]
        if kind == 0xFF:  # a fill byte
            at += 1
            continue
        if kind == _END:
            yield _Segment(kind, at + 2, b"")
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if length < 2 or at + 2 + length > len(data):
            return
        yield _Segment(kind, at + 4, data[at + 4 : at + 2 + length])
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
