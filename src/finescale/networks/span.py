"""SPAN: the sliding proxy attention network (not the swift parameter-free one of the same acronym).

Z. Hu, W. Sun, Z. Chen, "Lightweight image super-resolution with Sliding Proxy Attention Network", Signal Processing,
2024, article 109704.

One attention in windows that overlap replaces attention in windows and then in shifted windows. A pixel of an overlap
is a query in up to four windows; their sums of weighted values and of weights are added up before the one is divided by
the other, so that the pixel attends to all four at once. The result gates itself by its fine detail. A group begins
with a cheap convolution of shifted channels and ends with a gate of wide context.

Letters: N batch, H W size of the map, C = embed_dim, n heads, d = C/n, w window, o overlap, t = w - o stride,
L = w * w, (R, S) rows and columns of windows, K = N * R * S.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from finescale.layers.attention import ExponentialSums
from finescale.layers.convolution import convolve
from finescale.layers.initialisation import initialise_small
from finescale.layers.parameter_cache import ParameterCache
from finescale.layers.position import relative_bias, relative_index
from finescale.layers.precision import SafeConv2d, SafeLayerNorm, widened
from finescale.layers.stochastic_depth import StochasticDepth, depth_rates
from finescale.layers.upsampling import head_from_state
from finescale.layers.windows import at_least, pad_reflect, sliding_windows
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
)
from finescale.networks.frame import Frame, FrameSettings, check_groups
from finescale.networks.options import take_options
from finescale.networks.placement import NETWORK_ENDS, Placement
from finescale.networks.state import State, depths_of, ratio_of

SMALLEST_SIDE = 15
"""Smallest side of a map, in pixels, of which the strided layers of `ESA` leave something."""


class SPANSettings(FrameSettings):
    """Sizes of a sliding proxy attention network; the defaults are those of the published one."""

    depths: tuple[int, ...] = (2, 2, 2, 2, 2, 2)
    """Attention blocks of each group, besides the convolutional one that it begins with."""
    num_heads: tuple[int, ...] = (6, 6, 6, 6, 6, 6)
    """Heads of the attention, for each group."""
    window_size: int = Field(12, ge=1)
    """Side of the attention windows, in lr pixels."""
    overlap_size: int = Field(3, ge=0)
    """Pixels that a window shares with the next one; 0 is neutral."""
    padding_size: int = Field(0, ge=0)
    """Pixels by which the windows reach beyond the map on every side, where all values are zero; 0 is neutral."""
    mlp_ratio: float = Field(2.0, gt=0)
    """Hidden channels of the feed-forward layer, as a multiple of embed_dim."""
    qkv_bias: bool = True
    """Whether queries, keys and values have an offset."""
    drop_path_rate: float = Field(0.1, ge=0, lt=1)
    """Share of samples that skip the branches of the last block in training, less in earlier blocks; 0 is neutral."""

    @property
    def stride(self) -> int:
        """Pixels from one window to the next."""
        return self.window_size - self.overlap_size

    @property
    def hidden(self) -> int:
        """Hidden channels of the feed-forward layer."""
        return int(self.embed_dim * self.mlp_ratio)

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_groups(self.depths, self.num_heads)
        if self.embed_dim < 5:
            raise ValueError(f"embed_dim must be at least 5, got {self.embed_dim}")
        for heads in self.num_heads:
            if heads < 1 or self.embed_dim % heads:
                raise ValueError(f"embed_dim must be a multiple of the heads, got {self.embed_dim} and {heads}")
        for name in ("overlap_size", "padding_size"):
            if getattr(self, name) >= self.window_size:
                raise ValueError(f"{name} must be less than window_size {self.window_size}, got {getattr(self, name)}")
        if self.hidden < 2 or self.hidden % 2:
            raise ValueError(f"embed_dim * mlp_ratio must be even, got {self.embed_dim} * {self.mlp_ratio}")
        if self.residual_conv == "identity":
            raise ValueError("residual_conv must be '1conv' or '3conv', got 'identity'")
        return self


class ChannelNorm(nn.Module):
    """Layer norm over the channels, in a module of its own because of its published key."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.norm = SafeLayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.norm(x)  # type: ignore[no-any-return]


def shift_channels(x: Tensor) -> Tensor:
    """Move a fifth of the channels one pixel to the left, one to the right, one up and one down; zeros come in.

    Args:
        x: Map (N, H, W, C); the last fifth, and the channels that five does not divide, stay where they are.
    """
    height, width, channels = x.shape[1:]
    fifth = channels // 5
    x = F.pad(x, (0, 0, 1, 1, 1, 1))
    steps = ((0, 1), (0, -1), (1, 0), (-1, 0), (0, 0))
    parts = torch.split(x, [fifth, fifth, fifth, fifth, channels - 4 * fifth], dim=-1)
    return torch.cat(
        [
            part[:, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
            for part, (dy, dx) in zip(parts, steps, strict=True)
        ],
        dim=-1,
    )


def shift_kernels(channels: int) -> Tensor:
    """Return the constant depthwise kernels (C, 1, 3, 3) by which the published network shifts channels."""
    impulse = torch.zeros(1, 3, 3, channels)
    impulse[:, 1, 1] = 1
    return shift_channels(impulse).flip(1, 2).permute(3, 0, 1, 2)  # the response to an impulse is the flipped kernel


class ELFEB(nn.Module):
    """Efficient local feature extraction block: convolutions between two shifts of channels, and a skip."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            SafeConv2d(channels, channels, 1), SafeConv2d(channels, channels, 5, padding=2, groups=channels), nn.GELU()
        )
        self.conv2 = SafeConv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        local = convolve(self.conv_block, shift_channels(x))
        return convolve(self.conv2, shift_channels(local)) + x


def add_windows(windows: Tensor, window: int, stride: int) -> Tensor:
    """Add up overlapping windows, each at its place.

    Windows are cut at multiples of the stride: pieces of equal number lie side by side and are added in one step.

    Args:
        windows: (N, R, S, C, L), in the order of `sliding_windows`.
        window: Side of a window.
        stride: Pixels from one window to the next, at most the side.

    Returns:
        Map (N, H, W, C).
    """
    n, rows, columns, channels, _ = windows.shape
    windows = windows.reshape(n, rows, columns, channels, window, window).permute(0, 1, 4, 2, 5, 3)
    pieces = -(-window // stride)
    if torch.compiler.is_compiling():  # exporters translate no addition to a part
        return _add_pieces(windows, stride, pieces)
    out = windows.new_zeros(n, rows + pieces - 1, stride, columns + pieces - 1, stride, channels)
    for y in range(pieces):
        for x in range(pieces):
            piece = windows[:, :, y * stride : (y + 1) * stride, :, x * stride : (x + 1) * stride]
            out[:, y : y + rows, : piece.shape[2], x : x + columns, : piece.shape[4]] += piece
    height, width = ((count - 1) * stride + window for count in (rows, columns))
    return out.flatten(3, 4).flatten(1, 2)[:, :height, :width]


def _add_pieces(windows: Tensor, stride: int, pieces: int) -> Tensor:
    """Compute `add_windows` by sums of whole maps, from windows (N, R, w, S, w, C)."""
    _, rows, window, columns, _, channels = windows.shape
    beyond = pieces * stride - window
    windows = F.pad(windows, (0, 0, 0, beyond, 0, 0, 0, beyond))
    out: Tensor | None = None
    for y in range(pieces):
        for x in range(pieces):
            piece = windows[:, :, y * stride : (y + 1) * stride, :, x * stride : (x + 1) * stride]
            piece = piece.reshape(-1, rows * stride, columns * stride, channels)
            top, left, last = y * stride, x * stride, (pieces - 1) * stride
            piece = F.pad(piece, (0, 0, left, last - left, top, last - top))
            out = piece if out is None else out + piece
    assert out is not None
    height, width = ((count - 1) * stride + window for count in (rows, columns))
    return out[:, :height, :width]


def pooled_and_repeated(image: Tensor, factor: int) -> Tensor:
    """Replace each pixel by the mean of the cell that it is nearest to, where an image is cut into whole cells.

    It computes `torch.nn.functional.adaptive_avg_pool2d` and its nearest interpolation, which exporters translate for
    no image whose size is free: cells differ by up to two pixels, and are gathered here.

    Args:
        image: (N, C, H, W), each side at least ``factor``.
        factor: Least side of a cell in pixels; there are ``side // factor`` on each axis.
    """
    for axis in (2, 3):
        side = image.shape[axis]
        cells = side // factor
        cell = torch.arange(cells, device=image.device)[:, None]
        first, last = cell * side // cells, ((cell + 1) * side + cells - 1) // cells
        place = first + torch.arange(2 * factor, device=image.device)  # (cells, 2 * factor), which no cell exceeds
        weight = (place < last) / (last - first)
        taken = image.index_select(axis, place.flatten().clamp_max(side - 1))
        if axis == 2:
            pooled = taken.reshape(*image.shape[:2], -1, 2 * factor, image.shape[3])
            image = (pooled * weight[:, :, None].to(image.dtype)).sum(3)
        else:
            pooled = taken.reshape(*image.shape[:3], -1, 2 * factor)
            image = (pooled * weight.to(image.dtype)).sum(4)
        ratio = torch.full((), cells, device=image.device).float() / side  # in float32, as the interpolation has it
        image = image.index_select(axis, (torch.arange(side, device=image.device) * ratio).long().clamp_max(cells - 1))
    return image


class HFT(nn.Module):
    """High-frequency gate, computed from the differences between each pixel and its surroundings at three scales."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.conv_after_upsample = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        image = x.permute(0, 3, 1, 2)
        height, width = image.shape[2:]
        detail = 3 * image
        for factor in (2, 4, 8):
            if torch.compiler.is_compiling():
                detail = detail - pooled_and_repeated(image, factor)
                continue
            pooled = F.adaptive_avg_pool2d(image, (height // factor, width // factor))
            detail = detail - F.interpolate(pooled, size=(height, width), mode="nearest")
        return (self.conv_after_upsample(detail) * image).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


class SpatialGate(nn.Module):
    """One half of the channels times a depthwise convolution of the other."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels=channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, 2 * channels) to (N, H, W, channels)."""
        plain, gate = x.chunk(2, dim=-1)
        return plain * convolve(self.conv, self.norm(gate))


class GatedFFN(nn.Module):
    """Feed-forward layer with a spatial gate."""

    def __init__(self, *, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.sg = SpatialGate(channels=hidden // 2)
        self.fc2 = nn.Conv2d(hidden // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return convolve(self.fc2, self.sg(F.gelu(convolve(self.fc1, x))))


class SPAB(nn.Module):
    """Sliding proxy attention block: attention in overlapping windows with a gate, then a feed-forward layer."""

    def __init__(self, *, settings: SPANSettings, num_heads: int, drop_path: float) -> None:
        super().__init__()
        channels = settings.embed_dim
        self.window = settings.window_size
        self.stride = settings.stride
        self.padding = settings.padding_size
        self.num_heads = num_heads
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * self.window - 1) ** 2, num_heads))
        self.norm1 = ChannelNorm(channels=channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=settings.qkv_bias)
        self.attention = ExponentialSums()
        self.proj_out = nn.Conv2d(channels, channels, 1)
        self.hft_attention = HFT(channels=channels)
        self.drop_path = StochasticDepth(drop_path)
        self.norm2 = ChannelNorm(channels=channels)
        self.conv_ffn = GatedFFN(channels=channels, hidden=settings.hidden)
        self._bias = ParameterCache(self)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        attended = convolve(self.proj_out, self.attend(convolve(self.qkv, self.norm1(x))))
        x = x + self.drop_path(self.hft_attention(attended))
        return x + self.drop_path(self.conv_ffn(self.norm2(x)))  # type: ignore[no-any-return]

    def attend(self, qkv: Tensor) -> Tensor:
        """Attend: queries, keys and values (N, H, W, 3C) to (N, H, W, C).

        Pixels outside the map hold zeros, and are keys as well. As a query's largest weight is 1 in each window,
        whatever its score, this is not one softmax over all windows; the published weights were trained with it.
        """
        height, width = qkv.shape[1:3]
        qkv = F.pad(qkv, (0, 0, *(self.padding,) * 4))
        windows = sliding_windows(qkv, self.window, self.stride)  # (N, R, S, L, 3C)
        n, rows, columns, tokens, channels = windows.shape
        heads = windows.reshape(-1, tokens, 3, self.num_heads, channels // 3 // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # (K, n, L, d) each
        sums = self.attention(query * self.temperature, key, value, self._bias(self.position_bias).to(qkv.dtype))
        values, weights = (
            add_windows(part.reshape(n, rows, columns, -1, tokens), self.window, self.stride) for part in sums
        )
        out = values / weights.repeat_interleave(values.shape[-1] // self.num_heads, dim=-1)  # (N, H, W, C), padded
        return out[:, self.padding : self.padding + height, self.padding : self.padding + width]

    def position_bias(self) -> Tensor:
        """Compute the position bias (n, L, L), query by key."""
        index = relative_index((self.window, self.window), self.relative_position_bias_table.device)
        return relative_bias(self.relative_position_bias_table, index)


class ESA(nn.Module):
    """Enhanced spatial attention: a gate from a wide neighbourhood, computed on a small map."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        narrow = max(16, channels // 4)
        self.conv1 = SafeConv2d(channels, narrow, 1)
        self.conv_f = SafeConv2d(narrow, narrow, 1)
        self.conv2 = SafeConv2d(narrow, narrow, 3, stride=2)
        self.conv3 = SafeConv2d(narrow, narrow, 3, padding=1)
        self.conv4 = SafeConv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape, from `SMALLEST_SIDE` pixels a side up."""
        image = x.permute(0, 3, 1, 2)
        narrow = self.conv1(image)
        context = self.conv3(F.max_pool2d(self.conv2(narrow), 7, stride=3))
        context = F.interpolate(context, size=image.shape[2:], mode="bilinear", align_corners=False)
        gate = torch.sigmoid(self.conv4(context + self.conv_f(narrow)))
        return (gate * image).permute(0, 2, 3, 1)


class Blocks(nn.Module):
    """Blocks of a group, each with a skip of its own and one more around it.

    Each of the 18 blocks of the published network at least doubles the map, so the map is kept in float32 in place of
    float16, except within the blocks' norms.
    """

    def __init__(self, *, settings: SPANSettings, group: int) -> None:
        super().__init__()
        rates = depth_rates(settings.drop_path_rate, settings.depths)[group]
        self.blocks = nn.ModuleList(
            [
                ELFEB(channels=settings.embed_dim),
                *(SPAB(settings=settings, num_heads=settings.num_heads[group], drop_path=rate) for rate in rates),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = widened(x)
        for block in self.blocks:
            x = block(x) + x
        return x


class Group(nn.Module):
    """Group of blocks with a gate over their result; there is no skip around them."""

    def __init__(self, *, settings: SPANSettings, group: int) -> None:
        super().__init__()
        self.residual_group = Blocks(settings=settings, group=group)
        self.esa = ESA(channels=settings.embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.esa(self.residual_group(x))  # type: ignore[no-any-return]


class SPAN(Frame):
    """The sliding proxy attention network."""

    closing_conv = SafeConv2d

    settings: SPANSettings

    def __init__(self, *, settings: SPANSettings, scale: int) -> None:
        super().__init__(settings=settings, scale=scale)
        self.layers = nn.Sequential(*(Group(settings=settings, group=group) for group in range(len(settings.depths))))
        initialise_small(self, nn.Conv2d)

    @property
    def period(self) -> int:
        """Lr pixels from one window to the next."""
        return self.settings.stride

    def pad(self, image: Tensor) -> Tensor:
        """Mirror the image (N, C, H, W) to sides that whole windows cover, and that `ESA` takes."""
        beyond = 2 * self.settings.padding_size
        sides = []
        for side in image.shape[2:]:
            least = at_least(side, max(SMALLEST_SIDE, self.settings.window_size - beyond))
            ends = self.settings.overlap_size - beyond  # of the last window, beyond a multiple of the stride
            sides.append(least + (ends - least) % self.settings.stride)
        return pad_reflect(image.permute(0, 2, 3, 1), (sides[0], sides[1])).permute(0, 3, 1, 2)

    def body(self, features: Tensor) -> Tensor:
        """Apply the groups: features (N, C, H, W) to the same shape."""
        return self.layers(features.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


# ---- reading files and options


def settings_from_state(state: State) -> tuple[SPANSettings, int]:
    """Read settings and scale from the shapes of a weight file.

    A file does not show image_range, mean, overlap_size (that of the published network is assumed, or the largest that
    fits the windows), padding_size and drop_path_rate.
    """
    embed_dim, in_channels = state["conv_first.weight"].shape[:2]
    depths = tuple(count - 1 for count in depths_of(state, "residual_group.blocks"))  # the first one is convolutional
    attention = "layers.{}.residual_group.blocks.1."
    first = attention.format(0)
    upsampler, scale = head_from_state(state)
    hidden = state[first + "conv_ffn.fc1.weight"].shape[0]
    window = (math.isqrt(state[first + "relative_position_bias_table"].shape[0]) + 1) // 2
    settings = SPANSettings(
        in_channels=in_channels,
        embed_dim=embed_dim,
        upsampler=upsampler,
        residual_conv="1conv" if "conv_after_body.weight" in state else "3conv",
        depths=depths,
        num_heads=tuple(state[attention.format(group) + "temperature"].shape[0] for group in range(len(depths))),
        window_size=window,
        overlap_size=min(3, window - 1),
        mlp_ratio=ratio_of(hidden, embed_dim),
        qkv_bias=first + "qkv.bias" in state,
    )
    return settings, scale


def published_buffers(network: SPAN) -> dict[str, Tensor]:
    """Compute the kernels that shift channels, and the index of each attention."""
    buffers = {}
    for name, module in network.named_modules():
        if isinstance(module, ELFEB):
            buffers[f"{name}.weight"] = shift_kernels(network.settings.embed_dim)
        elif isinstance(module, SPAB):
            buffers[f"{name}.relative_position_index"] = relative_index((module.window, module.window))
    return buffers


def unseen_fields(_: SPANSettings, __: State) -> tuple[str, ...]:
    """Name the fields that `settings_from_state` assumes, the same for every network."""
    return ("image_range", "mean", "overlap_size", "padding_size", "drop_path_rate")


_DEFAULTS: Mapping[str, Any] = {
    "upscale": 2,
    "img_size": 64,
    "embed_dim": 96,
    "depths": (6, 6, 6, 6),
    "num_heads": (6, 6, 6, 6),
    "window_size": 7,
    "overlap_size": 0,
    "mlp_ratio": 4.0,
    "upsampler": "",
}
"""Defaults of the published constructor, where they are not those of the published network."""


def placement(_: SPANSettings) -> Placement:
    """Place quantizers; the gate of `HFT` reads high frequencies."""
    return Placement(
        shared_inputs={"esa.conv_f": "esa.conv2"},
        frequency=(*NETWORK_ENDS, "*.hft_attention.*.input_quantizer"),
    )


def settings_from_options(options: Mapping[str, Any]) -> tuple[SPANSettings, int]:
    """Read settings and scale from the published constructor's arguments.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    taken = take_options(
        {**_DEFAULTS, **options},
        fields={
            "img_size": "patch",
            "depths": "depths",
            "window_size": "window_size",
            "overlap_size": "overlap_size",
            "padding_size": "padding_size",
            "mlp_ratio": "mlp_ratio",
            "qkv_bias": "qkv_bias",
            "drop_path_rate": "drop_path_rate",
            "upsampler": "upsampler",
        },
        neutral={"drop_rate": 0},
        without_effect=("attn_drop_rate", "use_checkpoint"),
        in_vain=(),
    )
    scale = taken.pop("scale")
    patch = taken.pop("patch")
    settings = SPANSettings(**taken)
    if (min(patch) if isinstance(patch, Sequence) else patch) <= settings.window_size:
        # The published block would then cut smaller windows than its padding expects, and divide zero by zero.
        raise ValueError(f"SPAN: img_size must exceed window_size {settings.window_size}, got {patch!r}")
    return settings, scale


# ---- what the authors publish


def _shifts_by_convolution(_: ELFEB, arguments: tuple[Tensor]) -> int:
    """Channels are shifted twice, in the published network by depthwise 3x3 convolutions; ours copies them."""
    return 2 * 9 * arguments[0].numel()


_REPOSITORY = "https://github.com/zononhzy/SPAN"

_COSTS = {
    ("span", scale): Cost(
        num_parameters=parameters,
        num_constants=3_240,  # the kernels that shift channels
        multiply_adds=Count(multiply_adds, size=size),
    )
    for scale, parameters, multiply_adds, size in (  # for results of 1280x720 pixels
        (2, 499_680, 185.34, (360, 640)),
        (3, 507_795, 83.95, (240, 426)),
        (4, 519_156, 48.48, (180, 320)),
    )
}

_PUBLISHED = [
    Published(
        variant="span",
        scale=scale,
        training_data="DIV2K",
        scores={},
        file=f"sr{scale}.pth",
        page=_REPOSITORY,
        licence="CC-BY-NC-4.0",
        remark="in the folder `pretrained` of the repository",
    )
    for scale in (2, 3, 4)
]

_RECIPES = {
    ("span", scale): [
        Recipe(
            variant="span",
            data="DIV2K",
            patch=66,
            batch=batch,
            lr=5e-4,
            milestones=HALVED,
            iterations=500_000,
            average=0.999,
            seed=0,
            remark="from the current option files; the published weights predate their change from 600,000 steps",
        )
    ]
    for scale, batch in ((2, 32), (3, 64), (4, 64))
}

FAMILY = Family(
    name="span",
    about=About(
        title="The sliding proxy network",
        label="sliding proxy",
        idea=(
            "One attention in windows that overlap replaces attention in windows and then in shifted windows: a pixel "
            "of an overlap attends to up to four windows at once."
        ),
        caution=(
            "This is the Sliding Proxy Attention Network, not the Swift Parameter-free Attention Network with the same "
            "acronym, whose weight files it cannot load."
        ),
        remarks=(
            "The authors' repository shows a chart but no table of results.",
            "The constants are kernels that shift channels; the multiply-adds count them as convolutions.",
        ),
    ),
    network=SPAN,
    variants={"span": SPANSettings()},
    tiny={
        "span": SPANSettings(
            embed_dim=12, depths=(1, 2), num_heads=(2, 3), window_size=6, overlap_size=2, drop_path_rate=0
        )
    },
    publication=Publication(
        paper=Paper(
            title="Lightweight image super-resolution with Sliding Proxy Attention Network",
            authors="Z. Hu, W. Sun, Z. Chen",
            venue="Signal Processing, article 109704",
            url="https://doi.org/10.1016/j.sigpro.2024.109704",
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
        networks=_PUBLISHED,
        beyond={ELFEB: _shifts_by_convolution},
    ),
    files=WeightFiles(
        marks=("layers.0.residual_group.blocks.1.temperature", "layers.0.esa.conv_f.weight"),
        derivable=(".residual_group.blocks.0.weight", ".relative_position_index"),
        from_state=settings_from_state,
        unseen=unseen_fields,
        unseen_help={
            **UNSEEN,
            "overlap_size": "3, or the largest that fits the windows",
            "padding_size": "0",
            "drop_path_rate": "0.1, which matters in training alone",
        },
        constants=lambda settings: {".residual_group.blocks.0.weight": shift_kernels(settings.embed_dim)},
        buffers=published_buffers,
    ),
    options=PublishedOptions(classes=("SPAN",), read=settings_from_options),
    quantization=Quantization(placement=placement),
    recipes=_RECIPES,
    gains_by_bf16_on_cpu=False,
)
