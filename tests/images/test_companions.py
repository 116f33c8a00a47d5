"""What is stored behind the picture of a JPEG file is reported, and what only looks like it is not."""

from __future__ import annotations

import io

import pytest
from PIL import Image as Pillow

from finescale.images import decode_image
from finescale.images.companions import companion_notes
from images.samples import smooth

VIDEO = b"\0\0\0\x18ftypmp42" + bytes(40) + b"\xff\xd8\xff" * 5
GAIN_MAP = b'<a xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>'


def saved(**options: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(smooth()).save(file, "JPEG", **options)
    return file.getvalue()


def thumbnail_inside() -> bytes:
    """A picture with another one within its EXIF data."""
    exif = b"Exif\0\0" + saved()
    data = saved()
    return data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:]


@pytest.mark.parametrize(
    ("behind", "notes"),
    [
        (b"", ()),
        (bytes(1000), ()),
        (b"random bytes", ()),
        (saved(), ("1 further picture is not upscaled",)),
        (bytes(7) + saved() + b"gap" + saved(), ("2 further pictures are not upscaled",)),
        (thumbnail_inside(), ("1 further picture is not upscaled",)),
        (VIDEO, ("the motion video is dropped",)),
        (saved() + VIDEO, ("1 further picture is not upscaled", "the motion video is dropped")),
    ],
    ids=["nothing", "zeros", "text", "picture", "two", "with a thumbnail", "video", "picture and video"],
)
@pytest.mark.parametrize("progressive", [False, True])
def test_what_follows_the_picture_is_reported(behind: bytes, notes: tuple[str, ...], progressive: bool) -> None:
    assert decode_image(saved(progressive=progressive) + behind, name="x.jpg").notes == notes


def test_a_gain_map_is_told_from_other_pictures() -> None:
    marked = saved(xmp=GAIN_MAP)
    dropped = "the gain map is dropped: the result is not HDR"
    assert companion_notes(marked + saved()) == (dropped,)
    assert companion_notes(marked + saved() + saved()) == (dropped, "1 further picture is not upscaled")
    assert companion_notes(marked) == ()  # already lost
    iso = b"urn:iso:std:iso:ts:21496:-1\0\0\0\0\0"
    data = saved()
    data = data[:2] + b"\xff\xe2" + (len(iso) + 2).to_bytes(2, "big") + iso + data[2:]
    assert companion_notes(data + saved()) == (dropped,)


def test_a_picture_inside_its_own_metadata_is_no_second_one() -> None:
    assert companion_notes(thumbnail_inside()) == ()


def test_cut_files_end() -> None:
    whole = saved(restart_marker_rows=1) + saved()
    for length in range(len(whole)):
        companion_notes(whole[:length])
