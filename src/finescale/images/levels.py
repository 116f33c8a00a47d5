"""Quantization of values in [0, 1] to the numbers of a file."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from finescale.errors import ImageWriteError
from finescale.images.image import Levels


def to_levels(planes: Sequence[Tensor], depth: int) -> Levels:
    """Quantize values in [0, 1] to 8 or 16 bits, rounded half up; values outside are clamped.

    Args:
        planes: The channels, each (H, W); converted one at a time to save memory.
        depth: Bits per channel, 8 or 16.

    Returns:
        (H, W, C), uint8 or uint16.

    Raises:
        ImageWriteError: A value is NaN or infinite.
    """
    peak, kind = (255, torch.uint8) if depth == 8 else (65535, torch.uint16)
    levels = []
    for plane in planes:
        if not torch.isfinite(plane).all():
            raise ImageWriteError("the image contains NaN or infinite values; nothing was written")
        levels.append((plane.float() * peak).add_(0.5).clamp_(0, peak).to(kind))  # the cast rounds down
    return torch.stack(levels, dim=-1).numpy()
