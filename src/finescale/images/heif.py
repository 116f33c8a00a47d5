"""HEIF files (AVIF, HEIC) as bytes: colours stated by numbers, and what is stored besides the picture.

A file is a tree of boxes (ISO/IEC 14496-12): length, kind, content. Nothing is decoded, and no memory is allocated on
the word of a file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_AUXILIARY = {
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha": None,
    b"urn:mpeg:hevc:2015:auxid:1": None,
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth": "depth map",
    b"urn:mpeg:hevc:2015:auxid:2": "depth map",
    b"urn:com:apple:photo:2020:aux:hdrgainmap": "gain map",
}
"""Names of auxiliary pictures by their type; None for transparency, which is read."""


@dataclass(frozen=True)
class Heif:
    """The boxes of an AVIF or HEIC file, in summary."""

    size: tuple[int, int]
    """(height, width) as the boxes state them, (0, 0) where they do not; libvips complains of absurd ones on standard
    error."""

    cicp: tuple[int, int] | None
    """ColourPrimaries and TransferCharacteristics of the picture (ITU-T H.273); None where they are not stated."""

    parts: tuple[str, ...]
    """What is stored besides the picture and is not read: gain map, depth map."""


def inspect_heif(data: bytes) -> Heif:
    """Summarize the boxes of an AVIF or HEIC file, as far as they are whole."""
    meta = _child(data, (0, len(data)), b"meta", skip=4)
    properties = _child(data, meta, b"iprp")
    numbered = list(_boxes(data, _child(data, properties, b"ipco")))  # items refer to them by their place
    primary = _primary_item(data, meta)
    size, cicp = (0, 0), None
    for index in _associations(data, properties, primary):
        kind, start, end = numbered[index - 1] if 1 <= index <= len(numbered) else (b"", 0, 0)
        if kind == b"colr" and data[start : start + 4] == b"nclx" and end - start >= 8:
            cicp = struct.unpack_from(">HH", data, start + 4)
        elif kind == b"ispe" and end - start >= 12:
            width, height = struct.unpack_from(">II", data, start + 4)
            size = (height, width)
    names = [
        _AUXILIARY.get(data[start + 4 : end].split(b"\0")[0], "auxiliary picture")
        for kind, start, end in numbered
        if kind == b"auxC"
    ]
    if any(_item_type(data, start, end) == b"tmap" for _, start, end in _items(data, meta)):
        names.append("gain map")
    return Heif(size, cicp, tuple(sorted({name for name in names if name is not None})))


Range = tuple[int, int]
"""Start and end of a box's content."""


def _boxes(data: bytes, within: Range) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the content of each whole box within a range."""
    at, end = within
    while at + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1 and at + 16 <= end:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        elif length == 0:  # to the end
            length = end - at
        if at + length > end or at + length < start:
            return
        yield kind, start, at + length
        at += length


def _child(data: bytes, within: Range, wanted: bytes, *, skip: int = 0) -> Range:
    """Return the content of the first box of a kind, without so many bytes at its start; an empty range for none."""
    return next(((start + skip, end) for kind, start, end in _boxes(data, within) if kind == wanted), (0, 0))


def _primary_item(data: bytes, meta: Range) -> int:
    """Return the number of the item that is the picture, 0 for none."""
    start, end = _child(data, meta, b"pitm")
    size = 4 if data[start : start + 1] != b"\0" else 2  # by the version of the box
    return int.from_bytes(data[start + 4 : min(start + 4 + size, end)], "big")


def _associations(data: bytes, properties: Range, wanted: int) -> Iterator[int]:
    """Yield the numbers, from 1, of the properties of an item."""
    for kind, start, end in _boxes(data, properties):
        if kind != b"ipma" or end - start < 8:
            continue
        item_size = 4 if data[start] else 2
        index_size = 2 if data[start + 3] & 1 else 1
        at = start + 8
        for _ in range(int.from_bytes(data[start + 4 : start + 8], "big")):
            if at + item_size + 1 > end:
                break
            item, number = int.from_bytes(data[at : at + item_size], "big"), data[at + item_size]
            at += item_size + 1
            if item == wanted:
                for place in range(at, min(at + number * index_size, end), index_size):
                    # The highest bit says whether the property is essential.
                    mask = 0x7FFF if index_size == 2 else 0x7F
                    yield int.from_bytes(data[place : place + index_size], "big") & mask
            at += number * index_size


def _items(data: bytes, meta: Range) -> Iterator[tuple[bytes, int, int]]:
    """Yield the box that describes each item."""
    start, end = _child(data, meta, b"iinf")
    count_size = 4 if data[start : start + 1] not in (b"", b"\0") else 2
    return _boxes(data, (start + 4 + count_size, end))


def _item_type(data: bytes, start: int, end: int) -> bytes:
    """Return the type of the item that a box of version 2 or 3 describes."""
    at = start + 4 + (4 if data[start : start + 1] == b"\3" else 2) + 2
    return data[at : min(at + 4, end)]
