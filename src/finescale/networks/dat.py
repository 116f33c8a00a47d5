"""DAT: dual aggregation transformer (DAT-S, DAT, DAT-2, DAT-light).

Z. Chen, Y. Zhang, J. Gu, L. Kong, X. Yang, F. Yu, "Dual Aggregation Transformer for Image Super-Resolution", ICCV 2023.

Blocks attend in turn over the pixels of rectangular windows and over the channels of the whole image. A depthwise
convolution of the values runs beside each attention, and the two gate each other: whichever lacks channel knowledge
gets a channel gate from the other, whichever lacks spatial knowledge a spatial gate.

Letters: N batch, H W size of the lr image, H' W' the same in whole windows, C = embed_dim, c = C/2, n heads of a
branch, d channels of a head, (h, w) a branch's window, L = h * w, K windows in the batch, D hidden channels.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from finescale.layers.attention import AttentionProduct
from finescale.layers.convolution import convolve, residual_conv
from finescale.layers.explicit_attention import ExplicitChannelAttention
from finescale.layers.initialisation import initialise_small
from finescale.layers.linear import Linear
from finescale.layers.position import offset_grid, relative_index
from finescale.layers.precision import without_autocast
from finescale.layers.rectangle_attention import RectangleAttention
from finescale.layers.stochastic_depth import StochasticDepth, depth_rates
from finescale.layers.upsampling import head_from_state
from finescale.layers.windows import Size, shift_mask, whole_windows
from finescale.networks.counting import count_as_fvcore
from finescale.networks.family import (
    HALVED,
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
from finescale.networks.frame import Frame, FrameSettings, QKScale, check_groups
from finescale.networks.options import take_options
from finescale.networks.placement import NETWORK_ENDS, Placement
from finescale.networks.state import State, depths_of, ratio_of


class DATSettings(FrameSettings):
    """Sizes of a DAT network; the defaults are those of the published DAT."""

    embed_dim: int = Field(180, ge=32)
    """Channels of the features, an even number."""
    depths: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    """Blocks of each group; spatial and channel attention take turns, spatial first."""
    num_heads: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    """Heads of the channel attention, for each group; each half of a spatial attention has half as many."""
    window_size: Size = (8, 32)
    """Window (height, width) of one half of the channels, in lr pixels; the other half's window lies across it.

    Published options call it split_size.
    """
    expansion_factor: float = Field(4.0, gt=0)
    """Hidden channels of the feed-forward layer, as a multiple of embed_dim."""
    qkv_bias: bool = True
    """Whether queries, keys and values have an offset."""
    qk_scale: QKScale = None
    """Factor of the scores of spatial attention; None is d^-1/2."""
    drop_path_rate: float = Field(0.1, ge=0, lt=1)
    """Share of a training's samples that skip a branch of the last block, less in earlier blocks; 0 is neutral."""
    upsampler: Literal["pixelshuffle", "pixelshuffledirect"] = "pixelshuffle"
    """Reconstruction head, see `finescale.layers.upsampling`."""
    residual_conv: Literal["1conv", "3conv"] = "1conv"
    """Convolution that closes each group and the body: one 3x3, or three through a quarter of the channels."""

    @property
    def hidden(self) -> int:
        """Channels between the two linear layers of the feed-forward."""
        return int(self.embed_dim * self.expansion_factor)

    @property
    def bias_width(self) -> int:
        """Inner width of the networks that compute the position bias, see `RectangleAttention`."""
        return self.embed_dim // 2 // 4 // 4

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_groups(self.depths, self.num_heads)
        if self.embed_dim % 2:
            raise ValueError(f"embed_dim must be even, got {self.embed_dim}")
        for heads in self.num_heads:
            if heads < 2:
                raise ValueError(f"num_heads must be at least 2, one for each half of the channels, got {heads}")
            if self.embed_dim % heads or self.embed_dim // 2 % (heads // 2):
                raise ValueError(f"embed_dim must be a multiple of the heads, got {self.embed_dim} and {heads}")
        if not 1 <= min(self.window_size) <= max(self.window_size) <= 512:
            raise ValueError(f"window_size must be from 1 to 512 pixels a side, got {self.window_size}")
        if self.hidden < 2 or self.hidden % 2:
            raise ValueError(
                f"expansion_factor must make an even number of hidden channels of {self.embed_dim}, "
                f"got {self.expansion_factor}, which makes {self.hidden}"
            )
        return self


class SpatialGate(nn.Module):
    """Gate of the spatial-gate feed-forward network: a norm and a depthwise convolution."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, D/2) to the same shape."""
        return convolve(self.conv, self.norm(x))


class SGFN(nn.Module):
    """Spatial-gate feed-forward network: one half of the hidden channels times a gate made from the other half.

    Args:
        channels: C of the map.
        hidden: D, an even number.
        gate: Map (N, H, W, D/2) to the same shape.
    """

    def __init__(self, *, channels: int, hidden: int, gate: nn.Module) -> None:
        super().__init__()
        self.fc1 = Linear(channels, hidden)
        self.sg = gate
        self.fc2 = Linear(hidden // 2, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        kept, gating = F.gelu(self.fc1(x)).chunk(2, dim=-1)
        return self.fc2(kept * self.sg(gating))  # type: ignore[no-any-return]


class ChannelProducts(AttentionProduct):
    """softmax(Qᵀ K · temperature) over channels, Q and K of unit length along the tokens, times V.

    The norms divide the small product instead of the maps, in float32 at least: sums of squares over an image leave
    the range of half precision.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
        """Query, key and value (N, tokens, heads, d) and temperature (heads, 1, 1) to (N, tokens, heads, d)."""
        exact = torch.promote_types(query.dtype, torch.float32)
        with without_autocast(query.device):
            query, key = (x.to(exact).permute(0, 2, 3, 1) for x in (query, key))  # (N, heads, d, tokens)
            query_norm, key_norm = (torch.linalg.vector_norm(x, dim=-1).clamp_min(1e-12) for x in (query, key))
            cosine = query @ key.transpose(2, 3) / (query_norm[..., :, None] * key_norm[..., None, :])
            mixture = (cosine * temperature).softmax(dim=-1).to(value.dtype)
        mixed: Tensor = value.transpose(1, 2) @ mixture.transpose(2, 3)
        return mixed.transpose(1, 2)

    def explicit(self) -> ExplicitChannelAttention:
        """Return the same with each operand passing a `Tap`."""
        return ExplicitChannelAttention()


class AdaptiveAttention(nn.Module, ABC):
    """Adaptive interaction module: an attention and a depthwise convolution of its values, which gate each other.

    Args:
        channels: C of the map.
        qkv_bias: Whether queries, keys and values have an offset.
    """

    def __init__(self, *, channels: int, qkv_bias: bool) -> None:
        super().__init__()
        self.qkv = Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = Linear(channels, channels)
        self.dwconv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.BatchNorm2d(channels), nn.GELU()
        )
        self.channel_interaction = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // 8, 1),
            nn.BatchNorm2d(channels // 8),
            nn.GELU(),
            nn.Conv2d(channels // 8, channels, 1),
        )
        self.spatial_interaction = nn.Sequential(
            nn.Conv2d(channels, channels // 16, 1),
            nn.BatchNorm2d(channels // 16),
            nn.GELU(),
            nn.Conv2d(channels // 16, 1, 1),
        )

    @abstractmethod
    def attend(self, qkv: Tensor) -> Tensor:
        """Attend: queries, keys and values (N, H, W, 3 * C), in this order, to (N, H, W, C)."""

    @abstractmethod
    def interact(self, attended: Tensor, convolved: Tensor) -> Tensor:
        """Return the sum of the two branches (N, H, W, C), each gated by the other."""

    def refine(self, convolved: Tensor) -> Tensor:
        """Refine the convolved values (N, H, W, C) before they meet the attention; by default not at all."""
        return convolved

    def integrate(self, mixed: Tensor) -> Tensor:
        """Refine the sum of the branches (N, H, W, C) before its projection; by default not at all."""
        return mixed

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        qkv = self.qkv(x)
        convolved = self.refine(convolve(self.dwconv, qkv.chunk(3, dim=-1)[2]))
        mixed = self.interact(self.attend(qkv), convolved)
        return self.proj(self.integrate(mixed))  # type: ignore[no-any-return]

    def channel_gate(self, x: Tensor) -> Tensor:
        """Compute a factor in (0, 1) for each channel: map (N, H, W, C) to (N, 1, 1, C)."""
        return convolve(self.channel_interaction, x).sigmoid()

    def spatial_gate(self, x: Tensor) -> Tensor:
        """Compute a factor in (0, 1) for each pixel: map (N, H, W, C) to (N, H, W, 1)."""
        return convolve(self.spatial_interaction, x).sigmoid()


class SpatialAttention(AdaptiveAttention):
    """Adaptive spatial attention: half of the channels in windows of h x w, half in windows of w x h.

    Args:
        channels: C of the map.
        qkv_bias: Whether queries, keys and values have an offset.
        num_heads: Heads of both halves together.
        window: (h, w) of the first half.
        shifted: Whether the windows lie half a window further down and to the right.
        bias_width: Inner width of the networks that compute the position bias; 1: there is none.
        qk_scale: Factor of the scores; None is d^-1/2.
    """

    def __init__(
        self,
        *,
        channels: int,
        qkv_bias: bool,
        num_heads: int,
        window: Size,
        shifted: bool,
        bias_width: int,
        qk_scale: float | None = None,
    ) -> None:
        super().__init__(channels=channels, qkv_bias=qkv_bias)
        self.attns = nn.ModuleList(
            RectangleAttention(
                num_heads=num_heads // 2, window=turned, shifted=shifted, bias_width=bias_width, scale=qk_scale
            )
            for turned in (window, window[::-1])
        )
        self._multiple = max(window), max(window)

    def attend(self, qkv: Tensor) -> Tensor:
        """Attend in windows: (N, H, W, 3 * C) to (N, H, W, C).

        The map is padded to whole windows by zeros, which are attended to like the rest.
        """
        height, width = qkv.shape[1:3]
        rows, columns = whole_windows((height, width), self._multiple)
        padded = F.pad(qkv, (0, 0, 0, columns - width, 0, rows - height))
        halves = padded.reshape(*padded.shape[:3], 3, 2, qkv.shape[-1] // 6).unbind(4)  # (N, H', W', 3, c)
        attended = [attn(half)[:, :height, :width] for attn, half in zip(self.attns, halves, strict=True)]
        return torch.cat(attended, dim=-1)

    def interact(self, attended: Tensor, convolved: Tensor) -> Tensor:
        """Gate the attention by channels and the convolution by pixels, and add them up."""
        return attended * self.channel_gate(convolved) + convolved * self.spatial_gate(attended)


class ChannelAttention(AdaptiveAttention):
    """Adaptive channel attention: every channel as a mixture of the channels of its head, over the whole image.

    Args:
        channels: C of the map.
        qkv_bias: Whether queries, keys and values have an offset.
        num_heads: Parts of the channels that mix among themselves.
    """

    def __init__(self, *, channels: int, qkv_bias: bool, num_heads: int) -> None:
        super().__init__(channels=channels, qkv_bias=qkv_bias)
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.attention = ChannelProducts()

    def attend(self, qkv: Tensor) -> Tensor:
        """Attend to channels: (N, H, W, 3 * C) to (N, H, W, C)."""
        n, height, width, _ = qkv.shape
        heads = qkv.reshape(n, height * width, 3, self.num_heads, -1).unbind(2)  # (N, H * W, heads, d)
        return self.attention(*heads, self.temperature).reshape(n, height, width, -1)  # type: ignore[no-any-return]

    def interact(self, attended: Tensor, convolved: Tensor) -> Tensor:
        """Gate the attention by pixels and the convolution by channels, and add them up."""
        return attended * self.spatial_gate(convolved) + convolved * self.channel_gate(attended)


class DATB(nn.Module):
    """Dual aggregation transformer block: an attention and a feed-forward layer, each after a norm and beside a skip.

    Args:
        channels: C of the map.
        attention: Spatial in one block, channel in the next.
        feed_forward: Map (N, H, W, C) to the same shape.
        drop_rate: Share of a training's samples for which a branch is left out.
    """

    def __init__(
        self, *, channels: int, attention: AdaptiveAttention, feed_forward: nn.Module, drop_rate: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = attention
        self.ffn = feed_forward
        self.norm2 = nn.LayerNorm(channels)
        self.drop = StochasticDepth(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = x + self.drop(self.attn(self.norm1(x)))
        return x + self.drop(self.ffn(self.norm2(x)))  # type: ignore[no-any-return]


class ResidualGroup(nn.Module):
    """Blocks, a convolution, and a skip over both."""

    def __init__(self, *, blocks: Iterable[DATB], settings: DATSettings) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.conv = residual_conv(settings.residual_conv, settings.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return x + convolve(self.conv, self.blocks(x))


class DAT(Frame):
    """DAT-S, DAT, DAT-2 or DAT-light, by its settings.

    Each block contains BatchNorm: a training needs batches of at least two images, and its outputs depend on the whole
    batch.
    """

    spatial_attention: ClassVar[type[SpatialAttention]] = SpatialAttention
    channel_attention: ClassVar[type[ChannelAttention]] = ChannelAttention
    gate: ClassVar[type[SpatialGate]] = SpatialGate

    settings: DATSettings

    def __init__(self, *, settings: DATSettings, scale: int) -> None:
        super().__init__(settings=settings, scale=scale)
        # The first step stands for a change of layout in the published network, whose norm has number 1.
        self.before_RG = nn.Sequential(nn.Identity(), nn.LayerNorm(settings.embed_dim))
        self.layers = nn.Sequential(
            *(
                ResidualGroup(blocks=[self._block(group, block) for block in range(depth)], settings=settings)
                for group, depth in enumerate(settings.depths)
            )
        )
        self.norm = nn.LayerNorm(settings.embed_dim)
        initialise_small(self, nn.Linear)

    def _block(self, group: int, block: int) -> DATB:
        """Build a block, which attends to pixels where its place in the group is even, to channels where it is odd."""
        settings = self.settings
        channels, heads = settings.embed_dim, settings.num_heads[group]
        attention: AdaptiveAttention
        if block % 2:
            attention = self.channel_attention(channels=channels, qkv_bias=settings.qkv_bias, num_heads=heads)
        else:
            attention = self.spatial_attention(
                channels=channels,
                qkv_bias=settings.qkv_bias,
                num_heads=heads,
                window=settings.window_size,
                shifted=is_shifted(group, block),
                bias_width=settings.bias_width,
                qk_scale=settings.qk_scale,
            )
        gate = self.gate(channels=settings.hidden // 2)
        return DATB(
            channels=channels,
            attention=attention,
            feed_forward=SGFN(channels=channels, hidden=settings.hidden, gate=gate),
            drop_rate=depth_rates(settings.drop_path_rate, settings.depths)[group][block],
        )

    @property
    def period(self) -> int:
        """Lr pixels after which the windows of both halves of the channels repeat together."""
        return math.lcm(*self.settings.window_size)

    def body(self, features: Tensor) -> Tensor:
        """Apply the groups between two norms: features (N, C, H, W) to the same shape."""
        x = self.before_RG(features.permute(0, 2, 3, 1))  # (N, H, W, C)
        return self.norm(self.layers(x)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def is_shifted(group: int, block: int) -> bool:
    """Whether a spatial block has shifted windows: every other one has, in odd groups beginning with the first."""
    return block % 4 == (0 if group % 2 else 2)


# ---- reading files and options

_OFFSETS = "layers.0.blocks.0.attn.attns.0.rpe_biases"  # a buffer


def settings_from_state(state: State) -> tuple[DATSettings, int]:
    """Read settings and scale from the shapes of a DAT weight file.

    The window is read from the values of a derivable buffer, ``rpe_biases``; without it 8x32 is assumed, which is
    wrong for DAT-S. A file does not show image_range, mean, qk_scale and drop_path_rate.
    """
    fields, scale = fields_from_state(state)
    return DATSettings(**fields), scale


def fields_from_state(state: State) -> tuple[dict[str, Any], int]:
    """Read the fields of `DATSettings` that a weight file shows, and its scale."""
    embed_dim, in_channels = state["conv_first.weight"].shape[:2]
    depths = depths_of(state, "blocks")
    upsampler, scale = head_from_state(state)
    fields = {
        "in_channels": in_channels,
        "embed_dim": embed_dim,
        "depths": depths,
        "num_heads": tuple(_num_heads(state, group) for group in range(len(depths))),
        "expansion_factor": ratio_of(state["layers.0.blocks.0.ffn.fc1.weight"].shape[0], embed_dim),
        "qkv_bias": "layers.0.blocks.0.attn.qkv.bias" in state,
        "upsampler": upsampler,
        "residual_conv": "1conv" if "conv_after_body.weight" in state else "3conv",
    }
    offsets = state.get(_OFFSETS)
    if offsets is not None:
        fields["window_size"] = _window(offsets)
    return fields, scale


def _num_heads(state: State, group: int) -> int:
    """Return the heads of a group; an even number for one without channel attention, which shows only half of them."""
    temperature = state.get(f"layers.{group}.blocks.1.attn.temperature")
    if temperature is not None:
        return temperature.shape[0]
    return 2 * state[f"layers.{group}.blocks.0.attn.attns.0.pos.pos3.2.weight"].shape[0]


def _window(offsets: Tensor) -> Size:
    """Return the window (h, w) whose offsets these are; the last are h - 1 and w - 1.

    Raises:
        ValueError: They are not a window's offsets.
    """
    if offsets.ndim == 2 and offsets.shape[1] == 2:
        h, w = (int(last) + 1 for last in offsets[-1].nan_to_num().tolist())
        if offsets.shape[0] == (2 * h - 1) * (2 * w - 1):
            return h, w
    raise ValueError(f"rpe_biases of shape {tuple(offsets.shape)} does not hold the offsets of a window")


def published_buffers(network: DAT) -> dict[str, Tensor]:
    """Compute offsets and indices of each window."""
    buffers = {}
    for name, module in network.named_modules():
        if isinstance(module, RectangleAttention):
            buffers[f"{name}.rpe_biases"] = offset_grid(module.window, torch.empty(0)).flatten(0, 1)
            buffers[f"{name}.relative_position_index"] = relative_index(module.window)
    return buffers


def published_masks(network: DAT, image_size: int | None) -> dict[str, Tensor]:
    """Compute the masks of each shifted attention for one image size, 64 in published files.

    Raises:
        ValueError: The published network could not be built for this size.
    """
    multiple = math.lcm(*network.settings.window_size)
    side = image_size or multiple * math.ceil(64 / multiple)
    if side % multiple:
        raise ValueError(f"image_size must be a multiple of {multiple}, by its windows, got {side}")
    masks = {}
    for name, module in network.named_modules():
        if isinstance(module, RectangleAttention) and any(module.shift):
            attention, _, half = name.rpartition(".attns.")
            masks[f"{attention}.attn_mask_{half}"] = shift_mask((side, side), module.window, module.shift)
    return masks


def unseen_fields(_: DATSettings, state: State) -> tuple[str, ...]:
    """Name the fields that `settings_from_state` assumes."""
    window = () if _OFFSETS in state else ("window_size",)
    return ("image_range", "mean", *window, "qk_scale", "drop_path_rate")


_ARGUMENTS: Mapping[str, str] = {
    "split_size": "window_size",
    "depth": "depths",
    "expansion_factor": "expansion_factor",
    "qkv_bias": "qkv_bias",
    "qk_scale": "qk_scale",
    "drop_path_rate": "drop_path_rate",
    "upsampler": "upsampler",
}
"""Arguments of the published constructor, and our fields."""

_DEFAULTS: Mapping[str, Any] = {"split_size": (2, 4), "depth": (2,) * 4, "num_heads": (2,) * 4, "upscale": 2}
"""Defaults of the published constructor where they are not those of DAT."""


def placement(settings: DATSettings) -> Placement:
    """Place quantizers, except within a position bias without effect."""
    return Placement(float_layers=() if settings.bias_width > 1 else ("*.pos",), frequency=NETWORK_ENDS)


def settings_from_options(options: Mapping[str, Any]) -> tuple[DATSettings, int]:
    """Read settings and scale from the published constructor's arguments.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    fields, scale = fields_from_options({**_DEFAULTS, **options})
    return DATSettings(**fields), scale


def fields_from_options(
    options: Mapping[str, Any], *, more: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], int]:
    """Read the fields that constructor arguments state, of `DATSettings` or of a subclass, and the scale.

    Args:
        options: The arguments, ``upscale`` among them.
        more: Argument to field, for what a subclass has beyond `DATSettings`.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    taken = take_options(
        options,
        fields={**_ARGUMENTS, **(more or {})},
        neutral={"drop_rate": 0, "attn_drop_rate": 0},
        without_effect=("img_size", "use_chk"),
        in_vain=(),
    )
    return taken, taken.pop("scale")


_LIGHT: Mapping[str, Any] = {
    "embed_dim": 60,
    "depths": (18,),
    "num_heads": (6,),
    "expansion_factor": 2,
    "residual_conv": "3conv",
    "upsampler": "pixelshuffledirect",
}


def _tiny(**switches: Any) -> DATSettings:
    # Below 96 channels the norms within the position bias leave an offset's sign at most, below 64 nothing.
    small = {"embed_dim": 96, "depths": (2,), "num_heads": (4,), "window_size": (2, 4), "drop_path_rate": 0}
    return DATSettings(**{**_LIGHT, **small, **switches})


UNSEEN_HELP = {
    **UNSEEN,
    "window_size": "8x32 in a file without the buffers `rpe_biases`, which is wrong for DAT-S",
    "drop_path_rate": "0.1, which matters in training alone",
}
"""`WeightFiles.unseen_help` of DAT without its ``qk_scale``, which CIT does not have."""

# ---- what the authors publish

_REPOSITORY = "https://github.com/zhengchen1999/DAT"

_LR = {2: (360, 640), 3: (240, 426), 4: (180, 320)}
"""Lr sizes for a result of 1280x720 pixels, for which the authors count DAT-light; the others for `_PATCH`."""

_PATCH = (128, 128)

_RULE = "multiply-adds, and 5, 2 and 1 for each element of a LayerNorm, a BatchNorm and a global mean"

_COSTS = {
    (variant, scale): Cost(
        num_parameters=parameters,
        multiply_adds=Count(multiply_adds, size=size) if multiply_adds else None,
        printed=(Count(printed, size=size, rule=_RULE),) if printed else (),
    )
    for variant, scale, parameters, multiply_adds, printed, size in (
        ("dat-s", 2, 11_064_419, None, None, _PATCH),
        ("dat-s", 3, 11_249_059, None, None, _PATCH),
        ("dat-s", 4, 11_212_131, 201.39, 203.34, _PATCH),
        ("dat", 2, 14_654_339, None, None, _PATCH),
        ("dat", 3, 14_838_979, None, None, _PATCH),
        ("dat", 4, 14_802_051, 273.26, 275.75, _PATCH),
        ("dat-2", 2, 11_064_419, 204.97, 206.93, _PATCH),
        ("dat-2", 3, 11_249_059, 208.14, 210.09, _PATCH),
        ("dat-2", 4, 11_212_131, 214.98, 216.93, _PATCH),
        ("dat-light", 2, 553_290, 189.62, 194.26, _LR[2]),
        ("dat-light", 3, 561_405, 86.53, 88.59, _LR[3]),
        ("dat-light", 4, 572_766, 48.52, 49.69, _LR[4]),
    )
}

_PUBLISHED = [
    Published(
        variant=variant,
        scale=scale,
        training_data="DIV2K, Flickr2K",
        scores=scores(row),
        file=f"{file}_x{scale}.pth",
        page=_REPOSITORY,
        licence="Apache-2.0",
    )
    for variant, file, scale, row in (
        ("dat-s", "DAT_S", 2, "38.54/0.9627 34.60/0.9258 32.57/0.9047 34.12/0.9444 40.17/0.9804"),
        ("dat-s", "DAT_S", 3, "35.12/0.9327 31.04/0.8543 29.51/0.8157 29.98/0.8846 35.41/0.9546"),
        ("dat-s", "DAT_S", 4, "33.00/0.9047 29.20/0.7962 27.97/0.7502 27.68/0.8300 32.33/0.9278"),
        ("dat", "DAT", 2, "38.58/0.9629 34.81/0.9272 32.61/0.9051 34.37/0.9458 40.33/0.9807"),
        ("dat", "DAT", 3, "35.16/0.9331 31.11/0.8550 29.55/0.8169 30.18/0.8886 35.59/0.9554"),
        ("dat", "DAT", 4, "33.08/0.9055 29.23/0.7973 28.00/0.7515 27.87/0.8343 32.51/0.9291"),
        ("dat-2", "DAT_2", 2, "38.58/0.9627 34.78/0.9268 32.60/0.9050 34.31/0.9457 40.29/0.9806"),
        ("dat-2", "DAT_2", 3, "35.14/0.9328 31.06/0.8547 29.53/0.8161 30.13/0.8878 35.49/0.9550"),
        ("dat-2", "DAT_2", 4, "33.01/0.9047 29.21/0.7965 27.98/0.7509 27.86/0.8341 32.41/0.9285"),
        ("dat-light", "DAT_light", 2, "38.24/0.9614 34.01/0.9214 32.34/0.9019 32.89/0.9346 39.49/0.9788"),
        ("dat-light", "DAT_light", 3, "34.76/0.9299 30.63/0.8474 29.29/0.8103 28.89/0.8666 34.55/0.9501"),
        ("dat-light", "DAT_light", 4, "32.57/0.8991 28.87/0.7879 27.74/0.7428 26.64/0.8033 31.37/0.9178"),
    )
]

LONG: Mapping[str, Any] = {
    "data": "DF2K",
    "batch": 32,
    "lr": 2e-4,
    "iterations": 500_000,
    "milestones": HALVED,
    "seed": 10,
}
"""Training of DAT-light, and of every network at x2."""

SHORT: Mapping[str, Any] = {
    **LONG, "lr": 1e-4, "iterations": 250_000, "milestones": (125_000, 200_000, 225_000, 237_500)
}  # fmt: skip
"""Training of the larger networks at x3 and x4, which continue from x2."""

_RECIPES = {
    **{(variant, 2): [Recipe(variant=variant, **LONG)] for variant in ("dat-s", "dat", "dat-2", "dat-light")},
    **{
        (variant, scale): [Recipe(variant=variant, start=(variant, 2), **SHORT)]
        for variant in ("dat-s", "dat", "dat-2")
        for scale in (3, 4)
    },
    **{
        ("dat-light", scale): [
            Recipe(
                variant="dat-light",
                start=("dat-light", 2),
                remark="the option files start from x2; the author was not sure that the paper's networks did",
                **LONG,
            )
        ]
        for scale in (3, 4)
    },
}

FAMILY = Family(
    name="dat",
    about=About(
        title="DAT",
        idea=(
            "Blocks attend in turn over the pixels of rectangular windows and over the channels of the whole image. A "
            "convolution runs beside each attention, and the two gate each other."
        ),
        remarks=("DAT+ of the paper is DAT with an eightfold self-ensemble, `finescale upscale --ensemble`.",),
    ),
    network=DAT,
    variants={
        "dat-s": DATSettings(window_size=(8, 16), expansion_factor=2),
        "dat": DATSettings(),
        "dat-2": DATSettings(expansion_factor=2),
        "dat-light": DATSettings(**_LIGHT),
    },
    tiny={
        "dat-s": _tiny(window_size=(2, 2), depths=(1, 1), num_heads=(4, 4), expansion_factor=1),
        "dat": _tiny(expansion_factor=3),
        "dat-2": _tiny(residual_conv="1conv", expansion_factor=1),
        "dat-light": _tiny(depths=(3,), expansion_factor=1),
    },
    publication=Publication(
        paper=Paper(
            title="Dual Aggregation Transformer for Image Super-Resolution",
            authors="Z. Chen, Y. Zhang, J. Gu, L. Kong, X. Yang, F. Yu",
            venue="ICCV 2023",
            url="https://arxiv.org/abs/2308.03364",
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
        networks=_PUBLISHED,
        counting={_RULE: count_as_fvcore},
    ),
    files=WeightFiles(
        marks=(".attns.0.pos.pos_proj.weight", ".ffn.sg.conv.weight"),
        foreign=(".attn.hfab.squeeze.weight",),  # CIT's
        derivable=(".rpe_biases", ".relative_position_index", ".attn_mask_0", ".attn_mask_1"),
        from_state=settings_from_state,
        unseen=unseen_fields,
        unseen_help={**UNSEEN_HELP, "qk_scale": "d ** -0.5, the usual one"},
        buffers=published_buffers,
        masks=published_masks,
    ),
    options=PublishedOptions(classes=("DAT",), read=settings_from_options),
    quantization=Quantization(placement=placement),
    recipes=_RECIPES,
    openvino_speed=1.6,
)
