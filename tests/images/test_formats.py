"""The table of formats: signatures, and the manual's word on what each can hold."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image as Pillow

from finescale.errors import ImageReadError
from finescale.images.formats import METADATA_NAMES, OUTPUT_FORMATS, SIGNATURE_LENGTH, identify_format
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
