"""What pictures from the web have gone through, done to an original: blur, resizing, noise and JPEG.

A degraded picture is a pure function of the original, the settings, a seed and an index, as samples are. It stays in
register with what `finescale.resize.downsample` makes: every way of resizing keeps the borders where they are.

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
"""Side in lr pixels of what JPEG stores together, where it holds colour at half the height and width."""

REACH = 8
"""How many lr pixels away a degraded pixel is still influenced by the original, for all that can be seen."""


def _within(low: float, high: float) -> AfterValidator:
    """Checks a range: two numbers that rise, none beyond these limits."""

    def check(value: tuple[Number, Number]) -> tuple[Number, Number]:
        if not low <= value[0] <= value[1] <= high:
            raise ValueError(f"must be two numbers from {low:g} to {high:g}, the smaller one first")
        return value

    return AfterValidator(check)


Share = Annotated[float, Field(ge=0, le=1)]


class DegradationSettings(Settings):
    """Low-resolution pictures like those from the web; the defaults are mild to medium."""

    clean: Share = 0.15
    """Share of samples that the MATLAB-exact bicubic makes, and nothing else, so that clean pictures stay good; all
    that follows is about the others."""
    blur: Share = 0.5
    """Share of samples whose original is blurred by a Gaussian first; 0 is neutral."""
    blur_sigma: Annotated[tuple[float, float], _within(0.1, 5)] = (0.4, 2.4)
    """Standard deviation of the Gaussian in hr pixels, from and to."""
    anisotropic: Share = 0.3
    """Share of the blurs that are wider in one direction, at any angle, than across it."""
    kernels: tuple[Literal["bicubic", "bilinear", "area"], ...] = Field(("bicubic", "bilinear", "area"), min_length=1)
    """What makes pictures smaller, each with the same chance: bicubic, bilinear, area (the mean); all antialiased."""
    twice: Share = 0.3
    """Share of samples that are resized, and given noise and JPEG, a first time on the way; 0 is neutral."""
    between: Annotated[tuple[float, float], _within(0.5, 4)] = (1.0, 2.0)
    """Sides of the picture on the way as multiples of the lr picture's, from and to."""
    noise: Share = 0.4
    """Share of samples that get noise, each time; 0 is neutral."""
    noise_sigma: Annotated[tuple[float, float], _within(0.1, 50)] = (0.5, 8.0)
    """Standard deviation of the noise in 8-bit levels, of Poisson noise where it is white, from and to."""
    poisson: Share = 0.3
    """Share of the noise that is of the Poisson kind, as of few photons; the rest is Gaussian."""
    gray_noise: Share = 0.4
    """Share of the noise that is the same in red, green and blue."""
    jpeg: Share = 0.85
    """Share of samples that are stored as JPEG, each time; 0 is neutral."""
    jpeg_quality: Annotated[tuple[int, int], _within(1, 100)] = (30, 95)
    """Quality of the JPEG, from and to."""
    subsampled: Share = 0.7
    """Share of the JPEGs that hold colour at half the height and width."""


def degrade(hr: Tensor, settings: DegradationSettings, *, scale: int, seed: int, index: int) -> Tensor:
    """A low-resolution picture of an original, as the web might have it.

    The original is first cut to a multiple of the scale (top left stays).

    Args:
        hr: Original (1 or 3, H, W), uint8.
        settings: What is done, how often and how much.
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
        on_the_way = max(1, round(factor * height)), max(1, round(factor * width))
        image = _passed_on(image, on_the_way, settings, random)
    return round_half_up(_passed_on(image, (height, width), settings, random))


def _passed_on(
    image: Tensor, size: tuple[int, int], settings: DegradationSettings, random: np.random.RandomState
) -> Tensor:
    """What becomes of a picture (C, H, W), on the scale 0..255, each time that somebody saves it at another size."""
    image = _resized(image, size, settings.kernels[random.randint(len(settings.kernels))])
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
    kernel = _gaussian(along, across, angle=random.uniform(0, math.pi))
    num_channels, radius = len(image), len(kernel) // 2
    padded = F.pad(image, (radius,) * 4, mode="replicate")
    return F.conv2d(padded, kernel.expand(num_channels, 1, -1, -1), groups=num_channels)


def _gaussian(along: float, across: float, *, angle: float) -> Tensor:
    """A kernel (side, side) of two standard deviations in pixels, the first at an angle to the rows."""
    radius = math.ceil(3 * max(along, across))
    steps = torch.arange(-radius, radius + 1)
    y, x = steps[:, None], steps
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = torch.exp(-((u / along) ** 2 + (v / across) ** 2) / 2)
    return kernel / kernel.sum()


def _resized(image: Tensor, size: tuple[int, int], kernel: str) -> Tensor:
    """A picture at another size; where it grows, by the bicubic, as the mean would only repeat pixels."""
    if kernel == "bicubic" or size[0] > image.shape[-2] or size[1] > image.shape[-1]:
        return resize(image, size=size)
    if kernel == "area":
        return F.interpolate(image[None], size=size, mode="area")[0]
    return F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]


def _noise(image: Tensor, settings: DegradationSettings, random: np.random.RandomState) -> Tensor:
    """What is added to a picture (C, H, W): as many channels, or one for all."""
    sigma = random.uniform(*settings.noise_sigma)
    is_poisson, is_gray = random.uniform() < settings.poisson, random.uniform() < settings.gray_noise
    light = image.mean(0, keepdim=True) if is_gray else image
    if not is_poisson:
        return torch.from_numpy(sigma * random.standard_normal(tuple(light.shape))).float()
    # Photons that make one level: white, 255 levels, then has the standard deviation asked for.
    photons = 255 / sigma**2
    expected = light.clamp(0, 255)
    return torch.from_numpy(random.poisson(expected.numpy() * photons) / photons).float() - expected
