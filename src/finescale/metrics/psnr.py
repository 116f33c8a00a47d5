"""Peak signal-to-noise ratio."""

from __future__ import annotations

import math

from torch import Tensor

from finescale.metrics.planes import Channel, planes_to_compare


def psnr(sr: Tensor, hr: Tensor, *, border: int, channel: Channel = "y", rounded: bool = True) -> float:
    """Compute the peak signal-to-noise ratio between an upscaled image and its original, in decibels.

    Args:
        sr: Upscaled image (C, H, W), RGB (or gray, C = 1) in [0, 1].
        hr: Original, same height, width and range.
        border: Pixels left out on every side; the papers use the scale.
        channel: "y" compares BT.601 luma, "rgb" all channels together.
        rounded: Whether both are rounded to 8 bits first, as the papers do.

    Returns:
        Decibels; ``inf`` when the two are equal.

    Raises:
        ValueError: The sizes differ, or ``border`` leaves no pixel.

    Source: the papers' test protocol, spelled out in docs/evaluate.md.
    """
    ours, original = planes_to_compare(sr, hr, border=border, channel=channel, rounded=rounded)
    error = float((ours - original).square().mean())
    return 10 * math.log10(255**2 / error) if error else math.inf
