"""Reconstruction heads: from features to an image ``scale`` times larger.

A head is an ordered chain of named steps. The names are those of the published state dicts, where the steps stand at
the root of the network; steps without parameters have names of their own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from finescale.resize import MAX_SCALE
from finescale.settings import alternatives

Upsampler = Literal["restoration", "pixelshuffledirect", "pixelshuffle", "nearest+conv"]

SCALES: Mapping[Upsampler, Sequence[int]] = {
    "restoration": (1,),
    "pixelshuffledirect": range(1, MAX_SCALE + 1),
    "pixelshuffle": (1, 2, 3, 4, 8, 16),
    "nearest+conv": (2, 4),
}
"""The scales at which each head exists; the published networks have no other."""

WIDTH = 64
"""Channels between the layers of the two longer heads, fixed in every published network."""


def check_head(kind: Upsampler, scale: int, *, offered: Sequence[int]) -> None:
    """Refuse a scale at which a head is not offered.

    Raises:
        ValueError: It is none of those that are.
    """
    if type(scale) is not int or scale not in offered:
        listed = f"{offered[0]} to {offered[-1]}" if isinstance(offered, range) else alternatives(offered)
        raise ValueError(f"scale must be {listed} for the upsampler {kind!r}, got {scale!r}")


def upsampling_head(kind: Upsampler, *, channels: int, out_channels: int, scale: int) -> dict[str, nn.Module]:
    """Build the steps of a head, in the order in which they apply.

    Args:
        kind: "pixelshuffledirect" (one convolution and a pixel shuffle), "pixelshuffle" (64 features, shuffled by 2 or
            3 at a time), "nearest+conv" (repeated pixels and convolutions) or "restoration" (one convolution whose
            result is added to the image, as no other head's is at scale 1).
        channels: Channels of the features that come in.
        out_channels: Channels of the image that comes out.
        scale: One of `SCALES`; at 1 nothing is shuffled.

    Raises:
        ValueError: The head does not exist at this scale.
    """
    check_head(kind, scale, offered=SCALES[kind])
    if kind == "restoration":
        return {"conv_last": _conv(channels, out_channels)}
    if kind == "pixelshuffledirect":
        return {"upsample": nn.Sequential(_conv(channels, out_channels * scale**2), nn.PixelShuffle(scale))}
    before = nn.Sequential(_conv(channels, WIDTH), nn.LeakyReLU())
    if kind == "pixelshuffle":
        factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        shuffles = [step for f in factors for step in (_conv(WIDTH, WIDTH * f**2), nn.PixelShuffle(f))]
        return {
            "conv_before_upsample": before,
            "upsample": nn.Sequential(*shuffles),
            "conv_last": _conv(WIDTH, out_channels),
        }
    steps: dict[str, nn.Module] = {"conv_before_upsample": before}
    for stage in range(1, scale.bit_length()):
        steps[f"repeat{stage}"] = nn.Upsample(scale_factor=2, mode="nearest")
        steps[f"conv_up{stage}"] = _conv(WIDTH, WIDTH)
        steps[f"activate{stage}"] = nn.LeakyReLU(0.2)
    return {
        **steps,
        "conv_hr": _conv(WIDTH, WIDTH),
        "activate": nn.LeakyReLU(0.2),
        "conv_last": _conv(WIDTH, out_channels),
    }


def head_from_state(state: Mapping[str, Tensor]) -> tuple[Upsampler, int]:
    """Return kind and scale of the head in a state dict.

    Keys show the kind, and shapes alone do not: one convolution to a gray image at x16 has the shape of a shuffle by 2.

    Raises:
        KeyError: A tensor that every head of this kind has is missing.
        ValueError: The shapes are those of no scale.
    """
    if "conv_up1.weight" in state:
        return "nearest+conv", 4 if "conv_up2.weight" in state else 2
    if "conv_before_upsample.0.weight" in state:
        return "pixelshuffle", _scale_of_stages(
            [tensor.shape[0] for key, tensor in state.items() if re.fullmatch(r"upsample\.\d+\.weight", key)]
        )
    if "upsample.0.weight" not in state and "conv_last.weight" in state:
        return "restoration", 1
    rows, channels = state["upsample.0.weight"].shape[0], state["conv_first.weight"].shape[1]
    scale = math.isqrt(rows // max(channels, 1))
    if rows != scale**2 * channels:
        raise ValueError(f"upsample.0.weight has {rows} rows, not {channels} channels times a square number")
    return "pixelshuffledirect", scale


def _scale_of_stages(rows: Sequence[int]) -> int:
    """Return the scale of a "pixelshuffle" head whose stages have these numbers of rows: one by 3, or any by 2."""
    if list(rows) == [WIDTH * 9]:
        return 3
    if any(count != WIDTH * 4 for count in rows):
        raise ValueError(f"the stages of upsample must have {WIDTH * 4} rows, or one {WIDTH * 9}, got {list(rows)}")
    return 2 ** len(rows)  # type: ignore[no-any-return]


def _conv(channels: int, out: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, 3, padding=1)
