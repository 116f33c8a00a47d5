from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import nn

from finescale.layers.upsampling import Upsampler, head_from_state, upsampling_head

SCALES = {"restoration": (1,), "pixelshuffledirect": (2, 3, 4), "pixelshuffle": (2, 3, 4), "nearest+conv": (4,)}
HEADS = [(kind, scale) for kind in get_args(Upsampler) for scale in SCALES[kind]]


@pytest.mark.parametrize(("kind", "scale"), HEADS)
@pytest.mark.parametrize("out_channels", [1, 3])
def test_a_head_makes_an_image_scale_times_larger(kind: Upsampler, scale: int, out_channels: int) -> None:
    head = upsampling_head(kind, channels=8, out_channels=out_channels, scale=scale)
    image = nn.Sequential(*head.values())(torch.randn(2, 8, 3, 5))
    assert image.shape == (2, out_channels, 3 * scale, 5 * scale)


@pytest.mark.parametrize(("kind", "scale"), HEADS)
@pytest.mark.parametrize("out_channels", [1, 3])
def test_a_head_is_recognised_by_its_state(kind: Upsampler, scale: int, out_channels: int) -> None:
    head = upsampling_head(kind, channels=8, out_channels=out_channels, scale=scale)
    state = nn.ModuleDict({**head, "conv_first": nn.Conv2d(out_channels, 8, 3)}).state_dict()
    assert head_from_state(state) == (kind, scale)


@pytest.mark.parametrize(
    ("kind", "scale", "names"),
    [
        ("restoration", 1, {"conv_last"}),
        ("pixelshuffledirect", 3, {"upsample.0"}),
        ("pixelshuffle", 2, {"conv_before_upsample.0", "upsample.0", "conv_last"}),
        ("pixelshuffle", 3, {"conv_before_upsample.0", "upsample.0", "conv_last"}),
        ("pixelshuffle", 4, {"conv_before_upsample.0", "upsample.0", "upsample.2", "conv_last"}),
        ("nearest+conv", 4, {"conv_before_upsample.0", "conv_up1", "conv_up2", "conv_hr", "conv_last"}),
    ],
)
def test_a_head_has_the_published_names(kind: Upsampler, scale: int, names: set[str]) -> None:
    head = nn.ModuleDict(upsampling_head(kind, channels=8, out_channels=3, scale=scale))
    assert {key.removesuffix(".weight") for key in head.state_dict() if key.endswith(".weight")} == names


@pytest.mark.parametrize("scale", [2, 3])
def test_the_nearest_head_is_refused_where_it_does_not_exist(scale: int) -> None:
    with pytest.raises(ValueError, match=f"'nearest\\+conv' exists at scale 4 only, got scale {scale}"):
        upsampling_head("nearest+conv", channels=8, out_channels=3, scale=scale)
