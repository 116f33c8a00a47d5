from __future__ import annotations

import re
from typing import get_args

import pytest
import torch
from torch import nn

from finescale.layers.upsampling import Upsampler, head_from_state, upsampling_head

SCALES = {
    "restoration": (1,),
    "pixelshuffledirect": (1, 2, 3, 4, 5, 8, 16),
    "pixelshuffle": (1, 2, 3, 4, 8, 16),
    "nearest+conv": (2, 4),
}
HEADS = [(kind, scale) for kind in get_args(Upsampler) for scale in SCALES[kind]]


@pytest.mark.parametrize(("kind", "scale"), HEADS)
@pytest.mark.parametrize("out_channels", [1, 3])
def test_a_head_makes_an_image_scale_times_larger(kind: Upsampler, scale: int, out_channels: int) -> None:
    head = upsampling_head(kind, channels=8, out_channels=out_channels, scale=scale)
    image = nn.Sequential(*head.values())(torch.randn(2, 8, 3, 5))
    assert image.shape == (2, out_channels, 3 * scale, 5 * scale)


@pytest.mark.parametrize(("kind", "scale"), HEADS)
@pytest.mark.parametrize("out_channels", [1, 2, 3])
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
        ("pixelshuffledirect", 1, {"upsample.0"}),
        ("pixelshuffle", 1, {"conv_before_upsample.0", "conv_last"}),
        ("pixelshuffle", 8, {"conv_before_upsample.0", "upsample.0", "upsample.2", "upsample.4", "conv_last"}),
        ("nearest+conv", 2, {"conv_before_upsample.0", "conv_up1", "conv_hr", "conv_last"}),
        ("nearest+conv", 4, {"conv_before_upsample.0", "conv_up1", "conv_up2", "conv_hr", "conv_last"}),
    ],
)
def test_a_head_has_the_published_names(kind: Upsampler, scale: int, names: set[str]) -> None:
    head = nn.ModuleDict(upsampling_head(kind, channels=8, out_channels=3, scale=scale))
    assert {key.removesuffix(".weight") for key in head.state_dict() if key.endswith(".weight")} == names


@pytest.mark.parametrize(
    ("kind", "scale", "message"),
    [
        ("nearest+conv", 1, "scale must be 2 or 4 for the upsampler 'nearest+conv', got 1"),
        ("nearest+conv", 3, "scale must be 2 or 4 for the upsampler 'nearest+conv', got 3"),
        ("restoration", 2, "scale must be 1 for the upsampler 'restoration', got 2"),
        ("pixelshuffle", 6, "scale must be 1, 2, 3, 4, 8 or 16 for the upsampler 'pixelshuffle', got 6"),
        ("pixelshuffledirect", 0, "scale must be 1 to 16 for the upsampler 'pixelshuffledirect', got 0"),
        ("pixelshuffledirect", 17, "scale must be 1 to 16 for the upsampler 'pixelshuffledirect', got 17"),
        ("pixelshuffledirect", True, "scale must be 1 to 16 for the upsampler 'pixelshuffledirect', got True"),
        ("pixelshuffledirect", 2.0, "scale must be 1 to 16 for the upsampler 'pixelshuffledirect', got 2.0"),
    ],
)
def test_a_head_is_refused_at_scales_that_it_does_not_exist_at(kind: Upsampler, scale: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        upsampling_head(kind, channels=8, out_channels=3, scale=scale)


def test_one_convolution_to_gray_at_x16_is_told_from_a_shuffle_of_its_shape() -> None:
    direct = upsampling_head("pixelshuffledirect", channels=64, out_channels=1, scale=16)
    shuffle = upsampling_head("pixelshuffle", channels=64, out_channels=1, scale=2)
    first = {"conv_first": nn.Conv2d(1, 64, 3)}
    states = [nn.ModuleDict({**head, **first}).state_dict() for head in (direct, shuffle)]
    assert states[0]["upsample.0.weight"].shape == states[1]["upsample.0.weight"].shape == (256, 64, 3, 3)
    assert [head_from_state(state) for state in states] == [("pixelshuffledirect", 16), ("pixelshuffle", 2)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"upsample.0": 80}, "upsample.0.weight has 80 rows, not 3 channels times a square number"),
        ({"conv_before_upsample.0": 64, "upsample.0": 300}, r"must have 256 rows, or one 576, got \[300\]"),
        (
            {"conv_before_upsample.0": 64, "upsample.0": 576, "upsample.2": 256},
            r"must have 256 rows, or one 576, got \[576, 256\]",
        ),
    ],
)
def test_shapes_of_no_scale_are_refused(rows: dict[str, int], message: str) -> None:
    state = {f"{name}.weight": torch.zeros(count, 8, 3, 3) for name, count in rows.items()}
    with pytest.raises(ValueError, match=message):
        head_from_state({"conv_first.weight": torch.zeros(8, 3, 3, 3), **state})
