"""TIFF files of any tags, put together by hand: no library writes what others get wrong."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Tags = Mapping[int, int | Sequence[int] | None]
"""Values by tag, SHORT or LONG; None leaves one out."""


@dataclass(frozen=True)
class Page:
    """A page: uncompressed samples (H, W) or (H, W, C), the tags that differ from the usual ones, sub-directories."""

    samples: npt.NDArray[np.generic]
    tags: Tags = field(default_factory=dict)
    subpages: Sequence[Page] = ()


def usual_tags(samples: npt.NDArray[np.generic]) -> dict[int, int | Sequence[int] | None]:
    """Return the tags that a common writer gives gray or RGB samples."""
    channels = samples.shape[2] if samples.ndim == 3 else 1
    return {
        256: samples.shape[1],
        257: samples.shape[0],
        258: [8 * samples.dtype.itemsize] * channels,
        259: 1,
        262: 2 if channels > 2 else 1,
        277: channels,
        278: samples.shape[0],
        339: [{"u": 1, "i": 2, "f": 3, "c": 6}[samples.dtype.kind]] * channels,
    }


def tiff_file(*pages: Page, byte_order: str = "<", is_big: bool = False) -> bytes:
    """Return a file of pages, each a single strip."""
    mark = {"<": b"II", ">": b"MM"}[byte_order]
    start = struct.pack(f"{byte_order}HHHQ", 43, 8, 0, 16) if is_big else struct.pack(f"{byte_order}HI", 42, 8)
    file = bytearray(mark + start)
    link = len(file) - (8 if is_big else 4)
    offset = f"{byte_order}{'Q' if is_big else 'I'}"
    for page in pages:
        at = _append(file, page, byte_order, is_big)
        struct.pack_into(offset, file, link, at)
        link = len(file) - struct.calcsize(offset)
    return bytes(file)


def _append(file: bytearray, page: Page, byte_order: str, is_big: bool) -> int:
    """Append a page, its directory last, and return the place of its directory."""
    size, count = ("Q", "Q") if is_big else ("I", "H")
    tags = usual_tags(page.samples) | dict(page.tags)
    if page.subpages:
        tags[330] = [_append(file, subpage, byte_order, is_big) for subpage in page.subpages]
    tags[273], tags[279] = len(file), page.samples.nbytes
    file += page.samples.astype(page.samples.dtype.newbyteorder(byte_order)).tobytes()
    entries = b""
    stated = sorted((tag, value) for tag, value in tags.items() if value is not None)
    for tag, value in stated:
        values = [value] if isinstance(value, int) else value
        kind = 4 if tag in (273, 279, 330) or max(values, default=0) > 0xFFFF else 3
        packed = struct.pack(f"{byte_order}{len(values)}{'I' if kind == 4 else 'H'}", *values)
        if len(packed) > struct.calcsize(f"={size}"):
            entries += struct.pack(f"{byte_order}HH{size}{size}", tag, kind, len(values), len(file))
            file += packed
        else:
            entries += struct.pack(f"{byte_order}HH{size}", tag, kind, len(values))
            entries += packed.ljust(struct.calcsize(f"={size}"), b"\0")
    at = len(file)
    file += struct.pack(f"{byte_order}{count}", len(stated)) + entries + bytes(struct.calcsize(f"={size}"))
    return at
