"""Degradations of pictures from the web, applied to an HR image: blur, resizing, noise and JPEG.

A degraded picture is a pure function of the HR image, the settings, a seed and an index, as samples are. It stays in
register with the result of `finescale.resize.downsample`: every way of resizing keeps the borders where they are.

Source: the model of degradations is that of Real-ESRGAN (Wang et al., ICCV Workshops 2021), much milder by default.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from finescale.images import decode_image, encode_jpeg
from finescale.resize import downsample, resize, round_half_up
from finescale.settings import Settings

Number = TypeVar("Number", int, float)

BLOCK = 16
"""Side in lr pixels of a block that JPEG stores as one, with colour at half the height and width."""

REACH = 8
"""Distance in lr pixels beyond which the HR image has no visible influence on a degraded pixel."""


def _within(low: float, high: float) -> AfterValidator:
    """Return a check of a range: two numbers within these limits, the smaller one first."""

    def check(value: tuple[Number, Number]) -> tuple[Number, Number]:
        if not low <= value[0] <= value[1] <= high:
            raise ValueError(f"must be two numbers from {low:g} to {high:g}, the smaller one first")
        return value

    return AfterValidator(check)


Share = Annotated[float, Field(ge=0, le=1)]


class DegradationSettings(Settings):
    """How low-resolution pictures are degraded, like those from the web; the defaults are mild to medium."""

    clean: Share = 0.15
    """Share of samples made by the MATLAB-exact bicubic alone, so that clean pictures stay good; the fields below
    apply to the others."""
    blur: Share = 0.5
    """Share of samples whose HR image is blurred by a Gaussian first; 0 is neutral."""
    blur_sigma: Annotated[tuple[float, float], _within(0.1, 5)] = (0.4, 2.4)
    """Range of the Gaussian's standard deviation, in hr pixels."""
    anisotropic: Share = 0.3
    """Share of the blurs that are wider in one direction, at any angle, than in the other."""
    kernels: tuple[Literal["bicubic", "bilinear", "area"], ...] = Field(("bicubic", "bilinear", "area"), min_length=1)
    """Kernels that make pictures smaller, each with the same chance: bicubic, bilinear, area (the mean); all
    antialiased."""
    twice: Share = 0.3
    """Share of samples that go through resizing, noise and JPEG twice; 0 is neutral."""
    between: Annotated[tuple[float, float], _within(0.5, 4)] = (1.0, 2.0)
    """Range of the intermediate picture's sides, as multiples of the lr picture's; for ``twice``."""
    sharpen: Share = 0.0
    """Share of samples that are sharpened by an unsharp mask after resizing, in each pass, so that edges have halos; 0
    is neutral."""
    sharpen_amount: Annotated[tuple[float, float], _within(0, 5)] = (0.2, 1.0)
    """Range of the multiple of the difference to a blurred picture that sharpening adds."""
    noise: Share = 0.4
    """Share of samples that get noise, in each pass; 0 is neutral."""
    noise_sigma: Annotated[tuple[float, float], _within(0.1, 50)] = (0.5, 8.0)
    """Range of the noise's standard deviation, in 8-bit levels; of Poisson noise, where the picture is white."""
    poisson: Share = 0.3
    """Share of the noise that is Poisson noise, as from few photons; the rest is Gaussian."""
    gray_noise: Share = 0.4
    """Share of the noise that is the same in red, green and blue."""
    jpeg: Share = 0.85
    """Share of samples that are stored as JPEG, in each pass; 0 is neutral."""
    jpeg_quality: Annotated[tuple[int, int], _within(1, 100)] = (30, 95)
    """Range of the JPEG's quality."""
    subsampled: Share = 0.7
    """Share of the JPEGs that hold colour at half the height and width."""


def degrade(hr: Tensor, settings: DegradationSettings, *, scale: int, seed: int, index: int) -> Tensor:
    """Make a low-resolution picture of an HR image, as it might be found on the web.

    The HR image is first cut to a multiple of the scale (top left stays).

    Args:
        hr: HR image (1 or 3, H, W), uint8.
        settings: Which degradations, how often and how strong.
        scale: How many times smaller the result is.
        seed: Names a sequence of degradations; 0 to 2**64 - 1.
        index: The place in it; 0 to 2**64 - 1.

    Returns:
        (1 or 3, H // scale, W // scale), uint8.

    Raises:
        ValueError: ``hr`` is not uint8, or has no pixel left.
    """
    # Of all of NumPy's distributions only those of RandomState stay the same in every version. The counter keeps clear
    # of the numbers by which `Source.sample` draws the patch.
    random = np.random.RandomState(np.random.Philox(key=np.array([seed, index], dtype=np.uint64), counter=1 << 64))
    plain = downsample(hr, scale=scale)
    if random.uniform() < settings.clean:
        return plain
    height, width = plain.shape[-2:]
    image = hr[:, : scale * height, : scale * width].float()
    if random.uniform() < settings.blur:
        image = _blurred(image, settings, random)
    if random.uniform() < settings.twice:
        factor = random.uniform(*settings.between)
        between = max(1, round(factor * height)), max(1, round(factor * width))
        image = _resaved(image, between, settings, random)
    return round_half_up(_resaved(image, (height, width), settings, random))


def _resaved(
    image: Tensor, size: tuple[int, int], settings: DegradationSettings, random: np.random.RandomState
) -> Tensor:
    """Resize a picture (C, H, W), on the scale 0..255, then add noise and JPEG: one pass of `degrade`."""
    image = _resized(image, size, settings.kernels[random.randint(len(settings.kernels))])
    if settings.sharpen and random.uniform() < settings.sharpen:
        image = _sharpened(image, settings, random)
    if random.uniform() < settings.noise:
        image = image + _noise(image, settings, random)
    if random.uniform() < settings.jpeg:
        low, high = settings.jpeg_quality
        quality, subsample = random.randint(low, high + 1), random.uniform() < settings.subsampled
        encoded = encode_jpeg(round_half_up(image), quality=quality, subsample=subsample)
        image = decode_image(encoded, name="a degraded picture").pixels * 255
    return image


def _blurred(image: Tensor, settings: DegradationSettings, random: np.random.RandomState) -> Tensor:
    along = across = random.uniform(*settings.blur_sigma)
    if random.uniform() < settings.anisotropic:
        across = random.uniform(settings.blur_sigma[0], along)
    return _filtered(image, _gaussian(along, across, angle=random.uniform(0, math.pi)))


def _sharpened(image: Tensor, settings: DegradationSettings, random: np.random.RandomState) -> Tensor:
    """Add a multiple of the difference to a blurred picture, and cut off what is beyond black and white."""
    amount, sigma = random.uniform(*settings.sharpen_amount), random.uniform(0.5, 1.5)
    return (image + amount * (image - _filtered(image, _gaussian(sigma, sigma, angle=0)))).clamp(0, 255)


def _filtered(image: Tensor, kernel: Tensor) -> Tensor:
    """Filter each channel of a picture (C, H, W), the border repeated."""
    num_channels, radius = len(image), len(kernel) // 2
    padded = F.pad(image, (radius,) * 4, mode="replicate")
    return F.conv2d(padded, kernel.expand(num_channels, 1, -1, -1), groups=num_channels)


def _gaussian(along: float, across: float, *, angle: float) -> Tensor:
    """Return a kernel (side, side) of two standard deviations in pixels, the first at an angle to the rows."""
    radius = math.ceil(3 * max(along, across))
    steps = torch.arange(-radius, radius + 1)
    y, x = steps[:, None], steps
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = torch.exp(-((u / along) ** 2 + (v / across) ** 2) / 2)
    return kernel / kernel.sum()


def _resized(image: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """Resize a picture; enlarging always uses the bicubic, as the mean would only repeat pixels."""
    if kernel == "bicubic" or size[0] > image.shape[-2] or size[1] > image.shape[-1]:
        return resize(image, size=size)
    if kernel == "area":
        return F.interpolate(image[None], size=size, mode="area")[0]
    return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]


def _noise(image: Tensor, settings: DegradationSettings, random: np.random.RandomState) -> Tensor:
    """Return noise to add to a picture (C, H, W), with as many channels or one for all."""
    sigma = random.uniform(*settings.noise_sigma)
    is_poisson, is_gray = random.uniform() < settings.poisson, random.uniform() < settings.gray_noise
    light = image.mean(0, keepdim=True) if is_gray else image
    if not is_poisson:
        return torch.from_numpy(sigma * random.standard_normal(tuple(light.shape))).float()
    # Photons that make one level: white, 255 levels, then has the standard deviation asked for.
    photons = 255 / sigma**2
    expected = light.clamp(0, 255)
    return torch.from_numpy(random.poisson(expected.numpy() * photons) / photons).float() - expected
