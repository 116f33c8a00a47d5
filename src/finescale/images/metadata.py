"""Checks and corrections of metadata: ICC profiles, and the orientation and the thumbnail in EXIF.

libvips' own field ``orientation`` is no replacement: it corrects the EXIF data of written files, but not those of
`Image.metadata`, and it does not report damaged EXIF data.
"""

from __future__ import annotations

import struct

_EXIF_ORIENTATION, _EXIF_LONG = 0x0112, 4  # a tag, and a type of value


def profile_mismatch(profile: bytes, num_channels: int) -> str | None:
    """Return what is wrong with an ICC profile for gray (1) or RGB (3) pixels, or None (ICC.1:2022, section 7.2)."""
    if len(profile) < 128 or profile[36:40] != b"acsp" or int.from_bytes(profile[:4], "big") > len(profile):
        return "is damaged"
    space, pixels = {1: (b"GRAY", "gray"), 3: (b"RGB ", "RGB")}[num_channels]
    return None if profile[16:20] == space else f"does not fit {pixels} pixels"


def upright_exif(exif: bytes) -> bytes | None:
    """Return EXIF data, or None where their first directory is damaged.

    The orientation is set to upright; the second directory, of a thumbnail that will not fit the result, is unlinked.
    """
    start = 6 if exif.startswith(b"Exif\0\0") else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None:
        return None
    upright = bytearray(exif)
    try:
        (offset,) = struct.unpack_from(f"{order}I", exif, start + 4)
        (num_entries,) = struct.unpack_from(f"{order}H", exif, start + offset)
        end = start + offset + 2 + 12 * num_entries
        for entry in range(start + offset + 2, end, 12):
            tag, kind = struct.unpack_from(f"{order}HH", exif, entry)
            if tag == _EXIF_ORIENTATION:  # a SHORT, but some programs write a LONG, which libvips applies as well
                struct.pack_into(f"{order}{'I' if kind == _EXIF_LONG else 'H'}", upright, entry + 8, 1)
        if end + 4 <= len(exif):  # some programs leave out the link to a second directory
            struct.pack_into(f"{order}I", upright, end, 0)
    except struct.error:
        return None
    return bytes(upright)
