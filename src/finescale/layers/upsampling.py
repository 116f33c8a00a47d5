"""Reconstruction heads: from features to an image ``scale`` times larger.

A head is an ordered chain of named steps. The names are those of the published state dicts, where the steps stand at
the root of the network; steps without parameters have names of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

Upsampler = Literal["restoration", "pixelshuffledirect", "pixelshuffle", "nearest+conv"]

WIDTH = 64
"""Channels between the layers of the two longer heads, fixed in every published network."""


def upsampling_head(kind: Upsampler, *, channels: int, out_channels: int, scale: int) -> dict[str, nn.Module]:
    """Build the steps of a head, in the order in which they apply.

    Args:
        kind: "pixelshuffledirect" (one convolution and a pixel shuffle), "pixelshuffle" (64 features, shuffled by 2 or
            3 at a time), "nearest+conv" (repeated pixels and convolutions, scale 4 only) or "restoration" (one
            convolution whose result is added to the image, scale 1 only).
        channels: Channels of the features that come in.
        out_channels: Channels of the image that comes out.
        scale: 2, 3 or 4; 1 for "restoration" alone.

    Raises:
        ValueError: The head does not exist at this scale.
    """
    if kind == "restoration":
        return {"conv_last": _conv(channels, out_channels)}
    if kind == "pixelshuffledirect":
        return {"upsample": nn.Sequential(_conv(channels, out_channels * scale**2), nn.PixelShuffle(scale))}
    before = nn.Sequential(_conv(channels, WIDTH), nn.LeakyReLU())
    if kind == "pixelshuffle":
        factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        steps = [step for f in factors for step in (_conv(WIDTH, WIDTH * f**2), nn.PixelShuffle(f))]
        return {
            "conv_before_upsample": before,
            "upsample": nn.Sequential(*steps),
            "conv_last": _conv(WIDTH, out_channels),
        }
    if scale != 4:
        raise ValueError(f"the upsampler 'nearest+conv' exists at scale 4 only, got scale {scale}")
    return {
        "conv_before_upsample": before,
        "repeat1": nn.Upsample(scale_factor=2, mode="nearest"),
        "conv_up1": _conv(WIDTH, WIDTH),
        "activate1": nn.LeakyReLU(0.2),
        "repeat2": nn.Upsample(scale_factor=2, mode="nearest"),
        "conv_up2": _conv(WIDTH, WIDTH),
        "activate2": nn.LeakyReLU(0.2),
        "conv_hr": _conv(WIDTH, WIDTH),
        "activate3": nn.LeakyReLU(0.2),
        "conv_last": _conv(WIDTH, out_channels),
    }


def head_from_state(state: Mapping[str, Tensor]) -> tuple[Upsampler, int]:
    """Return kind and scale of the head in a state dict.

    Raises:
        KeyError: A tensor that every head of this kind has is missing.
    """
    if "conv_up1.weight" in state:
        return "nearest+conv", 4
    if "upsample.0.weight" not in state and "conv_last.weight" in state:
        return "restoration", 1
    rows = state["upsample.0.weight"].shape[0]
    if "conv_before_upsample.0.weight" not in state:
        return "pixelshuffledirect", math.isqrt(rows // state["conv_first.weight"].shape[1])
    if rows == WIDTH * 9:
        return "pixelshuffle", 3
    return "pixelshuffle", 2 ** sum(bool(re.fullmatch(r"upsample\.\d+\.weight", key)) for key in state)


def _conv(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1)
