"""DRCT: dense-residual-connected transformer (DRCT, DRCT-L).

C.-C. Hsu, C.-M. Lee, Y.-S. Chou, "DRCT: Saving Image Super-resolution away from Information Bottleneck", CVPR
Workshops (NTIRE) 2024.

In a long chain of groups, information from the first ones is lost on the way. Here a group is dense: it has five Swin
layers, each of which reads the group's input and the outputs of all layers before it, and adds a few channels for those
after it. The group adds a fifth of its result to its input. Layers 2 and 4 roll their map by half a window.

Letters: N batch, H W size of the lr image in whole windows, C = embed_dim, c channels of a layer, n heads, d = c/n,
w side of a window, L = w * w, K windows in the batch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from finescale.layers.convolution import convolve
from finescale.layers.feedforward import MLP
from finescale.layers.upsampling import head_from_state
from finescale.layers.window_attention import SwinLayer
from finescale.networks import swin
from finescale.networks.counting import count_as_torchinfo, count_linear_in_two_dimensions
from finescale.networks.family import (
    DF2K_AFTERWARDS,
    DF2K_ALONE,
    IMAGENET_FIRST,
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
from finescale.networks.placement import NETWORK_ENDS, Placement
from finescale.networks.state import State
from finescale.networks.swin import (
    UNSEEN_HELP,
    SwinFrame,
    SwinSettings,
    fields_from_options,
    position_size_of,
    published_buffers,
    published_masks,
    shows_shift,
    window_attention,
)

LAYERS = (1, 2, 3, 4, 5)
"""Numbers of a group's Swin layers, as in the published keys."""


class DRCTSettings(SwinSettings):
    """Sizes of a DRCT network; the defaults are those of DRCT."""

    embed_dim: int = Field(180, ge=1)
    """Channels of the features between groups."""
    upsampler: Literal["pixelshuffle"] = "pixelshuffle"
    """Reconstruction head; the family has one."""
    residual_conv: Literal["1conv", "identity"] = "1conv"
    """Closing of the body: one 3x3 convolution or nothing."""
    depths: tuple[int, ...] = (6,) * 6
    """One number per group, which matters to `drop_path_rate` alone: a group has five layers in any case."""
    num_heads: tuple[int, ...] = (6,) * 6
    """Heads of each group's first layer, from which those of the others follow, see `heads`."""
    window_size: int = Field(16, ge=1, le=64)
    """Side of the attention windows, in lr pixels."""
    growth: int = Field(32, ge=1)
    """Channels that each of a group's first four layers adds to those that the next one reads."""
    mlp_ratio: float = Field(2.0, gt=0)
    """Hidden channels of the first three feed-forward layers, as a multiple of theirs; the last two have 1."""

    def width(self, layer: int) -> int:
        """Return c, the channels that layer 1 to 5 of a group reads."""
        return self.embed_dim + (layer - 1) * self.growth

    def heads(self, group: int, layer: int) -> int:
        """Return the heads of layer 1 to 5; after the first layer, what the width lacks to a multiple of its heads."""
        heads = self.num_heads[group]
        return heads if layer == 1 else heads - self.width(layer) % heads

    def hidden_of(self, layer: int) -> int:
        """Return the channels between the two linear layers in layer 1 to 5."""
        return int(self.width(layer) * self.mlp_ratio) if layer <= 3 else self.width(layer)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for group, heads in enumerate(self.num_heads):
            for layer in LAYERS:
                if self.width(layer) % self.heads(group, layer):
                    raise ValueError(
                        f"num_heads {heads} gives layer {layer} {self.heads(group, layer)} heads, which do not divide "
                        f"its {self.width(layer)} channels; choose other num_heads, embed_dim or growth"
                    )
        return self


def swin_layer(settings: DRCTSettings, *, group: int, layer: int) -> SwinLayer:
    """Build layer 1 to 5 of a group."""
    channels = settings.width(layer)
    attention = window_attention(
        settings,
        channels=channels,
        num_heads=settings.heads(group, layer),
        shifted=settings.shifted and layer % 2 == 0,
    )
    return SwinLayer(
        attention=attention,
        feed_forward=MLP(channels=channels, hidden=settings.hidden_of(layer)),
        channels=channels,
        drop_path=settings.drop_path_rates(group)[0],
    )


class ResidualDenseGroup(nn.Module):
    """Five Swin layers, each of which reads the group's input and the results of all before it."""

    def __init__(self, *, settings: DRCTSettings, group: int) -> None:
        super().__init__()
        for layer in LAYERS:
            out = settings.embed_dim if layer == LAYERS[-1] else settings.growth
            self.add_module(f"swin{layer}", swin_layer(settings, group=group, layer=layer))
            self.add_module(f"adjust{layer}", nn.Conv2d(settings.width(layer), out, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        dense = x
        for layer in LAYERS[:-1]:
            dense = torch.cat((dense, F.leaky_relu(self.layer_output(dense, layer), 0.2)), dim=-1)
        return x + 0.2 * self.layer_output(dense, LAYERS[-1])

    def layer_output(self, dense: Tensor, layer: int) -> Tensor:
        """Apply a layer to all channels so far, and reduce the result to its own few."""
        return convolve(getattr(self, f"adjust{layer}"), getattr(self, f"swin{layer}")(dense))


class DRCT(SwinFrame):
    """DRCT or DRCT-L, by the number of groups."""

    settings: DRCTSettings

    def group(self, number: int) -> ResidualDenseGroup:
        """Build a group."""
        return ResidualDenseGroup(settings=self.settings, group=number)


# ---- reading files and options


def settings_from_state(state: State) -> tuple[DRCTSettings, int]:
    """Read settings and scale from the shapes of a DRCT weight file.

    A file does not show image_range, mean, depths, qk_scale and drop_path_rate. Only files with the published buffers
    show whether layers are shifted; without them it is assumed, as all published networks are.
    """
    embed_dim, in_channels = state["conv_first.weight"].shape[:2]
    groups = {int(found[1]) for key in state if (found := re.match(r"layers\.(\d+)\.", key))}
    tables = [state[f"layers.{group}.swin1.attn.relative_position_bias_table"].shape for group in sorted(groups)]
    window_size = (math.isqrt(tables[0][0]) + 1) // 2
    upsampler, scale = head_from_state(state)
    settings = DRCTSettings(
        in_channels=in_channels,
        embed_dim=embed_dim,
        upsampler=upsampler,
        residual_conv="1conv" if "conv_after_body.weight" in state else "identity",
        depths=(6,) * len(groups),
        num_heads=tuple(heads for _, heads in tables),
        window_size=window_size,
        growth=state["layers.0.adjust1.weight"].shape[0],
        mlp_ratio=_mlp_ratio(state),
        qkv_bias="layers.0.swin1.attn.qkv.bias" in state,
        shifted="layers.0.swin2.attn_mask" in state or not shows_shift(state),
        patch_norm="patch_embed.norm.weight" in state,
        position_size=position_size_of(state, window_size),
    )
    return settings, scale


def _mlp_ratio(state: State) -> float:
    """Return the smallest ratio that, in spite of rounding, gives the first three layers their hidden channels."""
    hidden_and_width = [state[f"layers.0.swin{layer}.mlp.fc1.weight"].shape for layer in LAYERS[:3]]
    ratio = max(hidden / width for hidden, width in hidden_and_width)
    enough = all(int(width * ratio) >= hidden for hidden, width in hidden_and_width)
    return ratio if enough else math.nextafter(ratio, math.inf)


def unseen_fields(settings: DRCTSettings, state: State) -> tuple[str, ...]:
    """Name the fields that `settings_from_state` assumes."""
    return (*swin.unseen_fields(settings, state), "depths")


def placement(_: DRCTSettings) -> Placement:
    """Place quantizers by the general rule; those at the network's ends judge errors by their spectra."""
    return Placement(frequency=NETWORK_ENDS)


def settings_from_options(options: Mapping[str, Any]) -> tuple[DRCTSettings, int]:
    """Read settings and scale from the published constructor's arguments.

    Two effects of ``img_size`` remain: one of at most ``window_size`` becomes the window and turns the shift off, and
    with ``ape`` it is the only size that the network takes.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    fields = fields_from_options(
        options,
        more={"gc": "growth"},
        in_vain=("compress_ratio", "squeeze_factor", "conv_scale", "overlap_ratio"),
    )
    scale, img_size, ape = (fields.pop(name) for name in ("scale", "img_size", "ape"))
    if img_size <= fields["window_size"]:
        fields |= {"window_size": img_size, "shifted": False}
    fields["position_size"] = img_size if ape else None
    return DRCTSettings(**fields), scale


def _tiny(groups: int) -> DRCTSettings:
    return DRCTSettings(
        embed_dim=12, depths=(6,) * groups, num_heads=(3,) * groups, window_size=4, growth=4, drop_path_rate=0
    )


# ---- what the authors publish

_REPOSITORY = "https://github.com/ming053l/DRCT"

_LR = (64, 64)

_TOTAL = "torchinfo's total: linear layers once for each window or image, no attention products"
_TOTAL_OF_ANOTHER = "torchinfo's total, of another network: embed_dim 144"
_TWO_DIMENSIONS = "convolutions, and linear layers as if their input had two dimensions"

_PRINTED = {
    ("drct", 4): (Count(5.92, size=_LR, rule=_TOTAL_OF_ANOTHER), Count(7.92, size=_LR, rule=_TWO_DIMENSIONS)),
    ("drct-l", 4): (Count(9.20, size=_LR, rule=_TOTAL), Count(11.07, size=_LR, rule=_TWO_DIMENSIONS)),
}

_COSTS = {
    (variant, scale): Cost(
        num_parameters=parameters,
        multiply_adds=Count(multiply_adds, size=_LR),
        printed=_PRINTED.get((variant, scale), ()),
    )
    for variant, scale, parameters, multiply_adds in (
        ("drct", 2, 13_991_867, 71.83),
        ("drct", 3, 14_176_507, 72.63),
        ("drct", 4, 14_139_579, 74.34),
        ("drct-l", 2, 27_433_007, 141.40),
        ("drct-l", 3, 27_617_647, 142.19),
        ("drct-l", 4, 27_580_719, 143.90),
    )
}

_PUBLISHED = [
    *(
        Published(variant=variant, scale=scale, training_data=None, scores={}, file=None, licence=None, remark=remark)
        for variant in ("drct", "drct-l")
        for scale, remark in ((2, "its file was withdrawn by the author"), (3, "no file of it is known"))
    ),
    Published(
        variant="drct",
        scale=4,
        training_data=None,
        scores=scores("33.11 29.35 28.18 28.06 32.59"),
        file="DRCT_X4.pth",
        also=("DRCT_SRx4.pth",),
        page=_REPOSITORY,
        licence="MIT",
        remark="the authors' option files train on DF2K, with or without a first stage on ImageNet",
    ),
    Published(
        variant="drct-l",
        scale=4,
        training_data="ImageNet, DIV2K, Flickr2K",
        scores=scores("33.37 29.54 28.16 28.70 33.14"),
        file="DRCT-L_X4.pth",
        also=("DRCT-L_SRx4_ImageNet-pretrain.pth",),
        page=_REPOSITORY,
        licence="MIT",
    ),
]

_RECIPES = {
    **{
        (variant, scale): [
            Recipe(variant=variant, **IMAGENET_FIRST),
            Recipe(
                variant=variant,
                lr=1e-5,
                start=(variant, scale),
                remark="250,000 steps in the option files, 800,000 in the paper",
                **DF2K_AFTERWARDS,
            ),
        ]
        for variant in ("drct", "drct-l")
        for scale in (2, 3, 4)
    },
    **{
        ("drct-scratch", scale): [
            Recipe(
                variant="drct",
                remark="unsatisfactory, in the author's words; leaving out ImageNet costs 0.20 to 0.25 dB",
                **DF2K_ALONE,
            )
        ]
        for scale in (2, 3, 4)
    },
    ("drct-from-x2", 4): [
        Recipe(
            variant="drct",
            lr=1e-4,
            start=("drct-scratch", 2),
            remark="the published option file loads strictly and cannot start; here what does not fit stays random",
            **DF2K_AFTERWARDS,
        )
    ],
}

FAMILY = Family(
    name="drct",
    about=About(
        title="DRCT",
        idea=(
            "In a long chain of groups, information from the first ones is lost on the way. Here each group is dense: "
            "every layer reads the group's input and the outputs of all layers before it."
        ),
        remarks=(
            "Of DRCT-XL, a larger network, the author published weights trained on ImageNet alone, and no option file.",
            "The README of the authors prints no SSIM.",
        ),
    ),
    network=DRCT,
    variants={"drct": DRCTSettings(), "drct-l": DRCTSettings(depths=(6,) * 12, num_heads=(6,) * 12)},
    tiny={"drct": _tiny(1), "drct-l": _tiny(2)},
    publication=Publication(
        paper=Paper(
            title="DRCT: Saving Image Super-resolution away from Information Bottleneck",
            authors="C.-C. Hsu, C.-M. Lee, Y.-S. Chou",
            venue="CVPR Workshops (NTIRE) 2024, 6133-6142",
            url="https://arxiv.org/abs/2404.00722",
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
        networks=_PUBLISHED,
        counting={
            _TOTAL: count_as_torchinfo,
            _TOTAL_OF_ANOTHER: count_as_torchinfo,
            _TWO_DIMENSIONS: count_linear_in_two_dimensions,
        },
    ),
    files=WeightFiles(
        marks=("layers.0.swin1.attn.qkv.weight", "layers.0.adjust5.weight"),
        derivable=(".attn.relative_position_index", ".attn_mask"),
        from_state=settings_from_state,
        unseen=unseen_fields,
        unseen_help={
            **UNSEEN,
            **UNSEEN_HELP,
            "depths": "6 for each group, which matters to drop_path_rate alone",
        },
        buffers=published_buffers,
        masks=published_masks,
    ),
    options=PublishedOptions(classes=("DRCT",), read=settings_from_options),
    quantization=Quantization(placement=placement),
    recipes=_RECIPES,
)
