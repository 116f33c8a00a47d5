"""Luma of RGB, as the papers measure it: ITU-R BT.601 in studio range."""

from __future__ import annotations

import torch
from torch import Tensor

_OFFSET = 16.0
_RED, _GREEN, _BLUE = 65.481 / 255, 128.553 / 255, 24.966 / 255


def rgb_to_y(rgb: Tensor) -> Tensor:
    """Compute the luma of every pixel, on the scale that tables of super-resolution use.

    It is MATLAB's ``rgb2ycbcr`` before its rounding, not the full-range luma of OpenCV and Pillow, which reads 1.3 dB
    lower in a comparison.

    Args:
        rgb: Images (..., 3, H, W), floating point, values 0..255.

    Returns:
        Luma (..., 1, H, W), 16 for black to 235 for white, not rounded, in the dtype of ``rgb``.

    Raises:
        ValueError: There are not three channels, or the values are not floating point.
    """
    if rgb.ndim < 3 or rgb.shape[-3] != 3:
        raise ValueError(f"luma needs RGB of shape (..., 3, H, W), got {tuple(rgb.shape)}")
    if not torch.is_floating_point(rgb):
        raise ValueError(f"luma needs floating point values from 0 to 255, got {rgb.dtype}; convert them first")
    red, green, blue = rgb.unbind(-3)
    return (_OFFSET + _RED * red + _GREEN * green + _BLUE * blue).unsqueeze(-3)
