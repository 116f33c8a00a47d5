"""Images of a few pixels: they are extended before the network sees them, and the result is cropped.

At its border a network sees zeros, which it takes for dark surroundings. Of an image of a few pixels all is border: a
white pixel would come out gray or coloured. And where each pixel is a detail, a network invents colours; so the pixels
that one becomes keep its colour as their mean.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_SMALLEST = 8
"""Images with no shorter side are upscaled as they are."""

_MARGIN = 8
"""Lr pixels by which smaller ones are extended on each side; with more, results differ by less than a level."""


def margin_of(size: tuple[int, int]) -> int:
    """Return the number of pixels to extend an image by on each side, 0 where it is large enough."""
    return _MARGIN if min(size) < _SMALLEST else 0


def extend(images: Tensor, margin: int) -> Tensor:
    """Repeat the outermost pixels of images (N, C, H, W) on each side."""
    return F.pad(images, (margin,) * 4, mode="replicate")


_ROUNDS = 64
"""Corrections of the means; more than one is needed where values are clamped."""


def crop(images_sr: Tensor, margin: int, *, lr: Tensor, scale: int) -> Tensor:
    """Take off the margin of upscaled images, and give each pixel's successors its colour as their mean.

    One of a single colour comes out as exactly that colour. Networks that only restore (scale 1) are left to do so.

    Args:
        images_sr: (N, C, scale * H, scale * W), with the margin.
        margin: Pixels of lr.
        lr: The images (N, C, H, W) that they were made of.
        scale: Factor of the size.
    """
    border = margin * scale
    cropped = images_sr[..., border:-border, border:-border]
    if scale > 1:
        wanted = lr[..., margin:-margin, margin:-margin]
        for _ in range(_ROUNDS):
            missing = wanted - F.avg_pool2d(cropped, scale)
            cropped = (cropped + F.interpolate(missing, scale_factor=scale)).clamp(0, 1)
    is_flat = (lr.amax((-2, -1)) == lr.amin((-2, -1))).all(1)[:, None, None, None]
    return torch.where(is_flat, lr[..., :1, :1], cropped)
