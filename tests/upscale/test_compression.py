"""What looks compressed: a JPEG file of low quality by its tables, other pictures by the blocks in their pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from finescale.errors import ImageReadError
from finescale.images import Image, decode_image, encode_jpeg, read_image
from finescale.resize import downsample, round_half_up
from finescale.upscale import compression as detection
from finescale.upscale.compression import QUALITIES, Compression
from upscale.stand_ins import natural


def compression_of(image: Image, *, scale: int = 4) -> Compression | None:
    return detection.compression_of(image, scale=scale)


def photo(height: int = 160, width: int = 200) -> Tensor:
    """8-bit pixels with fine detail everywhere, as photographs have."""
    grain = torch.randn(3, height, width, generator=torch.Generator().manual_seed(1))
    return round_half_up(255 * (0.1 + 0.8 * natural(height, width)) + 3 * grain)


def after_jpeg(levels: Tensor, quality: int) -> Image:
    return decode_image(encode_jpeg(levels, quality=quality, subsample=True), name="a test")


def pixels_alone(image: Image) -> Image:
    """The picture as a lossless file has it."""
    return Image(image.pixels)


@pytest.mark.parametrize("quality", [10, 40, QUALITIES[4]])
def test_a_jpeg_file_of_low_quality_looks_compressed_and_says_how_far(quality: int) -> None:
    compression = compression_of(after_jpeg(photo(), quality))
    assert compression is not None
    assert compression.quality == quality
    assert str(compression) == f"JPEG quality about {quality}"


@pytest.mark.parametrize("scale", QUALITIES)
def test_the_less_a_picture_is_enlarged_the_fewer_files_look_compressed(scale: int) -> None:
    best = QUALITIES[scale]
    assert compression_of(after_jpeg(photo(), best), scale=scale) == Compression(best)
    assert compression_of(Image(photo() / 255, jpeg_quality=best + 1), scale=scale) is None


def test_a_jpeg_file_of_high_quality_does_not() -> None:
    assert compression_of(after_jpeg(photo(), 95)) is None


def test_a_lossless_file_made_from_a_bad_jpeg_looks_compressed_however_it_was_cut() -> None:
    whole = pixels_alone(after_jpeg(photo(), 30))
    for top, left in ((0, 0), (3, 5), (7, 1)):
        compression = compression_of(Image(whole.pixels[:, top:, left:]))
        assert str(compression) == "blocks of a JPEG"
    gray = Image(whole.pixels.mean(0, keepdim=True))
    assert compression_of(gray) is not None


def test_a_jpeg_of_high_quality_made_from_a_bad_one_looks_compressed_too() -> None:
    again = after_jpeg(round_half_up(after_jpeg(photo(), 20).pixels * 255), 98)
    assert again.jpeg_quality == 98
    assert str(compression_of(again)) == "blocks of a JPEG"


def test_blocks_are_found_in_the_middle_of_a_large_picture() -> None:
    pixels = round_half_up(255 * torch.full((3, 1400, 1300), 0.5))
    pixels[:, 600:760, 560:760] = photo()
    assert compression_of(Image(pixels / 255)) is None
    large = after_jpeg(photo(1400, 1300), 30)
    assert compression_of(pixels_alone(large)) is not None


@pytest.mark.parametrize(
    "pixels",
    [
        photo() / 255,
        torch.rand(3, 120, 150, generator=torch.Generator().manual_seed(3)),
        torch.full((1, 100, 100), 0.3),
        torch.linspace(0, 1, 300).expand(3, 200, 300),
        (torch.arange(200) // 8 % 2).float().expand(3, 200, 200),  # bars as wide as a block, but with hard edges
        torch.rand(3, 1, 1),
        torch.rand(1, 20, 400),
        torch.rand(3, 400, 34),
    ],
    ids=["photo", "noise", "plain", "gradient", "bars", "pixel", "low", "narrow"],
)
def test_what_was_never_compressed_does_not_look_so(pixels: Tensor) -> None:
    assert compression_of(Image(pixels)) is None


def test_hostile_pictures_that_can_be_read_have_an_answer(data_root: Path) -> None:
    answers = set()
    for path in (data_root / "hostile").rglob("*"):
        try:
            image = read_image(path)
        except ImageReadError:
            continue
        answers.add(type(compression_of(image)))
    assert answers <= {Compression, type(None)}
    assert answers


def test_kodak_s_pictures_are_told_apart_from_their_jpegs(data_root: Path) -> None:
    paths = sorted((data_root / "valid" / "kodak24").glob("*.png"))[::4]
    if not paths:
        pytest.skip("FINESCALE_DATA holds no valid/kodak24")
    for path in paths:
        original = downsample(round_half_up(read_image(path).pixels * 255), scale=2)
        assert compression_of(Image(original / 255)) is None, path
        assert compression_of(pixels_alone(after_jpeg(original, 50))) is not None, path
