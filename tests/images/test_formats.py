"""The table of formats: signatures, and the manual's word on what each can hold."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from PIL import Image as Pillow

from finescale.errors import ImageReadError
from finescale.images import decode_image
from finescale.images.formats import (
    METADATA_NAMES,
    OUTPUT_FORMATS,
    READABLE_SUFFIXES,
    SIGNATURE_LENGTH,
    UNREADABLE_SUFFIXES,
    UNWRITABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    identify_format,
    unreadable_kind,
)
from images.samples import smooth

MANUAL = Path(__file__).parents[2] / "docs" / "formats.md"


@pytest.mark.parametrize("name", ["PNG", "JPEG", "WebP", "TIFF", "GIF", "AVIF", "BMP"])
def test_the_first_bytes_identify_a_format(name: str) -> None:
    file = io.BytesIO()
    Pillow.fromarray(smooth()).save(file, name.upper())
    assert identify_format(file.getvalue()) == name
    assert identify_format(file.getvalue()[:SIGNATURE_LENGTH]) == name


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n", b" BM", b"RIFF\0\0\0\0WAVE", b"text"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ImageReadError, match=r"not an image \(its first bytes are not those of PNG, JPEG, WebP, TIFF"):
        identify_format(data)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_files_of_phones_are_heic_unless_they_hold_av1(brand: bytes) -> None:
    assert identify_format(b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1heic") == "HEIC"
    assert identify_format(b"\0\0\0\x18ftyp" + brand + bytes(4) + b"mif1avif") == "AVIF"


UNREADABLE = {
    b"\x89PNG\r\n\x1a\n\0\0\0\4CgBI\x50\0\x20\2": "a PNG file for iPhone apps (CgBI)",
    b"II*\0\x10\0\0\0CR\2\0": "a camera raw file (CR2)",
    b"\0\0\0\x18ftypcrx \0\0\0\1crx isom": "a camera raw file (CR3)",
    b"FUJIFILMCCD-RAW 0201": "a camera raw file (RAF)",
    b"IIRO\x08\0\0\0": "a camera raw file (ORF)",
    b"IIU\0\x18\0\0\0": "a camera raw file (RW2)",
    b"FOVb\0\0\2\0": "a camera raw file (X3F)",
    b"\0MRM\0\0": "a camera raw file (MRW)",
    b"\xff\x0a\xf8\0": "a JPEG XL file",
    b"\0\0\0\x0cJXL \r\n\x87\n": "a JPEG XL file",
    b"\0\0\0\x0cjP  \r\n\x87\n": "a JPEG 2000 file",
    b"\xff\x4f\xff\x51\0": "a JPEG 2000 file",
    b"II\xbc\1": "a JPEG XR file",
    b"v/1\1\2\0\0\0": "an OpenEXR file",
    b"#?RADIANCE\n": "a Radiance HDR file",
    b"8BPS\0\1": "a Photoshop file",
    b"8BPS\0\2": "a Photoshop file",
    b"gimp xcf v011\0": "a GIMP file",
    b"\0\0\1\0\3\0": "an icon file",
    b"DDS \x7c\0\0\0": "a DDS file",
    b"qoif\0\0": "a QOI file",
    b"P6\n# made by hand\n3 2\n255\n": "a PNM file",
    b"%PDF-1.7": "a PDF file",
    b"<svg xmlns=": "an SVG file",
    b"\0\0\0\x20ftypisom": "a video",
    b"\x1a\x45\xdf\xa3": "a video",
}


@pytest.mark.parametrize(("data", "kind"), UNREADABLE.items())
def test_known_formats_that_are_not_read_are_refused_by_name(data: bytes, kind: str) -> None:
    assert unreadable_kind(data) == kind
    message = f"is {kind}, which finescale does not read; convert it to TIFF or PNG first"
    with pytest.raises(ImageReadError, match=re.escape(message)):
        decode_image(data, name="x")


@pytest.mark.parametrize("data", [b"", b"text", b"P8 1", b"P1: a note", b"II*\0\x10\0\0\0", b"\0\0\0\x18ftypheic"])
def test_other_files_are_not_taken_for_one(data: bytes) -> None:
    assert unreadable_kind(data) is None


def test_the_endings_of_pictures_are_those_that_are_read_or_not_and_written_or_not() -> None:
    assert {".jfif", ".jpe", ".mpo", ".dib", ".apng", ".heic", ".heif", ".gif", *WRITABLE_SUFFIXES} <= READABLE_SUFFIXES
    assert {
        ".jxl",
        ".exr",
        ".psd",
        ".cr2",
        ".nef",
        ".arw",
        ".raf",
        ".orf",
        ".rw2",
        ".cr3",
        ".dng",
    } <= UNREADABLE_SUFFIXES
    assert {".jxl", ".heic", ".gif", ".jfif"} <= UNWRITABLE_SUFFIXES
    assert not READABLE_SUFFIXES & UNREADABLE_SUFFIXES
    assert not UNWRITABLE_SUFFIXES & set(WRITABLE_SUFFIXES)
    every = READABLE_SUFFIXES | UNREADABLE_SUFFIXES
    assert every == UNWRITABLE_SUFFIXES | set(WRITABLE_SUFFIXES)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in every)


def test_the_manual_states_what_each_format_can_hold() -> None:
    lines = (line.strip("| \n").split(" | ") for line in MANUAL.read_text(encoding="utf-8").splitlines())
    table = {cells[0]: cells[1:] for cells in lines if len(cells) == 7}
    for written in OUTPUT_FORMATS.values():
        bits, gray, transparency, profile, metadata, largest_side = table[written.name]
        assert bits == {8: "8", 16: "8, 16"}[written.depth]
        assert gray == ("yes" if written.has_gray else "as RGB")
        assert transparency == ("yes" if written.has_alpha else "flattened on white")
        assert profile == ("yes" if written.has_profile else "no")
        names = [METADATA_NAMES[key].removesuffix(" data").removeprefix("PNG ") for key in written.metadata]
        assert metadata == (", ".join(names) or "none")
        assert largest_side in (str(written.max_side), f"2^{(written.max_side + 1).bit_length() - 1}")
