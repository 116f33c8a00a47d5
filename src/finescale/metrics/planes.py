"""Preparation of two images for a metric: checks, border, rounding to 8 bits, choice of channels."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from finescale.metrics.luma import rgb_to_y

Channel = Literal["y", "rgb"]
"""Channels that are compared: "y" is BT.601 luma, "rgb" all three channels."""


def planes_to_compare(sr: Tensor, hr: Tensor, *, border: int, channel: Channel, rounded: bool) -> tuple[Tensor, Tensor]:
    """Prepare two images for comparison, as the papers do.

    A gray image counts as three equal channels. The published code reads every file so, and its numbers depend on it:
    luma of a gray image spans 219 levels, which raises PSNR by 1.32 dB.

    Args:
        sr: Upscaled image (C, H, W) in [0, 1], RGB or, with C = 1, gray.
        hr: Original, same height and width, RGB or gray.
        border: Pixels cut off on every side; 0 cuts nothing.
        channel: "y" or "rgb".
        rounded: Whether both are rounded to 8 bits first, as the papers do.

    Returns:
        Both as (1 or 3, H - 2 * border, W - 2 * border), float64 on the scale 0..255; luma is never rounded.

    Raises:
        ValueError: A shape or dtype is wrong, the sizes differ, the border leaves no pixel, or the channel is unknown.
    """
    for name, image in (("sr", sr), ("hr", hr)):
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ValueError(f"{name} must be one image of shape (3, H, W) or (1, H, W), got {tuple(image.shape)}")
        if not torch.is_floating_point(image):
            raise ValueError(f"{name} must hold values from 0 to 1, got {image.dtype}; convert and divide by 255")
    if sr.shape[-2:] != hr.shape[-2:]:
        raise ValueError(
            f"sr is {_by(sr)} pixels and hr {_by(hr)}; cut hr to the size of lr times the scale, top left kept"
        )
    if channel not in get_args(Channel):
        raise ValueError(f"channel must be 'y' or 'rgb', got {channel!r}")
    if border < 0 or 2 * border >= min(sr.shape[-2:]):
        raise ValueError(f"border must be at least 0 and leave a pixel of {_by(sr)}, got {border}")
    planes = _levels(sr, border, rounded), _levels(hr, border, rounded)
    return (rgb_to_y(planes[0]), rgb_to_y(planes[1])) if channel == "y" else planes


def _levels(image: Tensor, border: int, rounded: bool) -> Tensor:
    """Cut the border, and return three channels on the scale 0..255; NaN stays NaN, and shows in the result."""
    height, width = image.shape[-2:]
    inner = image[..., border : height - border, border : width - border]
    levels = inner.double().clamp(0, 1) * 255
    return (levels.round() if rounded else levels).expand(3, -1, -1)


def _by(image: Tensor) -> str:
    return f"{image.shape[-2]} x {image.shape[-1]}"
