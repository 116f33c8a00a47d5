"""What SwinIR and its descendants share: groups of attention within windows, between two norms, inside the frame.

Letters: N batch, C = embed_dim, H W size of the lr image in whole windows, w side of a window.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from finescale.layers.initialisation import initialise_small
from finescale.layers.patch_embed import PatchEmbed
from finescale.layers.stochastic_depth import depth_rates
from finescale.layers.upsampling import head_from_state
from finescale.layers.window_attention import BiasedAttention, SwinLayer, WindowAttention
from finescale.layers.windows import Size, pad_reflect, whole_windows
from finescale.networks.frame import Frame, FrameSettings, QKScale, check_groups
from finescale.networks.options import take_options
from finescale.networks.state import State, depths_of, ratio_of


class SwinSettings(FrameSettings):
    """Settings of every network whose groups attend within windows, each second layer of them shifted."""

    depths: tuple[int, ...] = (6,) * 6
    """Layers of each group."""
    num_heads: tuple[int, ...] = (6,) * 6
    """Heads of the attention, for each group."""
    window_size: int = Field(8, ge=1, le=64)
    """Side of the attention windows, in lr pixels."""
    mlp_ratio: float = Field(2.0, gt=0)
    """Hidden channels of the feed-forward layers, as a multiple of embed_dim."""
    qkv_bias: bool = True
    """Offset query, key and value by a learned bias."""
    qk_scale: QKScale = None
    """Factor of the attention scores; None is d^-1/2, d the channels of a head."""
    shifted: bool = True
    """Whether each second layer rolls the map; networks made for images no larger than a window do not."""
    patch_norm: bool = True
    """Normalise the features before the first group."""
    position_size: int | Size | None = None
    """Side, or (height, width), in lr pixels, of the one image size that the network takes, each of whose places has
    learned features of its own; None, as in all published networks: any size, and no such features."""
    drop_path_rate: float = Field(0.1, ge=0, lt=1)
    """Share of a training's samples that skip the branches of the last layer, less in earlier ones; 0 is neutral."""

    @property
    def hidden(self) -> int:
        """Hidden channels of a feed-forward layer of embed_dim channels."""
        return int(self.embed_dim * self.mlp_ratio)

    @property
    def positions(self) -> Size | None:
        """The one size that the network takes, as (height, width)."""
        size = self.position_size
        return (size, size) if isinstance(size, int) else size

    def drop_path_rates(self, group: int) -> list[float]:
        """Return the share of samples that skip the branches, for each layer of a group."""
        return depth_rates(self.drop_path_rate, self.depths)[group]

    @model_validator(mode="after")
    def _check_sizes(self) -> Self:
        check_groups(self.depths, self.num_heads)
        if min(self.num_heads) < 1:
            raise ValueError(f"num_heads must be at least 1, got {self.num_heads}")
        if self.hidden < 1:
            raise ValueError(f"mlp_ratio leaves no hidden channels of {self.embed_dim}, got {self.mlp_ratio}")
        if self.positions is not None and any(side < 1 or side % self.window_size for side in self.positions):
            raise ValueError(
                f"position_size must be a multiple of window_size {self.window_size}, got {self.position_size}"
            )
        return self


def check_heads(embed_dim: int, num_heads: Sequence[int]) -> None:
    """Refuse numbers of heads that do not divide the channels.

    Raises:
        ValueError: One of them does not.
    """
    for heads in num_heads:
        if embed_dim % heads:
            raise ValueError(f"embed_dim must be a multiple of the heads, got {embed_dim} and {heads}")


def window_attention(settings: SwinSettings, *, channels: int, num_heads: int, shifted: bool) -> WindowAttention:
    """Build the attention of one layer."""
    return WindowAttention(
        channels=channels,
        num_heads=num_heads,
        window_size=settings.window_size,
        shifted=shifted,
        qkv_bias=settings.qkv_bias,
        scale=settings.qk_scale,
    )


class Blocks(nn.Module):
    """Layers of a group, in a module of its own because of their published keys."""

    def __init__(self, layers: Sequence[SwinLayer]) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.blocks(x)  # type: ignore[no-any-return]


class SwinFrame(Frame):
    """Frame of every network whose groups attend within windows. A family implements `group`."""

    settings: SwinSettings

    def __init__(self, *, settings: SwinSettings, scale: int) -> None:
        super().__init__(settings=settings, scale=scale)
        self.patch_embed = PatchEmbed(channels=settings.embed_dim) if settings.patch_norm else nn.Identity()
        if settings.positions is not None:
            places = torch.empty(1, math.prod(settings.positions), settings.embed_dim)
            self.absolute_pos_embed = nn.Parameter(nn.init.trunc_normal_(places, std=0.02))
        self.layers = nn.Sequential(*(self.group(number) for number in range(len(settings.depths))))
        self.norm = nn.LayerNorm(settings.embed_dim)
        initialise_small(self, nn.Linear)

    @abstractmethod
    def group(self, number: int) -> nn.Module:
        """Build a group: maps (N, H, W, C) to the same shape."""

    @property
    def period(self) -> int:
        """Lr pixels after which the windows repeat."""
        return self.settings.window_size

    def pad(self, image: Tensor) -> Tensor:
        """Mirror the image at the bottom and on the right to whole windows."""
        side = self.settings.window_size
        size = whole_windows((image.shape[-2], image.shape[-1]), (side, side))
        return pad_reflect(image.permute(0, 2, 3, 1), size).permute(0, 3, 1, 2)

    def body(self, features: Tensor) -> Tensor:
        """Apply the groups between two norms: features (N, C, H, W) to the same shape.

        Raises:
            ValueError: The settings have a ``position_size``, and the image, padded to whole windows, has another.
        """
        x = self.patch_embed(features.permute(0, 2, 3, 1))  # (N, H, W, C)
        if (size := self.settings.positions) is not None:
            if x.shape[1:3] != size:
                raise ValueError(
                    f"the image must be {size[0]} x {size[1]}, the size of the network's position embedding, "
                    f"got {x.shape[1]} x {x.shape[2]} in whole windows"
                )
            x = x + self.absolute_pos_embed.reshape(1, *size, -1)
        return self.norm(self.layers(x)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


# ---- reading files and options


def shows_shift(state: State) -> bool:
    """Whether a file has the published buffers, among which shifted layers have a mask."""
    return any(key.endswith("relative_position_index") for key in state)


def fields_from_state(state: State) -> tuple[dict[str, Any], int]:
    """Read the fields of `SwinSettings` that a weight file shows, and its scale.

    The fields that depend on the attention, and ``position_size``, are left to the family. A file does not show
    image_range, mean, qk_scale and drop_path_rate.
    """
    embed_dim, in_channels = state["conv_first.weight"].shape[:2]
    depths = depths_of(state, "residual_group.blocks")
    first = "layers.{}.residual_group.blocks.0."
    upsampler, scale = head_from_state(state)
    fields = {
        "in_channels": in_channels,
        "embed_dim": embed_dim,
        "upsampler": upsampler,
        "residual_conv": "1conv" if "conv_after_body.weight" in state else "3conv",
        "depths": depths,
        "num_heads": tuple(
            state[first.format(group) + "attn.relative_position_bias_table"].shape[1] for group in range(len(depths))
        ),
        "mlp_ratio": ratio_of(state[first.format(0) + "mlp.fc1.weight"].shape[0], embed_dim),
        "shifted": not shows_shift(state) or max(depths) == 1 or any(key.endswith(".attn_mask") for key in state),
        "patch_norm": "patch_embed.norm.weight" in state,
    }
    return fields, scale


def position_size_of(state: State, window_size: int) -> int | Size | None:
    """Read `SwinSettings.position_size` from a state dict: a square, or the most square size in whole windows.

    Raises:
        ValueError: The places are those of no image in whole windows.
    """
    if "absolute_pos_embed" not in state:
        return None
    places = state["absolute_pos_embed"].shape[1]
    side = math.isqrt(places)
    if side**2 == places:
        return side
    for rows in range(side // window_size * window_size, 0, -window_size):
        if places % rows == 0 and places // rows % window_size == 0:
            return rows, places // rows
    raise ValueError(f"absolute_pos_embed has {places} places, those of no image in windows of {window_size}")


DEFAULTS: Mapping[str, Any] = {
    "scale": 2,
    "img_size": 64,
    "ape": False,
    "embed_dim": 96,
    "depths": (6, 6, 6, 6),
    "num_heads": (6, 6, 6, 6),
    "window_size": 7,
    "mlp_ratio": 4.0,
    "upsampler": "",
}
"""Defaults of the published constructors, where they are not those of the published networks."""


def fields_from_options(
    options: Mapping[str, Any], *, more: Mapping[str, str] | None = None, in_vain: Collection[str] = ()
) -> dict[str, Any]:
    """Read the arguments of a published constructor as fields of `SwinSettings`, ``scale``, ``img_size`` and ``ape``.

    Args:
        options: The arguments, with the constructor's name as ``type``.
        more: Argument to field, for what a family has beyond `SwinSettings`.
        in_vain: Keys that published option files contain though no network reads them.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    same = ("img_size", "ape", "depths", "window_size", "mlp_ratio", "qkv_bias", "qk_scale", "patch_norm")
    taken = take_options(
        options,
        fields={**{name: name for name in (*same, "drop_path_rate", "upsampler")}, **(more or {})},
        neutral={"drop_rate": 0, "attn_drop_rate": 0, "patch_size": 1},
        without_effect=("use_checkpoint",),
        in_vain=in_vain,
    )
    return {**DEFAULTS, **taken}


UNSEEN_HELP = {
    "qk_scale": "d ** -0.5, the usual one",
    "shifted": "on in a file without the published buffers",
    "position_size": "the most square size, if it is not a square",
    "drop_path_rate": "0.1, which matters in training alone",
}
"""`WeightFiles.unseen_help` of fields of `SwinSettings`."""


def unseen_fields(settings: SwinSettings, state: State) -> tuple[str, ...]:
    """Name the fields that a file does not show."""
    shift = () if shows_shift(state) else ("shifted",)
    oblong = ("position_size",) if isinstance(settings.position_size, tuple) else ()
    return ("image_range", "mean", "qk_scale", *shift, *oblong, "drop_path_rate")


def published_buffers(network: nn.Module) -> dict[str, Tensor]:
    """Compute the index of the positions in each layer's windows."""
    return {
        f"{name}.{module.index_name}": module.index()
        for name, module in network.named_modules()
        if isinstance(module, BiasedAttention)
    }


def published_masks(network: SwinFrame, image_size: int | None, *, extends: bool = False) -> dict[str, Tensor]:
    """Compute the mask of each shifted layer for one image size, by default about 64 as in published files.

    Other tools recognise a shift by its mask.

    Args:
        network: Any of a family with such masks.
        image_size: Side of the lr images; None is that of published files.
        extends: Whether the published code extends images to whole windows; else their sides are multiples of one.

    Raises:
        ValueError: The published network could not be built for this size.
    """
    window, fixed = network.settings.window_size, network.settings.positions
    size = fixed or (window * max(2, math.ceil(64 / window)),) * 2
    if image_size is not None:
        size = (math.ceil(image_size / window) * window,) * 2 if extends else (image_size, image_size)
        if fixed not in (None, size):
            offered = fixed[0] if fixed[0] == fixed[1] else "left out"
            raise ValueError(f"image_size must be {offered}, the side of its position table, got {image_size}")
        if (image_size % window and not extends) or (image_size > window) != network.settings.shifted:
            above = f"a size above {window}" if extends else f"a multiple of {window} above it"
            offered = above if network.settings.shifted else f"{window} at most" if extends else window
            raise ValueError(f"image_size must be {offered}, by its windows, got {image_size}")
    return {
        f"{name.removesuffix('.attn')}.attn_mask": module.mask(size)
        for name, module in network.named_modules()
        if isinstance(module, BiasedAttention) and any(module.shift)
    }
