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
from finescale.networks.family import (
    UNSEEN,
    About,
    Cost,
    Count,
    Family,
    Paper,
    Publication,
    Published,
    PublishedOptions,
    Quantization,
    Recipe,
    WeightFiles,
    scores,
)
from finescale.networks.frame import Frame, FrameSettings
from finescale.networks.options import take_options
from finescale.networks.placement import NETWORK_ENDS, Placement
from finescale.networks.state import State


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
        self.layers = nn.Sequential(*(Block(channels=settings.embed_dim) for _ in range(settings.depth)))

    def body(self, features: Tensor) -> Tensor:
        """The blocks: features (N, C, H, W) to the same shape."""
        return self.layers(features)


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


def placement(_: ToySettings) -> Placement:
    """Spectra at the network's ends."""
    return Placement(frequency=NETWORK_ENDS)


def count_in_toys(_network: nn.Module, _shape: tuple[int, ...], operations: Any) -> int:
    """A rule of the authors' own: a thousand for each multiply-add."""
    return 1000 * operations.multiply_adds


def one_more(_: Block, arguments: tuple[Tensor]) -> int:
    """The published block takes a multiply-add more for each element."""
    return arguments[0].numel()


RULE = "thousandths of multiply-adds"

FAMILY = Family(
    name="toy",
    about=About(title="Toy", label="a toy", idea="It learns nothing, but all that a family says is here."),
    network=Toy,
    variants={"toy": ToySettings()},
    tiny={"toy": ToySettings(embed_dim=8, depth=2)},
    publication=Publication(
        paper=Paper(title="How to add a family", authors=None, venue=None, url="https://toy.invalid"),
        repository="https://toy.invalid/code",
        costs={
            ("toy", scale): Cost(num_parameters=number, multiply_adds=None, printed=(Count(1, size=(8, 8), rule=RULE),))
            for scale, number in ((2, 300_312), (3, 308_427), (4, 319_788))
        },
        networks=[
            Published(variant="toy", scale=scale, training_data="Toys", scores=scores(row), file=None, licence=None)
            for scale, row in ((2, "34 33 32 31 30"), (3, "32 31 30 29 28"), (4, "30 29 28 27 26"))
        ],
        counting={RULE: count_in_toys},
        beyond={Block: one_more},
    ),
    files=WeightFiles(
        marks=(".toy1.weight", ".toy2.weight"),
        derivable=(".never",),
        from_state=settings_from_state,
        unseen=lambda _settings, _state: tuple(UNSEEN),
        unseen_help=UNSEEN,
    ),
    options=PublishedOptions(classes=("Toy",), read=settings_from_options),
    quantization=Quantization(placement=placement),
    recipes={
        ("toy", scale): [Recipe(variant="toy", data="Toys", batch=1, lr=1e-4, milestones=(1,), iterations=2, seed=0)]
        for scale in (2, 3, 4)
    },
)
