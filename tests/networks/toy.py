"""A sixth family, as its file would be: a residual network of plain convolutions.

It shows how little a family has to say; tests/test_sixth_family.py puts it into a copy of the package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from finescale.layers.convolution import residual_conv
from finescale.layers.upsampling import head_from_state
from finescale.networks.family import UNSEEN, Cost, Family, Paper, State, take_options
from finescale.networks.frame import Frame, FrameSettings


class ToySettings(FrameSettings):
    """Sizes of a toy network."""

    depth: int = Field(4, ge=1)
    """Number of blocks."""


class Block(nn.Module):
    """Two convolutions and a skip."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.toy1 = residual_conv("1conv", channels)
        self.toy2 = residual_conv("1conv", channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return x + self.toy2(nn.functional.gelu(self.toy1(x)))


class Toy(Frame):
    """The toy network."""

    settings: ToySettings

    def __init__(self, *, settings: ToySettings, scale: int) -> None:
        super().__init__(settings=settings, scale=scale)
        self.blocks = nn.Sequential(*(Block(channels=settings.embed_dim) for _ in range(settings.depth)))

    def body(self, features: Tensor) -> Tensor:
        """The blocks: features (N, C, H, W) to the same shape."""
        return self.blocks(features)


def settings_from_state(state: State) -> tuple[ToySettings, int]:
    """Settings and scale from the shapes of a weight file."""
    embed_dim, in_channels = state["conv_first.weight"].shape[:2]
    upsampler, scale = head_from_state(state)
    depth = sum(key.endswith(".toy1.weight") for key in state)
    residual = "1conv" if "conv_after_body.weight" in state else "3conv"
    settings = ToySettings(
        in_channels=in_channels, embed_dim=embed_dim, upsampler=upsampler, residual_conv=residual, depth=depth
    )
    return settings, scale


def settings_from_options(options: Mapping[str, Any]) -> tuple[ToySettings, int]:
    """Settings and scale from constructor arguments."""
    taken = take_options(options, fields={"depth": "depth"}, neutral={}, without_effect=(), in_vain=())
    scale = taken.pop("scale", 4)
    return ToySettings(**taken), scale


FAMILY = Family(
    name="toy",
    title="Toy",
    about="It learns nothing, but all that a family says is here.",
    paper=Paper(title="How to add a family", authors=None, venue=None, url="https://toy.invalid"),
    repository="https://toy.invalid/code",
    network=Toy,
    variants={"toy": ToySettings()},
    costs={
        ("toy", scale): Cost(num_parameters=number, multiply_adds=None)
        for scale, number in ((2, 300_312), (3, 308_427), (4, 319_788))
    },
    tiny={"toy": ToySettings(embed_dim=8, depth=2)},
    marks=(".toy1.weight", ".toy2.weight"),
    derivable=(".never",),
    from_state=settings_from_state,
    unseen=lambda _settings, _state: tuple(UNSEEN),
    unseen_help=UNSEEN,
    classes=("Toy",),
    from_options=settings_from_options,
)
