"""Conversion of pixels from the colour space of an ICC profile to sRGB."""

from __future__ import annotations

import pyvips
import torch
from torch import Tensor

from finescale.images.icc import has_colors
from finescale.images.levels import to_levels
from finescale.images.vips import bracketed_message, forget_errors


def to_srgb(pixels: Tensor, profile: bytes) -> Tensor:
    """Return pixels in sRGB, in 16 bits of precision; what sRGB does not hold is clipped.

    Args:
        pixels: (1 or 3, H, W) in [0, 1].
        profile: ICC profile that fits them.

    Raises:
        ValueError: The profile is damaged.
        ImageWriteError: A pixel is NaN or infinite.
    """
    if not has_colors(profile):
        raise ValueError("the profile lacks its colours")  # libvips would take sRGB in its place
    levels = to_levels([*pixels], 16)
    height, width, num_channels = levels.shape
    picture = pyvips.Image.new_from_memory(levels, width, height, num_channels, "ushort")
    picture = picture.copy(interpretation="grey16" if num_channels == 1 else "rgb16")
    picture.set_type(pyvips.GValue.blob_type, "icc-profile-data", profile)
    forget_errors()
    try:
        converted = picture.icc_transform("srgb", embedded=True, intent="relative", depth=16).numpy()
    except pyvips.Error as error:
        raise ValueError(f"the profile is damaged{bracketed_message(error)}") from None
    # A gray profile gives three equal channels.
    planes = torch.from_numpy(converted).to(torch.float32).div_(65535).permute(2, 0, 1)
    return planes[:num_channels].contiguous()
