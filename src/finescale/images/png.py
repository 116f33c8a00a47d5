"""PNG files as bytes: the chunks that libvips does not report, and text chunks taken out and put in.

Nothing is decompressed, and no memory is allocated on the word of a file.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_HEADER_END = 33  # bytes: the signature and the chunk IHDR
_MOVED_BYTES = 2**24  # at once
_LONGEST_KEYWORD = 80  # bytes, with its terminator
_COLOR_CHUNKS = {b"cICP": ">4B", b"sRGB": ">B", b"cHRM": ">8I", b"gAMA": ">I"}
"""The format of the chunks that state colours without a profile."""


@dataclass(frozen=True)
class Png:
    """The chunks of a PNG file, in summary."""

    size: tuple[int, int]
    """(height, width) from the header; (0, 0) where there is none."""

    num_frames: int
    """More than 1 in an animation."""

    has_profile: bool
    """Whether there is an ICC profile, intact or not."""

    cicp: tuple[int, int, int, int] | None
    """Colours by numbers: primaries, transfer function, matrix, and 1 for full range (ITU-T H.273)."""

    is_srgb: bool
    """Whether there is a chunk that says so."""

    chromaticities: tuple[int, ...] | None
    """x and y of white, red, green and blue, times 100,000."""

    gamma: int
    """Exponent from light to samples, times 100,000; 0 where it is not stated."""

    has_compressed_texts: bool
    """Whether there are text chunks besides ``texts``."""

    is_whole: bool
    """Whether the file extends to its end chunk."""

    texts: bytes
    """The uncompressed text chunks, unchanged, without XMP."""

    kept: tuple[tuple[int, int], ...]
    """Start and end of each part of the file between its text chunks except XMP: a compressed one may expand to 8 MB,
    and a thousand fit into 10 MB."""

    def picture(self, data: bytes) -> bytes:
        """Return the file without its text chunks."""
        return data if len(self.kept) == 1 else b"".join(data[start:end] for start, end in self.kept)


class Bytes(Protocol):
    """A file in memory, or one of which a slice is read when it is asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, place: slice, /) -> bytes: ...


def inspect_png(data: Bytes) -> Png:
    """Summarize the chunks of a PNG file (PNG, third edition, section 5)."""
    size, num_frames, has_profile, has_xmp, has_compressed_texts = (0, 0), 1, False, False, False
    colors: dict[bytes, tuple[int, ...]] = {}
    texts: list[bytes] = []
    kept: list[tuple[int, int]] = []
    kept_until, kind = 0, b""
    for kind, start, end in _chunks(data):
        content = data[start + 8 : min(start + 8 + _LONGEST_KEYWORD + 1, end - 4)]
        if kind == b"IHDR" and len(content) == 13:
            width, height = struct.unpack_from(">II", content)
            size = (height, width)
        elif kind == b"acTL" and len(content) == 8:
            (num_frames,) = struct.unpack_from(">I", content)
        elif kind in _COLOR_CHUNKS and len(content) == struct.calcsize(_COLOR_CHUNKS[kind]):
            colors.setdefault(kind, struct.unpack(_COLOR_CHUNKS[kind], content))
        elif kind == b"iCCP":
            has_profile = True
        elif kind in (b"iTXt", b"zTXt") and content.startswith(_XMP_KEYWORD) and not has_xmp:
            has_xmp = True  # stays where it is, for libvips to read
        elif kind in (b"tEXt", b"zTXt", b"iTXt"):
            kept.append((kept_until, start))
            kept_until = end
            if kind == b"zTXt" or (kind == b"iTXt" and content.partition(b"\0")[2][:1] == b"\1"):
                has_compressed_texts = True
            else:
                texts.append(data[start:end])
    primaries, transfer, matrix, full_range = colors.get(b"cICP", (0, 0, 0, 0))
    return Png(
        size,
        num_frames,
        has_profile,
        cicp=(primaries, transfer, matrix, full_range) if b"cICP" in colors else None,
        is_srgb=b"sRGB" in colors,
        chromaticities=colors.get(b"cHRM"),
        gamma=colors.get(b"gAMA", (0,))[0],
        has_compressed_texts=has_compressed_texts,
        is_whole=kind == b"IEND",
        texts=b"".join(texts),
        kept=(*kept, (kept_until, len(data))),
    )


def insert_texts(png: bytes, texts: bytes) -> bytes:
    """Return a PNG file with text chunks inserted behind its header."""
    return png[:_HEADER_END] + texts + png[_HEADER_END:]


def insert_texts_into_file(path: Path, texts: bytes) -> None:
    """Insert text chunks into a PNG file as `insert_texts` does, by moving what follows, its end first."""
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > _HEADER_END:
            start = max(_HEADER_END, end - _MOVED_BYTES)
            file.seek(start)
            moved = file.read(end - start)
            file.seek(start + len(texts))
            file.write(moved)
            end = start
        file.seek(_HEADER_END)
        file.write(texts)


def xmp_chunk(xmp: bytes) -> bytes:
    """Return XMP data as the uncompressed chunk that their specification requires; libvips writes a compressed one."""
    content = b"iTXt" + _XMP_KEYWORD + b"\0\0\0\0" + xmp  # not compressed, no language, no translated keyword
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def _chunks(data: Bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each complete chunk: length (4 bytes), kind (4), content, checksum (4)."""
    start, kind = 8, b""
    file_length = len(data)
    while kind != b"IEND" and start + 12 <= file_length:
        length, kind = struct.unpack(">I4s", data[start : start + 8])
        end = start + 12 + length
        if end > file_length:
            return
        yield kind, start, end
        start = end
