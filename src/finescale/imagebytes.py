"""What the bytes of a picture file say and libvips does not: PNG's chunks, ICC's header, orientation in EXIF and XMP.

Everything here is bytes in, bytes and facts out; nothing is inflated, and nothing that a file claims is allocated.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

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
