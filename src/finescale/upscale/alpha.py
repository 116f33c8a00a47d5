"""Replacement of the hidden colours under transparent pixels, which a network would carry into visible ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def extend_color(pixels: Tensor, alpha: Tensor) -> Tensor:
    """Extend the visible colours under the fully transparent pixels, so that no hidden colour bleeds into an edge.

    Args:
        pixels: Colours (C, H, W).
        alpha: Opacity (1, H, W); colours are kept wherever it is above 0.

    Returns:
        Colours (C, H, W): each hidden one is replaced by a mean of visible ones, over a smaller area where they are
        nearer. Where nothing is visible at all, the colours are unchanged.

    Source: the push-pull pyramid of Gortler et al., "The Lumigraph" (SIGGRAPH 1996).
    """
    visible = alpha > 0
    if visible.all() or not visible.any():
        return pixels
    return _fill(pixels[None], visible[None])[0]


def _fill(color: Tensor, known: Tensor) -> Tensor:
    """Fill the unknown pixels of (1, C, H, W) from the same image at half the size, filled by the same rule."""
    if known.all():
        return color
    weight = F.avg_pool2d(known.to(color.dtype), 2, ceil_mode=True)
    mean = F.avg_pool2d(color * known, 2, ceil_mode=True) / torch.where(weight > 0, weight, 1)
    coarse = _fill(mean, weight > 0)
    smooth = F.interpolate(coarse, size=color.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(known, color, smooth)
