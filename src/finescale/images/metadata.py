"""Checks and corrections of metadata: ICC profiles, and the orientation, the size and the thumbnail in EXIF.

libvips' own field ``orientation`` is no replacement: it corrects the EXIF data of written files, but not those of
`Image.metadata`, and it does not report damaged EXIF data.
"""

from __future__ import annotations

import struct

_ORIENTATION, _HEIGHT_AND_WIDTH = 0x0112, (0x0101, 0x0100)  # tags
_LONGEST_NAME = 80  # characters
_LONG = 4  # a type of value, 32 bits; SHORT has 16


def profile_mismatch(profile: bytes, num_channels: int) -> str | None:
    """Return what is wrong with an ICC profile for gray (1) or RGB (3) pixels, or None (ICC.1:2022, section 7.2)."""
    if len(profile) < 128 or profile[36:40] != b"acsp" or int.from_bytes(profile[:4], "big") > len(profile):
        return "is damaged"
    space, pixels = {1: (b"GRAY", "gray"), 3: (b"RGB ", "RGB")}[num_channels]
    return None if profile[16:20] == space else f"does not fit {pixels} pixels"


def profile_name(profile: bytes) -> str | None:
    """Return the name of an ICC profile, of at most 80 printable characters, or None where it has none.

    Args:
        profile: One that `profile_mismatch` accepts.

    Source: ICC.1:2022, sections 7.3 (tags), 9.2.41 (profileDescriptionTag) and 10.15 (multiLocalizedUnicodeType);
    ICC.1:2001-04, section 6.5.17 (textDescriptionType, of older profiles).
    """
    (num_tags,) = struct.unpack_from(">I", profile.ljust(132, b"\0"), 128)
    for place in range(132, min(132 + 12 * num_tags, len(profile) - 11), 12):
        signature, start, length = struct.unpack_from(">4sII", profile, place)
        if signature == b"desc":
            name = _description(profile[start : start + length])
            return "".join(c for c in name if c.isprintable()).strip()[:_LONGEST_NAME] or None
    return None


def _description(tag: bytes) -> str:
    """Return the text of a description: the first language of type mluc, or the ASCII text of type desc."""
    if tag[:4] == b"mluc" and len(tag) >= 28:
        length, start = struct.unpack_from(">II", tag, 20)
        return tag[start : start + length].decode("utf-16-be", errors="ignore")
    if tag[:4] == b"desc" and len(tag) >= 12:
        (length,) = struct.unpack_from(">I", tag, 8)
        return tag[12 : 12 + length].decode("ascii", errors="ignore")
    return ""


def upright_exif(exif: bytes) -> bytes | None:
    """Return EXIF data, or None where their first directory is damaged.

    The orientation is set to upright; the second directory, of a thumbnail that will not fit the result, is unlinked.
    """
    try:
        order, places, link = _first_directory(exif)
    except ValueError:
        return None
    upright = bytearray(exif)
    if _ORIENTATION in places:  # a SHORT, but some programs write a LONG, which libvips applies as well
        _set_short_or_long(upright, order, places[_ORIENTATION], 1)
    if link + 4 <= len(exif):  # some programs leave it out
        struct.pack_into(f"{order}I", upright, link, 0)
    return bytes(upright)


def resized_exif(exif: bytes, size: tuple[int, int]) -> bytes:
    """Return EXIF data whose first directory, where it states a size, states another: (height, width).

    The size that cameras write, in the directory of the photograph, is set by libvips.

    Raises:
        ValueError: The first directory is damaged.
    """
    order, places, _ = _first_directory(exif)
    resized = bytearray(exif)
    for tag, side in zip(_HEIGHT_AND_WIDTH, size, strict=True):
        if tag in places:
            _set_short_or_long(resized, order, places[tag], side)
    return bytes(resized)


def _first_directory(exif: bytes) -> tuple[str, dict[int, int], int]:
    """Return the byte order, the place of each entry by its tag, and the place of the link to the next directory.

    Raises:
        ValueError: The directory is damaged.
    """
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None:
        raise ValueError("EXIF data have no byte order")
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, start + 4)
        (num_entries,) = struct.unpack_from(f"{order}H", exif, start + offset)
        first = start + offset + 2
        end = first + 12 * num_entries
        places = {struct.unpack_from(f"{order}H6xI", exif, place)[0]: place for place in range(first, end, 12)}
    except struct.error:
        raise ValueError("the first directory of EXIF data does not lie within them") from None
    return order, places, end


def _set_short_or_long(exif: bytearray, order: str, place: int, value: int) -> None:
    """Set the value of an entry, a SHORT where it was one and is large enough."""
    (kind,) = struct.unpack_from(f"{order}H", exif, place + 2)
    is_long = kind == _LONG or value > 0xFFFF
    struct.pack_into(f"{order}HI{'I' if is_long else 'H'}", exif, place + 2, _LONG if is_long else kind, 1, value)
