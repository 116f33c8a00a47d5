"""What looks noisy: pictures whose colours differ between neighbouring pixels everywhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from finescale.images import Image, decode_image, encode_jpeg, read_image
from finescale.resize import downsample, round_half_up
from finescale.upscale.compression import Compression
from finescale.upscale.flaws import flaw_of
from finescale.upscale.noise import LEVELS, Noise, noise_of
from upscale.stand_ins import natural


def noisy(level: float, *, height: int = 160, width: int = 200, is_gray: bool = False) -> Image:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(1 if is_gray else 3, height, width, generator=generator)
    levels = 255 * (0.1 + 0.8 * natural(height, width)) + level * noise
    return Image(round_half_up(levels.clamp(0, 255)) / 255)


@pytest.mark.parametrize("level", [4, 8, 16])
def test_the_level_of_noise_is_found(level: float) -> None:
    found = noise_of(noisy(level), scale=4)
    assert found is not None
    assert found.level == pytest.approx(level, rel=0.1)
    assert found.look == f"noisy (about {found.level:.0f} levels)"


@pytest.mark.parametrize("scale", LEVELS)
def test_the_less_a_picture_is_enlarged_the_more_noise_is_allowed(scale: int) -> None:
    assert noise_of(noisy(0.8 * LEVELS[scale]), scale=scale) is None
    assert noise_of(noisy(1.2 * LEVELS[scale]), scale=scale) is not None


def test_clean_pictures_of_any_size_are_not_noisy() -> None:
    still_life = round_half_up(255 * read_image(Path(__file__).parents[2] / "examples" / "still_life.png").pixels)
    for levels in (still_life, downsample(still_life, scale=2), still_life[:, :20, :20], still_life[:, :1, :1]):
        assert noise_of(Image(levels / 255), scale=4) is None


@pytest.mark.parametrize(
    "image", [noisy(12, is_gray=True), Image(noisy(12).pixels[:1]), noisy(12, height=20, width=40)]
)
def test_noise_without_colour_or_in_too_few_pixels_is_not_seen(image: Image) -> None:
    assert noise_of(image, scale=4) is None


def test_a_large_picture_is_judged_by_its_middle() -> None:
    pixels = torch.full((3, 1400, 1300), 0.5)
    pixels[:, 188:1212, 138:1162] += 0.04 * torch.randn(3, 1024, 1024, generator=torch.Generator().manual_seed(0))
    assert noise_of(Image(pixels), scale=4) is not None
    assert noise_of(Image(pixels.roll((700, 650), (1, 2))), scale=4) is None


def test_compression_is_told_before_noise() -> None:
    def stored(levels: Tensor, quality: int) -> Image:
        return decode_image(encode_jpeg(levels, quality=quality, subsample=False), name="a test")

    levels = round_half_up(255 * noisy(12).pixels)
    assert flaw_of(stored(levels, 60), scale=4) == Compression(60)
    assert isinstance(flaw_of(Image(levels / 255), scale=4), Noise)
    assert flaw_of(noisy(0), scale=4) is None


def test_no_picture_of_kodak_looks_noisy_until_it_is(data_root: Path) -> None:
    for path in sorted((data_root / "valid" / "kodak24").glob("*.png")):
        levels = downsample(round_half_up(255 * read_image(path).pixels), scale=2)
        assert noise_of(Image(levels / 255), scale=4) is None, path
        noise = 6 * torch.randn(levels.shape, generator=torch.Generator().manual_seed(0))
        assert noise_of(Image((levels + noise).round().clamp(0, 255) / 255), scale=4) is not None, path
