"""Structural similarity (Wang, Bovik, Sheikh, Simoncelli, 2004)."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from finescale.metrics.planes import Channel, planes_to_compare

SSIM_WINDOW = 11
"""Side of the Gaussian window, in pixels: the smallest image that can be measured."""

_SIGMA = 1.5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2


def ssim(sr: Tensor, hr: Tensor, *, border: int, channel: Channel = "y", rounded: bool = True) -> float:
    """How alike the structures of an upscaled image and its original are; 1 means equal.

    Means, variances and the covariance are taken in a Gaussian window of 11 x 11 pixels, at every place where it lies
    inside the image. In float64, since the variances are small differences of large numbers.

    Args:
        sr: Upscaled image (C, H, W), RGB (or grey, C = 1) in [0, 1].
        hr: Original, same height, width and range.
        border: Pixels left out on every side; the papers use the scale.
        channel: "y" compares BT.601 luma, "rgb" is the mean of the three channels.
        rounded: Whether both are rounded to 8 bits first, as the papers do.

    Returns:
        The mean over all places, at most 1.

    Raises:
        ValueError: The sizes differ, or ``border`` leaves less than 11 x 11 pixels.

    Source: the papers' test protocol, spelled out in docs/evaluate.md.
    """
    ours, original = planes_to_compare(sr, hr, border=border, channel=channel, rounded=rounded)
    if min(ours.shape[-2:]) < SSIM_WINDOW:
        left = " x ".join(str(side) for side in ours.shape[-2:])
        raise ValueError(f"ssim needs at least {SSIM_WINDOW} x {SSIM_WINDOW} pixels inside the border, got {left}")
    similarities = [_similarity(x, y) for x, y in zip(ours, original, strict=True)]
    return sum(similarities) / len(similarities)


def _similarity(x: Tensor, y: Tensor) -> float:
    """Mean SSIM of two planes (H, W) on the scale 0..255."""
    mean_x, mean_y = _window_means(x), _window_means(y)
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    covariance = _window_means(x * y) - product
    variances = _window_means(x.square() + y.square()) - squares  # only their sum is needed
    return float(((2 * product + _C1) * (2 * covariance + _C2) / ((squares + _C1) * (variances + _C2))).mean())


def _window_means(plane: Tensor) -> Tensor:
    """Gaussian means (H - 10, W - 10) of a plane (H, W); the window is a product, so one pass per axis."""
    for dim in (0, 1):
        length = plane.shape[dim] - SSIM_WINDOW + 1
        means = torch.zeros_like(plane.narrow(dim, 0, length))
        for offset, weight in enumerate(_gaussian()):
            means.add_(plane.narrow(dim, offset, length), alpha=weight)
        plane = means
    return plane


@lru_cache
def _gaussian() -> tuple[float, ...]:
    distances = torch.arange(SSIM_WINDOW, dtype=torch.float64) - SSIM_WINDOW // 2
    weights = torch.exp(-distances.square() / (2 * _SIGMA**2))
    return tuple((weights / weights.sum()).tolist())
