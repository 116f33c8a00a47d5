"""JPEG files: the quality, estimated from the tables; the end, which may be missing; kinds. Pillow is the reference."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from finescale.errors import ImageReadError
from finescale.images import decode_image, encode_jpeg, encode_png
from finescale.images.jpeg import jpeg_quality

LEVELS = torch.arange(3 * 16 * 24, dtype=torch.int64).reshape(3, 16, 24).remainder(256).to(torch.uint8)


def jpeg(quality: int, *, gray: bool = False, **options: object) -> bytes:
    file = io.BytesIO()
    picture = Pillow.fromarray(LEVELS.permute(1, 2, 0).numpy())
    (picture.convert("L") if gray else picture).save(file, "JPEG", quality=quality, **options)
    return file.getvalue()


@pytest.mark.parametrize("quality", [1, 5, 10, 25, 40, 50, 75, 90, 95, 99, 100])
def test_the_quality_is_the_encoder_s(quality: int) -> None:
    data = jpeg(quality)
    near = 1 if quality > 5 else 4  # steps end at 255, so that the lowest qualities are nearly one
    assert jpeg_quality(data) == pytest.approx(quality, abs=near)
    assert decode_image(data, name="a test").jpeg_quality == jpeg_quality(data)


@pytest.mark.parametrize("quality", [10, 30, 72, 96])
def test_our_own_jpegs_say_what_they_were_made_with(quality: int) -> None:
    for subsample in (True, False):
        assert jpeg_quality(encode_jpeg(LEVELS, quality=quality, subsample=subsample)) == quality
    assert jpeg_quality(encode_jpeg(LEVELS[:1], quality=quality, subsample=True)) == quality


def test_gray_progressive_and_files_with_much_metadata_say_it_too() -> None:
    assert jpeg_quality(jpeg(60, gray=True)) == 60
    assert jpeg_quality(jpeg(60, progressive=True)) == 60
    assert jpeg_quality(jpeg(60, comment=b"x" * 60_000, icc_profile=b"y" * 200_000)) == 60


def test_tables_of_other_encoders_are_taken_for_the_nearest_quality() -> None:
    assert jpeg_quality(b"\xff\xd8\xff\xdb\x00\x43\x00" + bytes([12] * 64)) == 90


def test_tables_of_two_bytes_a_step_are_read() -> None:
    steps = np.full(64, 300, dtype=">u2").tobytes()
    assert jpeg_quality(b"\xff\xd8\xff\xdb\x00\x83\x10" + steps) == 1


def test_a_picture_that_is_no_jpeg_has_no_quality() -> None:
    assert decode_image(encode_png(LEVELS), name="a test").jpeg_quality is None


def test_a_file_that_ends_before_its_tables_has_no_quality() -> None:
    assert [jpeg_quality(jpeg(50)[:length]) for length in (0, 1, 3, 10, 60)] == [None] * 5


@given(st.data())
@settings(deadline=None)
def test_no_damaged_file_gives_more_than_a_quality_or_nothing(data: st.DataObject) -> None:
    whole = jpeg(50)
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place, value in data.draw(st.dictionaries(st.integers(0, 700), st.integers(0, 255), max_size=20)).items():
        if place < len(damaged):
            damaged[place] = value
    assert jpeg_quality(bytes(damaged)) in {None, *range(1, 101)}


@pytest.mark.parametrize(
    ("levels", "quality", "message"),
    [
        (LEVELS.float(), 50, "levels must be uint8"),
        (LEVELS[:2], 50, "levels must be uint8"),
        (LEVELS, 0, "quality must be between 1 and 100, got 0"),
        (LEVELS, 101, "quality must be between 1 and 100, got 101"),
    ],
)
def test_what_cannot_be_a_jpeg_is_refused(levels: torch.Tensor, quality: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode_jpeg(levels, quality=quality, subsample=True)


# ------------------------------------------------------------------------------------------------------------- the end

NOISE = np.random.default_rng(0).integers(0, 256, (41, 50, 3), dtype=np.uint8)
KINDS = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "gray": {"mode": "L"},
    "progressive": {"progressive": True},
    "progressive gray": {"progressive": True, "mode": "L"},
    "restarts": {"restart_marker_rows": 1},
    "restarts 4:4:4": {"restart_marker_blocks": 1, "subsampling": 0},
}
HEIGHTS = [1, 16, 33]  # the decoder reports late, by rows of blocks of 8 or 16


def noisy_jpeg(*, height: int = 41, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(NOISE[:height]).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_lacks_only_its_end_marker_is_whole(kind: str, height: int) -> None:
    data = noisy_jpeg(height=height, **KINDS[kind])
    assert data.endswith(b"\xff\xd9")
    whole = decode_image(data, name="a test")
    assert whole.notes == ()
    for missing in (1, 2):
        image = decode_image(data[:-missing], name="a test")
        assert torch.equal(image.pixels, whole.pixels)
        assert image.notes == ("its end marker is missing; its pixels are all there",)


def damaged_jpegs(kind: str, height: int) -> Iterator[tuple[bytes, int]]:
    """A whole file, and lengths to which it is cut: near its end, all over, and between scans and intervals."""
    data = noisy_jpeg(height=height, **KINDS[kind])
    cuts = {*range(4, len(data) - 2, 1 + len(data) // 12), *range(len(data) - 10, len(data) - 2)}
    cuts |= {match.start() for match in re.finditer(rb"\xff[\xc4\xda\xd0-\xd7]", data)}
    yield from ((data, length) for length in sorted(cuts))


@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_lacks_more_is_refused(kind: str, height: int) -> None:
    for data, length in damaged_jpegs(kind, height):
        for end in (b"", b"\xff\xd9") if "progressive" not in kind else (b"",):
            with pytest.raises(ImageReadError, match="a test: truncated"):
                decode_image(data[:length] + end, name="a test")


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_in_place_of_the_end_are_not_taken_for_pixels(kind: str) -> None:
    for data, length in damaged_jpegs(kind, 33):
        if data[length - 1] != 0xFF:
            with pytest.raises(ImageReadError, match="a test: truncated"):
                decode_image(data[:length].ljust(len(data), b"\0"), name="a test")


@pytest.mark.parametrize("kind", ["4:2:0", "progressive"])
def test_bytes_between_segments_hide_no_end(kind: str) -> None:
    data = noisy_jpeg(**KINDS[kind])
    start = data.index(b"\xff\xdb")
    image = decode_image(data[:start] + b"junk" + data[start:], name="a test")
    assert image.notes == (
        "the decoder reports a defect (Corrupt JPEG data: 4 extraneous bytes before marker 0xdb); check the result",
    )


def test_numbers_that_are_idle_in_a_scan_are_not_asked() -> None:
    data = bytearray(noisy_jpeg()[:-2])
    start = data.index(b"\xff\xda")
    data[start + 11 : start + 14] = b"\0\0\0"  # as some cameras write them
    with pytest.raises(ImageReadError, match="Invalid SOS parameters for sequential JPEG"):
        decode_image(bytes(data), name="a test")
    assert decode_image(bytes(data) + b"\xff\xd9", name="a test").size == (41, 50)


@pytest.mark.parametrize(
    ("marker", "bits", "problem"),
    [
        (0xC1, 12, "12 bits per channel"),
        (0xC2, 12, "12 bits per channel"),
        (0xC3, 8, "lossless or hierarchical coding"),
        (0xC5, 8, "lossless or hierarchical coding"),
        (0xF7, 8, "lossless or hierarchical coding"),
    ],
)
def test_kinds_that_are_not_read_are_refused_by_name(marker: int, bits: int, problem: str) -> None:
    data = bytearray(noisy_jpeg())
    frame = data.index(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, bits
    with pytest.raises(ImageReadError, match=f"a JPEG file with {problem} is not supported; convert it to PNG or TIFF"):
        decode_image(bytes(data), name="a test")
