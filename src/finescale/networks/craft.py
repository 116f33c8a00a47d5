"""CRAFT: cross-refinement adaptive feature modulation transformer.

A. Li, L. Zhang, Y. Liu, C. Zhu, "Feature Modulation Transformer: Cross-Refinement of Global Representation via
High-Frequency Prior for Image Super-Resolution", ICCV 2023.

Transformers keep low frequencies and lose high ones. So each unit runs two branches side by side: attention in wide and
in tall windows for global context, and a small convolution block with max pooling for high frequencies. A third block
lets the second branch steer the first: it attends to channels, and its query is the high frequencies. As its sums run
over the whole map, every pixel of the result depends on every pixel of the image, so tiles are never exactly the whole.

Letters: N batch, H W size of the map, C = embed_dim, c = C/2, n heads, d channels of a head, (h, w) a window,
L = h * w, K windows in the batch.
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

from finescale.layers.attention import AttentionProduct
from finescale.layers.convolution import ResidualGroup, convolve
from finescale.layers.explicit_attention import ExplicitChannelAttention
from finescale.layers.feedforward import MLP
from finescale.layers.initialisation import initialise_small
from finescale.layers.linear import Linear
from finescale.layers.position import offset_grid, relative_index
from finescale.layers.precision import no_float16, widened
from finescale.layers.rectangle_attention import RectangleAttention
from finescale.layers.upsampling import head_from_state
from finescale.layers.windows import Size, pad_reflect, whole_windows
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
    QuantizedFiles,
    Recipe,
    WeightFiles,
    scores,
)
from finescale.networks.frame import Frame, FrameSettings, QKScale, check_groups
from finescale.networks.options import take_options
from finescale.networks.placement import NETWORK_ENDS, Placement
from finescale.networks.state import State, depths_of, ratio_of


class CRAFTSettings(FrameSettings):
    """Sizes of a CRAFT network; the defaults are those of all published ones."""

    embed_dim: int = Field(48, ge=32)
    """Channels of the features. Below 64 the position bias is the same number for all pairs of pixels, and not used."""
    upsampler: Literal["pixelshuffledirect"] = "pixelshuffledirect"
    """Reconstruction head; CRAFT has one kind."""
    residual_conv: Literal["1conv", "identity"] = "1conv"
    """Closing of the body: a 3x3 convolution or nothing. Groups always close with a convolution."""
    depths: tuple[int, ...] = (2, 2, 2, 2)
    """Units of each group, each of two window attention blocks, a high-frequency block and a fusion block."""
    num_heads: tuple[int, ...] = (6, 6, 6, 6)
    """Heads of the channel attention, for each group; each of the two windows has half of them."""
    split_size: Size = (4, 16)
    """Window (height, width) of the first half of the channels, in lr pixels; the second half has it turned."""
    window_size: int = Field(16, ge=1, le=512)
    """The image is extended to a multiple of this many pixels, itself a multiple of both split sizes."""
    mlp_ratio: float = Field(2.0, gt=0)
    """Hidden channels of the feed-forward layer after window attention, as a multiple of embed_dim."""
    qkv_bias: bool = True
    """Whether query, key and value of window attention have an offset."""
    qk_scale: QKScale = None
    """Factor on the scores of window attention; None is the usual d ** -0.5."""
    shift_mask: bool = False
    """Whether shifted windows keep pixels from opposite ends of the map apart.

    The code of the ICCV paper does not, that of its TPAMI sequel does. The outputs differ, and no file shows which.
    """

    @property
    def bias_width(self) -> int:
        """Inner width of the networks that compute the position bias."""
        return self.embed_dim // 2 // 4 // 4

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_groups(self.depths, self.num_heads)
        for heads in self.num_heads:
            if heads < 2 or heads % 2:
                raise ValueError(f"num_heads must be even, one half for each window, got {heads}")
            if self.embed_dim % 2 or self.embed_dim % heads:
                raise ValueError(
                    f"embed_dim must be even and a multiple of the heads, got {self.embed_dim} and {heads}"
                )
        if min(self.split_size) < 1 or any(self.window_size % side for side in self.split_size):
            raise ValueError(
                f"window_size must be a multiple of both split sizes, got {self.window_size} and {self.split_size}"
            )
        if int(self.embed_dim * self.mlp_ratio) < 1:
            raise ValueError(f"mlp_ratio leaves no hidden channels of {self.embed_dim}, got {self.mlp_ratio}")
        return self


class SRWAB(nn.Module):
    """Shift rectangle window attention block: attention in wide and in tall windows, then a feed-forward layer."""

    def __init__(self, *, settings: CRAFTSettings, num_heads: int, shifted: bool) -> None:
        super().__init__()
        channels = settings.embed_dim
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = Linear(channels, 3 * channels, bias=settings.qkv_bias)
        self.get_v = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.attns = nn.ModuleList(
            RectangleAttention(
                num_heads=num_heads // 2,
                window=window,
                shifted=shifted,
                bias_width=settings.bias_width,
                masked=settings.shift_mask,
                scale=settings.qk_scale,
            )
            for window in (settings.split_size, settings.split_size[::-1])
        )
        self.proj = Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels=channels, hidden=int(channels * settings.mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape; H and W hold whole windows of both shapes."""
        qkv = self.qkv(self.norm1(x)).unflatten(3, (3, 2, -1))  # (N, H, W, 3, halves, c)
        halves = [attention(qkv[..., half, :]) for half, attention in enumerate(self.attns)]
        local = convolve(self.get_v, qkv[..., 2, :, :].flatten(3))
        x = x + self.proj(torch.cat(halves, dim=-1) + local)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class HFERB(nn.Module):
    """High-frequency enhancement residual block: one half of the channels is convolved, the other max-pooled."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv = nn.Conv2d(half, half, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.fc = nn.Conv2d(half, half, 1)
        self.last_fc = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        near, peak = x.chunk(2, dim=-1)
        near = F.gelu(convolve(self.conv, near))
        peak = F.gelu(convolve(self.fc, convolve(self.pool, peak)))
        return x + convolve(self.last_fc, torch.cat((near, peak), dim=-1))


class NormalizedChannelAttention(AttentionProduct):
    """Every channel as a mixture of those of its head: softmax(Q̂ᵀ K̂ · temperature) Vᵀ, over the whole map.

    Q̂ and K̂ are Q and K with each channel divided by its norm, so the scores are cosines.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
        """Query, key and value (N, H, W, C) and temperature (n, 1, 1) to (N, H, W, C)."""
        size, (heads, channels) = value.shape, (temperature.shape[0], value.shape[-1])
        query, key, value = (x.flatten(1, 2) for x in (query, key, value))  # (N, H * W, C)
        # One C x C product, of which the d x d blocks on the diagonal are kept, is faster than n narrow ones.
        head = torch.arange(channels, device=value.device) // (channels // heads)
        other_head = head[:, None] != head[None, :]
        query, key = widened(query), widened(key)  # sums over a whole map leave the range of float16
        with no_float16(query):
            cosines = (query / _norm(query)).transpose(1, 2) @ key / _norm(key)  # (N, C, C)
            scores = cosines * temperature.reshape(heads)[head, None].to(cosines.dtype)
            mixture = scores.masked_fill(other_head, -math.inf).softmax(-1)
        return (value @ mixture.to(value.dtype).transpose(1, 2)).reshape(size)

    def explicit(self) -> ExplicitMapAttention:
        """Return the same with each operand passing a `Tap`."""
        return ExplicitMapAttention()


class ExplicitMapAttention(ExplicitChannelAttention):
    """Explicit `NormalizedChannelAttention`."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, temperature: Tensor) -> Tensor:
        """Shapes as in `NormalizedChannelAttention`."""
        heads = temperature.shape[0]
        size = value.shape
        query, key, value = (x.reshape(size[0], -1, heads, size[-1] // heads) for x in (query, key, value))
        return super().forward(query, key, value, temperature).reshape(size)


def _norm(x: Tensor) -> Tensor:
    """Norm of each channel of (N, L, C) as (N, 1, C), never zero."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return norm.clamp_min(max(1e-12, torch.finfo(x.dtype).tiny))


class FusionAttention(nn.Module):
    """Channel attention of the low frequencies, with the high frequencies as query."""

    def __init__(self, *, channels: int, num_heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(num_heads, 1, 1))
        self.q = nn.Conv2d(channels, channels, 1, bias=False)
        self.q_dwconv = _depthwise(channels)
        self.kv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.kv_dwconv = _depthwise(2 * channels)
        self.attention = NormalizedChannelAttention()
        self.project_out = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Two maps (N, H, W, C) to one."""
        query = convolve(self.q_dwconv, convolve(self.q, high))
        key, value = convolve(self.kv_dwconv, convolve(self.kv, low)).chunk(2, dim=-1)
        return convolve(self.project_out, self.attention(query, key, value, self.temperature))


class GatedFeedForward(nn.Module):
    """Gated feed-forward layer: two convolved maps, multiplied after a GELU on the first."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        hidden = int(channels * 2.66)  # fixed in every published network
        self.project_in = nn.Conv2d(channels, 2 * hidden, 1, bias=False)
        self.dwconv = _depthwise(2 * hidden)
        self.project_out = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        gate, x = convolve(self.dwconv, convolve(self.project_in, x)).chunk(2, dim=-1)
        return convolve(self.project_out, F.gelu(gate) * x)


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)


class ChannelNorm(nn.Module):
    """Layer norm over the channels, in a module of its own because of its published key."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.body = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.body(x)  # type: ignore[no-any-return]


class HFB(nn.Module):
    """Hybrid fusion block: low frequencies, refined by attention whose query is the high frequencies."""

    def __init__(self, *, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = ChannelNorm(channels=channels)
        self.attn = FusionAttention(channels=channels, num_heads=num_heads)
        self.norm2 = ChannelNorm(channels=channels)
        self.ffn = GatedFeedForward(channels=channels)

    def forward(self, low: Tensor, high: Tensor) -> Tensor:
        """Two maps (N, H, W, C) to one; the second is not normalised."""
        x = low + self.attn(self.norm1(low), high)
        return x + self.ffn(self.norm2(x))  # type: ignore[no-any-return]


class CRFB(nn.Module):
    """Cross-refinement fusion blocks: the units of a group, each of two branches and their fusion."""

    def __init__(self, *, settings: CRAFTSettings, group: int) -> None:
        super().__init__()
        channels, num_heads, depth = settings.embed_dim, settings.num_heads[group], settings.depths[group]
        self.srwa_blocks = nn.ModuleList(
            SRWAB(settings=settings, num_heads=num_heads, shifted=shifted) for shifted in (False, True) * depth
        )
        self.hfer_blocks = nn.ModuleList(HFERB(channels=channels) for _ in range(depth))
        self.hf_blocks = nn.ModuleList(HFB(channels=channels, num_heads=num_heads) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        windows = iter(self.srwa_blocks)
        for plain, shifted, enhance, fuse in zip(windows, windows, self.hfer_blocks, self.hf_blocks, strict=True):
            x = fuse(shifted(plain(x)), enhance(x))
        return x


class CRAFT(Frame):
    """Residual cross-refinement fusion groups, then a norm."""

    settings: CRAFTSettings

    def __init__(self, *, settings: CRAFTSettings, scale: int) -> None:
        super().__init__(settings=settings, scale=scale)
        self.layers = nn.Sequential(
            *(
                ResidualGroup(CRFB(settings=settings, group=group), channels=settings.embed_dim)
                for group in range(len(settings.depths))
            )
        )
        self.norm = ChannelNorm(channels=settings.embed_dim)
        initialise_small(self, nn.Linear)

    @property
    def period(self) -> int:
        """Lr pixels after which the windows of both shapes repeat together."""
        return math.lcm(*self.settings.split_size)

    def pad(self, image: Tensor) -> Tensor:
        """Extend an image (N, C, H, W) to a multiple of ``window_size`` by mirroring, the edge repeated.

        Attention to channels runs over the whole map, so the number of pixels added counts everywhere.
        """
        side = self.settings.window_size
        size = whole_windows((image.shape[2], image.shape[3]), (side, side))
        return pad_reflect(image.permute(0, 2, 3, 1), size, repeat_edge=True).permute(0, 3, 1, 2)

    def body(self, features: Tensor) -> Tensor:
        """Apply the groups and the norm: features (N, C, H, W) to the same shape."""
        return self.norm(self.layers(features.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


# ---- reading files and options


def settings_from_state(state: State) -> tuple[CRAFTSettings, int]:
    """Read settings and scale from a CRAFT weight file: from shapes, and from the buffer ``biases_h`` if present.

    A file does not show image_range, mean, qk_scale, window_size (16 is assumed, or the least that both split sizes
    divide) and shift_mask; without the buffer neither the split sizes (4x16 is assumed).
    """
    embed_dim, in_channels = state["conv_first.weight"].shape[:2]
    block = "layers.0.residual_group.srwa_blocks.0."
    depths = depths_of(state, "residual_group.hf_blocks")
    upsampler, scale = head_from_state(state)
    split_size = _split_size(state)
    window_size = math.lcm(*split_size)
    settings = CRAFTSettings(
        in_channels=in_channels,
        embed_dim=embed_dim,
        upsampler=upsampler,
        residual_conv="1conv" if "conv_after_body.weight" in state else "identity",
        depths=depths,
        num_heads=tuple(
            state[f"layers.{group}.residual_group.hf_blocks.0.attn.temperature"].shape[0]
            for group in range(len(depths))
        ),
        split_size=split_size,
        window_size=16 if math.gcd(window_size, 16) == window_size else window_size,
        mlp_ratio=ratio_of(state[block + "mlp.fc1.weight"].shape[0], embed_dim),
        qkv_bias=block + "qkv.bias" in state,
    )
    return settings, scale


def _split_size(state: State) -> Size:
    """Return the first window: the first of all offsets is the most negative one, (1 - h, 1 - w)."""
    if "biases_h" not in state:
        return (4, 16)
    height, width = (1 - state["biases_h"][0]).int().tolist()
    return height, width


def published_buffers(network: CRAFT) -> dict[str, Tensor]:
    """Compute offsets and indices of both windows, which the published network keeps once for all blocks."""
    wide = network.settings.split_size
    buffers = {}
    for name, window in {"h": wide, "v": wide[::-1]}.items():
        buffers[f"relative_position_index_{name}"] = relative_index(window)
        buffers[f"biases_{name}"] = offset_grid(window, torch.empty(0)).flatten(0, 1)
    return buffers


def unseen_fields(_: CRAFTSettings, state: State) -> tuple[str, ...]:
    """Name the fields that `settings_from_state` assumes."""
    split = () if "biases_h" in state else ("split_size",)
    return ("image_range", "mean", *split, "window_size", "qk_scale", "shift_mask")


def placement(settings: CRAFTSettings) -> Placement:
    """Place quantizers as the sequel of the paper does, which leaves out a position bias without effect."""
    return Placement(
        float_layers=() if settings.bias_width > 1 else ("*.pos",),
        frequency=(*NETWORK_ENDS, "*.hfer_blocks.*.input_quantizer"),
    )


_PUBLISHED_QUANTIZERS = {
    r"conv_first\.input_quantizer": "qact_inpt1",
    r"conv_after_body\.input_quantizer": "qact_inpt2",
    r"upsample\.0\.input_quantizer": "qact_inpt3",
    r"result": "qact_inpt4",
    r"(layers\.\d+)\.conv\.input_quantizer": r"\1.qact_input1",
    r"(.+)\.attention\.query": r"\1.qact_q",
    r"(.+)\.attention\.key": r"\1.qact_k",
    r"(.+)\.attention\.value": r"\1.qact_v",
    r"(.+)\.attention\.probabilities": r"\1.qact_attn",
    r"(.+\.pos\d\.2)\.input_quantizer": r"\1",
    r"(.+\.pos\d)\.2\.weight_quantizer": r"\1.3",
    r"(.+)\.qkv\.input_quantizer": r"\1.qact_norm1",
    r"(.+)\.get_v\.input_quantizer": r"\1.qact_v",
    r"(.+)\.proj\.input_quantizer": r"\1.qact_res1",
    r"(.+)\.mlp\.fc1\.input_quantizer": r"\1.qact_norm2",
    r"(.+)\.fc2\.input_quantizer": r"\1.qact_act",
    r"(.+)\.pool\.input_quantizer": r"\1.qact_hfe",
    r"(.+\.hfer_blocks\.\d+)\.conv\.input_quantizer": r"\1.qact_lfe",
    r"(.+)\.fc\.input_quantizer": r"\1.qact_maxpool",
    r"(.+)\.last_fc\.input_quantizer": r"\1.qact_last_fc",
    r"(.+)\.attn\.q\.input_quantizer": r"\1.qact_high",
    r"(.+)\.attn\.kv\.input_quantizer": r"\1.qact_norm1",
    r"(.+)\.q_dwconv\.input_quantizer": r"\1.qact_conv_q",
    r"(.+)\.kv_dwconv\.input_quantizer": r"\1.qact_conv_kv",
    r"(.+)\.attn\.project_out\.input_quantizer": r"\1.attn.qact_project",
    r"(.+)\.ffn\.project_in\.input_quantizer": r"\1.qact_norm2",
    r"(.+)\.ffn\.dwconv\.input_quantizer": r"\1.ffn.qact_project_in",
    r"(.+)\.ffn\.project_out\.input_quantizer": r"\1.ffn.qact_dot",
    r"(.+)\.weight_quantizer": r"\1",
}
"""Paths of our quantizers, and their names in the sequel's files."""


def published_quantizer(path: str) -> str:
    """Return the name that the sequel's files give the quantizer with a path."""
    return next(
        found.expand(name) for ours, name in _PUBLISHED_QUANTIZERS.items() if (found := re.fullmatch(ours, path))
    )


def settings_from_options(options: Mapping[str, Any]) -> tuple[CRAFTSettings, int]:
    """Read settings and scale from the published constructor's arguments, and ``shift_mask``.

    The constructor's own defaults are not those of the released networks: they make one of ten times the size.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    taken = take_options(
        options,
        fields={
            "depths": "depths",
            "split_size_0": "split_size_0",
            "split_size_1": "split_size_1",
            "window_size": "window_size",
            "mlp_ratio": "mlp_ratio",
            "qkv_bias": "qkv_bias",
            "qk_scale": "qk_scale",
            "shift_mask": "shift_mask",
        },
        neutral={},
        without_effect=("img_size", "patch_size", "upsampler", "hooks"),
        in_vain=(),
    )
    scale = taken.pop("scale", 2)
    split_size = taken.pop("split_size_0", 4), taken.pop("split_size_1", 16)
    defaults = {"embed_dim": 96, "depths": (6,) * 4, "num_heads": (6,) * 4}
    return CRAFTSettings(split_size=split_size, **{**defaults, **taken}), scale


# ---- what the authors publish


def _narrow_products(_: NormalizedChannelAttention, arguments: tuple[Tensor, Tensor, Tensor, Tensor]) -> int:
    """Two products for each head, each C/n wide in the published network; ours are dense, C wide."""
    _query, _key, value, temperature = arguments
    channels = value.shape[-1]
    return 2 * value.numel() * (channels // temperature.shape[0] - channels)


_REPOSITORY = "https://github.com/AVC2-UESTC/CRAFT-SR"

_COSTS = {
    ("craft", scale): Cost(num_parameters=parameters, multiply_adds=Count(multiply_adds, size=size))
    for scale, parameters, multiply_adds, size in (  # for results of 1280x720 pixels, lr size in whole windows
        (2, 737_756, 195.4, (368, 640)),
        (3, 744_251, 86.7, (240, 432)),
        (4, 753_344, 51.9, (192, 320)),
    )
}

_SEQUEL = "https://github.com/AVC2-UESTC/Frequency-Inspired-Optimization-for-EfficientSR"

_PUBLISHED = [
    Published(
        variant="craft",
        scale=scale,
        training_data="DIV2K",
        scores=scores(row),
        file=f"CRAFT_MODEL_X{scale}.pth",
        page=_REPOSITORY,
        licence=None,
        remark="one zip archive holds the files of all scales",
    )
    for scale, row in (
        (2, "38.23/0.9615 33.92/0.9211 32.33/0.9016 32.86/0.9343 39.39/0.9786"),
        (3, "34.71/0.9295 30.61/0.8469 29.24/0.8093 28.77/0.8635 34.29/0.9491"),
        (4, "32.52/0.8989 28.85/0.7872 27.72/0.7418 26.56/0.7995 31.18/0.9168"),
    )
] + [
    Published(
        variant="craft",
        scale=4,
        tag=f"{bits}bit",
        training_data="DIV2K",
        scores=scores(row),
        file=f"CRAFT_MODEL_{bits}bit_x4.pth",
        page=_SEQUEL,
        licence=None,
        remark=f"quantized to {bits} bits, weights and activations alike",
    )
    for bits, row in (
        (8, "32.45/0.8965 28.80/0.7850 27.68/0.7397 26.49/0.7967 31.06/0.9141"),
        (6, "32.01/0.8820 28.51/0.7717 27.49/0.7272 26.16/0.7808 30.11/0.8922"),
        (4, "29.46/0.7854 26.92/0.6891 26.32/0.6492 24.50/0.6787 27.03/0.7653"),
    )
]

_COMMON: Mapping[str, Any] = {
    "variant": "craft",
    "batch": 64,
    "lr": 2e-4,
    "milestones": HALVED,
    "iterations": 500_000,
    "seed": 33,
}

_RECIPES = {
    **{("craft", scale): [Recipe(data="DIV2K", **_COMMON)] for scale in (2, 3, 4)},
    ("craft-sequel", 4): [
        Recipe(
            data="DIV2K in sub-images of 480x480, step 240",
            loss={"l1": 1.0, "edge": 1.0},
            start=("craft", 4),
            remark="from the sequel's repository, which does not state the x4 weights that it starts from",
            **_COMMON,
        )
    ],
}

FAMILY = Family(
    name="craft",
    about=About(
        title="CRAFT",
        idea=(
            "Attention in wide and in tall windows captures global context, and a small convolution block beside it "
            "keeps the high frequencies that attention loses. A third block lets the second branch steer the first."
        ),
        remarks=(
            f"A sequel (IEEE TPAMI 47(4), 3141-3158, 2025) prints the same results; its repository <{_SEQUEL}> offers "
            "files of its own, `CRAFT_MODEL_x2`, `_x3` and `_x4`, and quantized ones. Whether they hold the same "
            "weights is not stated.",
        ),
    ),
    network=CRAFT,
    variants={"craft": CRAFTSettings()},
    # Wide enough for the position bias to count, its windows wide enough for each of its numbers to count.
    tiny={
        "craft": CRAFTSettings(
            embed_dim=64, depths=(1,), num_heads=(4,), split_size=(4, 8), window_size=8, mlp_ratio=0.5
        )
    },
    publication=Publication(
        paper=Paper(
            title=(
                "Feature Modulation Transformer: Cross-Refinement of Global Representation via High-Frequency Prior "
                "for Image Super-Resolution"
            ),
            authors="A. Li, L. Zhang, Y. Liu, C. Zhu",
            venue="ICCV 2023, 12514-12524",
            url="https://arxiv.org/abs/2308.05022",
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
        networks=_PUBLISHED,
        beyond={NormalizedChannelAttention: _narrow_products},
        test_padding=lambda settings: settings.window_size,
    ),
    files=WeightFiles(
        marks=(".hf_blocks.0.attn.temperature", ".hfer_blocks.0.last_fc.weight"),
        derivable=("relative_position_index_h", "relative_position_index_v", "biases_h", "biases_v"),
        from_state=settings_from_state,
        unseen=unseen_fields,
        unseen_help={
            **UNSEEN,
            "split_size": "4x16 in a file without the buffer `biases_h`",
            "window_size": "16, or the least that both split sizes divide",
            "qk_scale": "d ** -0.5, the usual one",
            "shift_mask": "off, as in the code of the ICCV paper; that of its sequel has it on",
        },
        buffers=published_buffers,
    ),
    options=PublishedOptions(classes=("CRAFT",), read=settings_from_options),
    quantization=Quantization(
        placement=placement,
        files=QuantizedFiles(
            of_class="basicsr.archs.craft_q_arch.Q_CRAFT",
            name_of=published_quantizer,
            key_of=lambda key: re.sub(r"(\.pos[123])\.3\.", r"\1.2.", key),  # theirs have a quantizer at place 2
            settings_of=lambda attributes: {"image_range": attributes["img_range"]},
        ),
    ),
    recipes=_RECIPES,
    openvino_speed=1.1,
)
