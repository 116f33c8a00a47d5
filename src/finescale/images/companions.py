"""What cameras and phones store behind the picture of a JPEG file: further pictures, gain maps, motion video."""

from __future__ import annotations

import re

from finescale.images.image import Notes

_GAIN_MAP = re.compile(
    rb"http://ns\.adobe\.com/hdr-gain-map/|http://ns\.apple\.com/HDRGainMap/|urn:iso:std:iso:ts:21496:-1"
)
_MARKER = re.compile(rb"\xff[^\0\xff\xd0-\xd7]", re.DOTALL)  # within a scan: not a stuffed, fill or restart byte
_START_OF_PICTURE = b"\xff\xd8\xff"
_VIDEO = re.compile(rb"ftyp(?:mp4|iso|qt|avc|3gp|M4V|MSNV|hvc)")


def companion_notes(data: bytes) -> Notes:
    """Return notes about what follows the picture of a JPEG file and is not read."""
    end = _end_of_picture(data, 0)
    video = _VIDEO.search(data, end)
    until = video.start() if video else len(data)
    num_pictures, at = 0, data.find(_START_OF_PICTURE, end, until)
    while at >= 0:
        num_pictures += 1
        at = data.find(_START_OF_PICTURE, _end_of_picture(data, at), until)
    notes = []
    if num_pictures and _GAIN_MAP.search(data, 0, until):
        notes.append("the gain map is dropped: the result is not HDR")
        num_pictures -= 1
    if num_pictures:
        notes.append(f"{num_pictures} further picture{'s are' if num_pictures > 1 else ' is'} not upscaled")
    if video:
        notes.append("the motion video is dropped")
    return tuple(notes)


def _end_of_picture(data: bytes, start: int) -> int:
    """Return the place behind the end marker of the picture that starts at a place; the end of the data for none."""
    at = start + 2
    while (found := _MARKER.search(data, at)) is not None:
        kind = data[found.start() + 1]
        if kind == 0xD9:
            return found.end()
        length = int.from_bytes(data[found.end() : found.end() + 2], "big")
        at = found.end() + max(length, 2)
    return len(data)
