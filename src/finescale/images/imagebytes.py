"""What the bytes of a picture file say and libvips does not: PNG's chunks, ICC's header, orientation in EXIF and XMP,
JPEG's tables.

Everything here is bytes in, bytes and facts out; nothing is inflated, and nothing that a file claims is allocated.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>\s*))[2-8]")
_EXIF_ORIENTATION = 0x0112
_PNG_HEADER_END = 33  # bytes: the signature and the chunk IHDR
_LONGEST_KEYWORD = 80  # bytes, with its end


@dataclass(frozen=True)
class Png:
    """The facts of a PNG file."""

    size: tuple[int, int]
    """(height, width), as the header claims; (0, 0) where there is none."""

    num_frames: int
    """More than 1 in an animation."""

    has_profile: bool
    """There is an ICC profile, whole or not."""

    has_compressed_texts: bool
    """There are texts besides ``texts``."""

    is_whole: bool
    """The file goes on to its end mark."""

    texts: bytes
    """The chunks of text that are not compressed, as they are, without XMP."""

    picture: bytes
    """The file without any texts but XMP: a compressed one may inflate to 8 MB, and a thousand fit into 10 MB."""


def inspect_png(data: bytes) -> Png:
    """Walk over the chunks of a PNG file (PNG, third edition, section 5)."""
    size, num_frames, has_profile, has_xmp, has_compressed_texts = (0, 0), 1, False, False, False
    texts: list[bytes] = []
    kept: list[bytes] = []
    kept_until, kind = 0, b""
    for kind, start, end in _png_chunks(data):
        content = data[start + 8 : min(start + 8 + _LONGEST_KEYWORD + 1, end - 4)]
        if kind == b"IHDR" and len(content) == 13:
            width, height = struct.unpack_from(">II", content)
            size = (height, width)
        elif kind == b"acTL" and len(content) == 8:
            (num_frames,) = struct.unpack_from(">I", content)
        elif kind == b"iCCP":
            has_profile = True
        elif kind in (b"iTXt", b"zTXt") and content.startswith(_XMP_KEYWORD) and not has_xmp:
            has_xmp = True  # left where it is, for libvips to read
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            kept.append(data[kept_until:start])
            kept_until = end
            if kind == b"zTXt" or (kind == b"iTXt" and content.partition(b"\0")[2][:1] == b"\1"):
                has_compressed_texts = True
            else:
                texts.append(data[start:end])
    picture = b"".join((*kept, data[kept_until:])) if kept else data
    return Png(size, num_frames, has_profile, has_compressed_texts, kind == b"IEND", b"".join(texts), picture)


def insert_texts(png: bytes, texts: bytes) -> bytes:
    """A PNG file with chunks of text put behind its header."""
    return png[:_PNG_HEADER_END] + texts + png[_PNG_HEADER_END:]


def xmp_chunk(xmp: bytes) -> bytes:
    """XMP as the chunk that its specification asks for; libvips writes a compressed one, which few programs find."""
    content = b"iTXt" + _XMP_KEYWORD + b"\0\0\0\0" + xmp  # not compressed, no language, no translated keyword
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each whole chunk: length (4 bytes), kind (4), content, checksum (4)."""
    start, kind = 8, b""
    while kind != b"IEND" and start + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        if end > len(data):
            return
        yield kind, start, end
        start = end


def profile_mismatch(profile: bytes, num_channels: int) -> str | None:
    """What is wrong with an ICC profile of gray (1) or RGB (3) pixels, or None (ICC.1:2022, section 7.2)."""
    if len(profile) < 128 or profile[36:40] != b"acsp" or int.from_bytes(profile[:4], "big") > len(profile):
        return "is damaged"
    space, pixels = {1: (b"GRAY", "gray"), 3: (b"RGB ", "RGB")}[num_channels]
    return None if profile[16:20] == space else f"does not fit {pixels} pixels"


def upright_exif(exif: bytes) -> bytes | None:
    """EXIF that says "not turned", for pixels that are upright; None where its first directory is damaged."""
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None:
        return None
    upright = bytearray(exif)
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, start + 4)
        (num_entries,) = struct.unpack_from(f"{order}H", exif, start + offset)
        for entry in range(start + offset + 2, start + offset + 2 + 12 * num_entries, 12):
            (tag,) = struct.unpack_from(f"{order}H", exif, entry)
            if tag == _EXIF_ORIENTATION:
                struct.pack_into(f"{order}H", upright, entry + 8, 1)
    except struct.error:
        return None
    return bytes(upright)


def upright_xmp(xmp: bytes) -> bytes:
    """XMP that says "not turned", for pixels that are upright."""
    return _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)


# Steps of luma by which JPEG divides at quality 50 (ITU-T T.81, annex K.1), row by row.
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
    """About what quality, 1 to 100, a JPEG file was stored with; None where its tables do not say.

    Files say only by which steps they divide. Told is the quality at which the usual encoder has the same sum of steps
    for luma; programs with tables of their own call it otherwise.
    """
    sums: dict[int, int] = {}
    for kind, content in _jpeg_segments(data):
        if kind == 0xDB:
            sums |= _sums_of_steps(content)
    if 0 not in sums:
        return None
    return min(range(1, 101), key=lambda quality: abs(_usual_sum(quality) - sums[0]))


@lru_cache
def _usual_sum(quality: int) -> int:
    """Of the steps that the Independent JPEG Group's encoder takes for luma."""
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return sum(min(max((step * percent + 50) // 100, 1), 255) for step in _STEPS)


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each whole segment before the first scan: 0xFF, kind, length (2 bytes), content."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        kind, length = data[start + 1], int.from_bytes(data[start + 2 : start + 4], "big")
        if kind == 0xFF:  # a byte that only fills
            start += 1
            continue
        if kind == 0xDA or length < 2 or start + 2 + length > len(data):
            return
        yield kind, data[start + 4 : start + 2 + length]
        start += 2 + length


def _sums_of_steps(content: bytes) -> dict[int, int]:
    """The sum of each whole table of a segment, by its number: one byte of kind and number, then 64 steps."""
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
