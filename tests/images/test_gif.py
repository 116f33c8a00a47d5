"""GIF files that end early or hold wrong codes, which the decoder would pass over. Pillow writes them."""

from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from finescale.errors import ImageReadError
from finescale.images import decode_image
from finescale.images.gif import check_first_frame
from images.samples import as_levels

NOISE = Pillow.fromarray(np.random.default_rng(0).integers(0, 256, (90, 110), dtype=np.uint8)).convert("P")
FLAT = Pillow.new("P", (300, 200), 3)
TWO_COLOURS = Pillow.fromarray(np.random.default_rng(1).integers(0, 2, (21, 17), dtype=np.uint8) * 255).convert("1")


def written(picture: Pillow.Image = NOISE, **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, "GIF", **options)
    return file.getvalue()


def coded(
    codes: bytes, *, size: tuple[int, int] = (2, 2), bits: int = 2, colours: int = 4, before: bytes = b""
) -> bytes:
    """A file with given codes of 3 bits, the first in the lowest: 4 clears the table, 5 ends, 6 is the first string."""
    screen = b"GIF89a" + bytes([size[0], 0, size[1], 0, 0x80 | (colours.bit_length() - 2), 0, 0]) + bytes(3 * colours)
    frame = b"," + bytes(4) + bytes([size[0], 0, size[1], 0, 0, bits])
    return screen + before + frame + bytes([len(codes)]) + codes + b"\0;"


@pytest.mark.parametrize(
    "options",
    [{}, {"interlace": 1}, {"save_all": True, "append_images": [FLAT]}, {"transparency": 9}, {"comment": b"x" * 700}],
    ids=lambda options: next(iter(options), "plain"),
)
@pytest.mark.parametrize("picture", [NOISE, FLAT, TWO_COLOURS], ids=["noise", "flat", "two colours"])
def test_whole_files_are_read(picture: Pillow.Image, options: dict[str, object]) -> None:
    data = written(picture, **options)
    image = decode_image(data, name="a test")
    levels = as_levels(image.pixels, 8)
    if "transparency" in options:
        assert image.size == picture.size[::-1]
    else:
        expected = np.asarray(Pillow.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(np.broadcast_to(levels, expected.shape), expected)


@pytest.mark.parametrize("picture", [NOISE, TWO_COLOURS], ids=["noise", "two colours"])
def test_a_file_cut_within_its_first_frame_is_refused(picture: Pillow.Image) -> None:
    data = written(picture, save_all=True, append_images=[picture.rotate(180)])
    first = len(written(picture))
    for length in range(6, first - 8, 1 + first // 200):
        with pytest.raises(ImageReadError, match="truncated"):
            decode_image(data[:length], name="a test")


@pytest.mark.parametrize("missing", [1, 2], ids=["end of the file", "end of the blocks"])
def test_a_frame_is_whole_without_the_end_behind_it(missing: int) -> None:
    check_first_frame(written()[:-missing])


@pytest.mark.parametrize(
    ("codes", "problem"),
    [
        (0b101_001_100, "truncated GIF: 3 of the 4 pixels of its first frame are missing"),
        (0b110_100, "damaged GIF: the code 6 behind 0 pixels stands for nothing"),
        (0b111_001_100, "damaged GIF: the code 7 behind 1 pixels stands for nothing"),
    ],
    ids=["early end", "no string yet", "beyond the next string"],
)
def test_wrong_codes_are_refused(codes: int, problem: str) -> None:
    with pytest.raises(ImageReadError, match=problem):
        decode_image(coded(codes.to_bytes(2, "little")), name="a test")


def test_a_string_that_is_just_being_made_counts() -> None:
    check_first_frame(coded((0b001_110_001_100).to_bytes(2, "little")))  # 1, then "1 1", then 1


def test_a_colour_beyond_the_palette_is_refused_unless_it_is_transparent() -> None:
    codes = (0b011_000_001_000_100).to_bytes(2, "little")
    check_first_frame(coded(codes))
    with pytest.raises(ImageReadError, match="damaged GIF: a pixel refers to colour 3 of a palette of 2"):
        check_first_frame(coded(codes, colours=2))
    check_first_frame(coded(codes, colours=2, before=b"\x21\xf9\x04\x01\0\0\x03\0"))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (coded(b"\x44", bits=9), "damaged GIF: its codes begin with 9 bits"),
        (coded(b"", before=b";"), "the GIF file holds no picture"),
        (coded(b"", before=b"X"), "damaged GIF: 0x58 at byte 25 begins no block"),
        (coded(b"")[:30], "truncated GIF: it ends before its first frame"),
        (b"GIF89a", "truncated GIF: it ends before its first frame"),
    ],
)
def test_files_without_a_frame_are_refused(data: bytes, problem: str) -> None:
    with pytest.raises(ImageReadError, match=problem):
        check_first_frame(data)


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(written(TWO_COLOURS))
    for place, value in data.draw(
        st.dictionaries(st.integers(6, len(damaged) - 1), st.integers(0, 255), max_size=5)
    ).items():
        damaged[place] = value
    with suppress(ImageReadError):
        check_first_frame(bytes(damaged))
