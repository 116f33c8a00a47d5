"""HAT: hybrid attention transformer (HAT-S, HAT, HAT-L, Real_HAT_GAN).

X. Chen, X. Wang, J. Zhou, Y. Qiao, C. Dong, "Activating More Pixels in Image Super-Resolution Transformer", CVPR 2023.

Attention within windows uses few of the pixels that could help. Here three parts look further. The windows are large.
Beside the attention of each block runs a convolution with channel attention, which knows the whole image. Each group
ends with an attention whose queries are those of a window and whose keys are those of a larger square around it.

Letters: N batch, H W size of the lr image in whole windows, C = embed_dim, n heads, d = C/n, w side of a window,
L = w * w, e side of a square of keys, M = e * e, K windows in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from finescale.layers.attention import SoftmaxAttention
from finescale.layers.convolution import ResidualGroup, convolve
from finescale.layers.feedforward import MLP
from finescale.layers.linear import Linear
from finescale.layers.parameter_cache import ParameterCache
from finescale.layers.position import relative_bias, relative_index
from finescale.layers.window_attention import SwinLayer, attend_in_windows
from finescale.layers.windows import merge, partition, sliding_windows
from finescale.networks.counting import count_as_fvcore
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
    Blocks,
    SwinFrame,
    SwinSettings,
    check_heads,
    fields_from_options,
    fields_from_state,
    position_size_of,
    unseen_fields,
    window_attention,
)


class HATSettings(SwinSettings):
    """Sizes of a HAT network; the defaults are those of HAT."""

    embed_dim: int = Field(180, ge=1)
    """Channels of the features."""
    upsampler: Literal["pixelshuffle"] = "pixelshuffle"
    """Reconstruction head; the family has one."""
    residual_conv: Literal["1conv", "identity"] = "1conv"
    """Closing of each group and of the body: one 3x3 convolution or nothing."""
    window_size: int = Field(16, ge=1, le=64)
    """Side of the attention windows, in lr pixels."""
    overlap: int = Field(8, ge=0)
    """Lr pixels by which the squares of keys of the overlapping attention are larger than windows, an even number.

    Published options state it as overlap_ratio, a multiple of window_size.
    """
    conv_channels: int = Field(60, ge=1)
    """Channels between the two convolutions beside the attention of a block.

    Published options state it as compress_ratio, a divisor of embed_dim.
    """
    squeezed_channels: int = Field(6, ge=1)
    """Channels between the two layers of the channel attention.

    Published options state it as squeeze_factor, a divisor of embed_dim.
    """
    conv_scale: float = 0.01
    """Factor on the convolutional branch of a block; the attention branch has 1."""

    @property
    def key_window(self) -> int:
        """Side of the squares of keys of the overlapping attention, in lr pixels."""
        return self.window_size + self.overlap

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_heads(self.embed_dim, self.num_heads)
        if self.overlap % 2:
            raise ValueError(
                f"overlap (window_size * overlap_ratio in published options) must be even, got {self.overlap}"
            )
        return self


class ChannelAttention(nn.Module):
    """Channel attention: a gate for each channel, computed from the means of all channels over the whole image."""

    def __init__(self, *, channels: int, squeezed: int) -> None:
        super().__init__()
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Image (N, C, H, W) to the same shape."""
        return x * self.attention(x)  # type: ignore[no-any-return]


class CAB(nn.Module):
    """Channel attention block: two convolutions, with fewer channels between them, and channel attention."""

    def __init__(self, *, settings: HATSettings) -> None:
        super().__init__()
        channels, narrow = settings.embed_dim, settings.conv_channels
        self.cab = nn.Sequential(
            nn.Conv2d(channels, narrow, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(narrow, channels, 3, padding=1),
            ChannelAttention(channels=channels, squeezed=settings.squeezed_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return convolve(self.cab, x)


class HAB(SwinLayer):
    """Hybrid attention block: a layer with a CAB beside the attention, which reads the same normalised map."""

    def __init__(self, *, settings: HATSettings, num_heads: int, shifted: bool, drop_path: float) -> None:
        channels = settings.embed_dim
        attention = window_attention(settings, channels=channels, num_heads=num_heads, shifted=shifted)
        feed_forward = MLP(channels=channels, hidden=settings.hidden)
        super().__init__(attention=attention, feed_forward=feed_forward, channels=channels, drop_path=drop_path)
        self.conv_block = CAB(settings=settings)
        self.conv_scale = settings.conv_scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        normed = self.norm1(x)
        attended = x + self.drop_path(attend_in_windows(self.attn, normed))
        x = torch.add(attended, self.conv_block(normed), alpha=self.conv_scale)
        return x + self.drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]


class OCAB(nn.Module):
    """Overlapping cross-attention block: queries of a window, keys and values of a larger square around it.

    Outside of the map keys and values are zero, and no mask hides them: the published weights were trained with that.
    """

    def __init__(self, *, settings: HATSettings, num_heads: int) -> None:
        super().__init__()
        channels = settings.embed_dim
        self.num_heads = num_heads
        self.window, self.key_window = settings.window_size, settings.key_window
        offsets = (self.window + self.key_window - 1) ** 2
        self.relative_position_bias_table = nn.Parameter(torch.empty(offsets, num_heads))
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = Linear(channels, 3 * channels, bias=settings.qkv_bias)
        self.attention = SoftmaxAttention(scale=settings.qk_scale)
        self.proj = Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels=channels, hidden=settings.hidden)
        self._bias = ParameterCache(self)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = x + self.proj(self.attend(self.qkv(self.norm1(x))))
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]

    def attend(self, qkv: Tensor) -> Tensor:
        """Attend: queries, keys and values of a map (N, H, W, 3C) to (N, H, W, C)."""
        height, width, channels = qkv.shape[1], qkv.shape[2], qkv.shape[3] // 3
        margin = (self.key_window - self.window) // 2
        windows = partition(qkv[..., :channels], (self.window, self.window))  # (K, L, C)
        around = F.pad(qkv[..., channels:], (0, 0, *(margin,) * 4))
        squares = sliding_windows(around, self.key_window, self.window)  # (N, rows, columns, M, 2C)
        squares = squares.reshape(
            windows.shape[0], -1, 2, self.num_heads, channels // self.num_heads
        )  # (K, M, 2, n, d)
        query = windows.reshape(*windows.shape[:2], self.num_heads, -1).transpose(1, 2)  # (K, n, L, d)
        key, value = squares.permute(2, 0, 3, 1, 4)  # (K, n, M, d) each
        out = self.attention(query, key, value, self._bias(self.bias).to(qkv.dtype))
        return merge(out.transpose(1, 2).reshape(windows.shape), (self.window, self.window), (height, width))

    def bias(self) -> Tensor:
        """Compute the bias of the scores (n, L, M)."""
        index = overlapping_index(self.window, self.key_window, self.relative_position_bias_table.device)
        return relative_bias(self.relative_position_bias_table, index)


def overlapping_index(window: int, key_window: int, device: torch.device | None = None) -> Tensor:
    """Return the row of the table of biases for each query of a window and key of the square around it.

    The published rows are those of key minus query, where both are counted from their own corners and the first row is
    that of an offset which lies within the table: earlier ones have negative numbers and count from the table's end.

    Returns:
        (L, M) int64, query by key.
    """
    first = window - key_window + 1
    offsets = torch.arange(key_window, device=device)[None, :] - torch.arange(window, device=device)[:, None] + first
    rows, columns = offsets[:, None, :, None], offsets[None, :, None, :]  # (w, w, e, e)
    return (rows * (window + key_window - 1) + columns).reshape(window**2, key_window**2)


class HybridBlocks(Blocks):
    """Hybrid blocks of a group, every other of them with shifted windows, and the overlapping attention at its end."""

    def __init__(self, *, settings: HATSettings, group: int) -> None:
        num_heads = settings.num_heads[group]
        super().__init__(
            [
                HAB(settings=settings, num_heads=num_heads, shifted=settings.shifted and block % 2 == 1, drop_path=rate)
                for block, rate in enumerate(settings.drop_path_rates(group))
            ]
        )
        self.overlap_attn = OCAB(settings=settings, num_heads=num_heads)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.overlap_attn(super().forward(x))  # type: ignore[no-any-return]


class HAT(SwinFrame):
    """HAT-S, HAT or HAT-L, by its settings.

    Channel attention averages over all that the network is given: an image in tiles is not quite the image as a whole.
    """

    settings: HATSettings

    def group(self, number: int) -> ResidualGroup:
        """Build a group: blocks, the convolution that closes them, and a skip."""
        blocks = HybridBlocks(settings=self.settings, group=number)
        return ResidualGroup(blocks, channels=self.settings.embed_dim, closing=self.settings.residual_conv)


# ---- reading files and options


def settings_from_state(state: State) -> tuple[HATSettings, int]:
    """Read settings and scale from the shapes of a HAT weight file.

    A file does not show image_range, mean, conv_scale, qk_scale, shifted and drop_path_rate.
    """
    fields, scale = fields_from_state(state)
    first = "layers.0.residual_group.blocks.0."
    overlapping = state["layers.0.residual_group.overlap_attn.relative_position_bias_table"].shape[0]
    window_size = (math.isqrt(state[f"{first}attn.relative_position_bias_table"].shape[0]) + 1) // 2
    fields |= {
        "residual_conv": "1conv" if "conv_after_body.weight" in state else "identity",
        "window_size": window_size,
        "overlap": math.isqrt(overlapping) + 1 - 2 * window_size,
        "conv_channels": state[f"{first}conv_block.cab.0.weight"].shape[0],
        "squeezed_channels": state[f"{first}conv_block.cab.3.attention.1.weight"].shape[0],
        "qkv_bias": f"{first}attn.qkv.bias" in state,
        "position_size": position_size_of(state, window_size),
    }
    return HATSettings(**fields), scale


def published_buffers(network: HAT) -> dict[str, Tensor]:
    """Compute the two indices that all blocks share."""
    window, key_window = network.settings.window_size, network.settings.key_window
    return {
        "relative_position_index_SA": relative_index((window, window)),
        "relative_position_index_OCA": overlapping_index(window, key_window),
    }


_RATIOS: Mapping[str, float] = {"compress_ratio": 3, "squeeze_factor": 30, "overlap_ratio": 0.5}
"""Arguments of the published constructor that state sizes as multiples or divisors, with their defaults."""


def settings_from_options(options: Mapping[str, Any]) -> tuple[HATSettings, int]:
    """Read settings and scale from the published constructor's arguments.

    Two effects of ``img_size`` remain: where it is ``window_size`` no block is shifted, and with ``ape`` it is the only
    size that the network takes.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    fields = fields_from_options({**_RATIOS, **options}, more={name: name for name in (*_RATIOS, "conv_scale")})
    compress_ratio, squeeze_factor, overlap_ratio = (fields.pop(name) for name in _RATIOS)
    scale, img_size, ape = (fields.pop(name) for name in ("scale", "img_size", "ape"))
    if img_size < fields["window_size"]:
        raise ValueError(f"HAT: img_size must be at least window_size {fields['window_size']}, got {img_size}")
    fields |= {
        "conv_channels": fields["embed_dim"] // compress_ratio,
        "squeezed_channels": fields["embed_dim"] // squeeze_factor,
        "overlap": int(fields["window_size"] * overlap_ratio),
        "shifted": img_size > fields["window_size"],
        "position_size": img_size if ape else None,
    }
    return HATSettings(**fields), scale


def _tiny(**changes: Any) -> HATSettings:
    small = {"embed_dim": 12, "depths": (2,), "num_heads": (3,), "window_size": 4, "overlap": 2}
    narrow = {"conv_channels": 4, "squeezed_channels": 3, "conv_scale": 0.5, "drop_path_rate": 0}
    return HATSettings(**{**small, **narrow, **changes})


# ---- what the authors publish

_REPOSITORY = "https://github.com/XPixelGroup/HAT"

_LR = (64, 64)

_RULE = "multiply-adds, and 5, 2 and 1 for each element of a LayerNorm, a BatchNorm and a global mean"

_PRINTED = {("hat-s", 4): (Count(54.9, size=_LR, rule=_RULE),)}

_COSTS = {
    (variant, scale): Cost(
        num_parameters=parameters,
        multiply_adds=Count(multiply_adds, size=_LR),
        printed=_PRINTED.get((variant, scale), ()),
    )
    for variant, scale, parameters, multiply_adds in (
        ("hat-s", 2, 9_473_471, 52.12),
        ("hat-s", 3, 9_658_111, 52.91),
        ("hat-s", 4, 9_621_183, 54.62),
        ("hat", 2, 20_624_795, 101.38),
        ("hat", 3, 20_809_435, 102.17),
        ("hat", 4, 20_772_507, 103.88),
        ("hat-l", 2, 40_698_863, 200.49),
        ("hat-l", 3, 40_883_503, 201.28),
        ("hat-l", 4, 40_846_575, 202.99),
    )
}

_DF2K = "DIV2K, Flickr2K"
_REAL = "for photographs; its authors print no results"

_PUBLISHED = [
    Published(
        variant=variant,
        scale=scale,
        tag=tag,
        training_data=data,
        scores=scores(row) if row else {},
        file=file,
        page=_REPOSITORY,
        licence="Apache-2.0",
        remark=remark,
    )
    for variant, tag, scale, file, data, row, remark in (
        ("hat-s", "", 2, "HAT-S_SRx2.pth", _DF2K, "", ""),
        ("hat-s", "", 3, "HAT-S_SRx3.pth", _DF2K, "", ""),
        ("hat-s", "", 4, "HAT-S_SRx4.pth", _DF2K, "32.92 29.15 27.97 27.87 32.35", ""),
        ("hat", "", 2, "HAT_SRx2.pth", _DF2K, "", ""),
        ("hat", "", 3, "HAT_SRx3.pth", _DF2K, "", ""),
        ("hat", "", 4, "HAT_SRx4.pth", _DF2K, "33.04 29.23 28.00 27.97 32.48", ""),
        *(
            ("hat", "imagenet", scale, f"HAT_SRx{scale}_ImageNet-pretrain.pth", f"ImageNet, {_DF2K}", "", remark)
            for scale, remark in (
                (2, "a figure of its authors states 34.81 dB on Urban100 and 40.71 dB on Manga109"),
                (3, "a figure of its authors states 30.70 dB on Urban100 and 35.84 dB on Manga109"),
                (4, "a figure of its authors states 28.37 dB on Urban100 and 32.87 dB on Manga109"),
            )
        ),
        *(
            ("hat-l", "", scale, f"HAT-L_SRx{scale}_ImageNet-pretrain.pth", f"ImageNet, {_DF2K}", row, remark)
            for scale, row, remark in (
                (2, "", "a figure of its authors states 35.09 dB on Urban100 and 40.90 dB on Manga109"),
                (3, "", "a figure of its authors states 30.92 dB on Urban100 and 36.02 dB on Manga109"),
                (4, "33.30 29.47 28.09 28.60 33.09", "results as the authors of DRCT quote them"),
            )
        ),
        ("hat", "gan", 4, "Real_HAT_GAN_SRx4.pth", f"{_DF2K}, OST", "", f"{_REAL}; the more faithful of the two"),
        ("hat", "gan-sharper", 4, "Real_HAT_GAN_SRx4_sharper.pth", f"{_DF2K}, OST", "", f"{_REAL}; the sharper"),
    )
]

_RECIPES = {
    **{(variant, scale): [Recipe(variant=variant, **DF2K_ALONE)] for variant in ("hat-s", "hat") for scale in (2, 3)},
    **{
        (variant, 4): [Recipe(variant=variant, lr=1e-4, start=(variant, 2), remark=remark, **DF2K_AFTERWARDS)]
        for variant, remark in (
            ("hat-s", ""),
            ("hat", "the published option file loads strictly and cannot start; here what does not fit stays random"),
        )
    },
    **{
        (name, scale): [
            Recipe(variant=variant, **IMAGENET_FIRST),
            Recipe(variant=variant, lr=1e-5, start=(name, scale), **DF2K_AFTERWARDS),
        ]
        for name, variant in (("hat-imagenet", "hat"), ("hat-l", "hat-l"))
        for scale in (2, 3, 4)
    },
}

FAMILY = Family(
    name="hat",
    about=About(
        title="HAT",
        idea=(
            "Attention within windows uses few of the pixels that could help. Here the windows are large, a "
            "convolution with channel attention runs beside each attention, and each group ends with an attention to a "
            "larger square around each window."
        ),
        remarks=(
            "The README prints 102.4 G multiply-adds for HAT x4, which no known rule of counting gives.",
            "The README prints PSNR at x4 alone, and no SSIM.",
            "Real_HAT_GAN is HAT x4, trained on degraded photographs with a discriminator, which no recipe states.",
        ),
    ),
    network=HAT,
    variants={
        "hat-s": HATSettings(embed_dim=144, conv_channels=6),
        "hat": HATSettings(),
        "hat-l": HATSettings(depths=(6,) * 12, num_heads=(6,) * 12),
    },
    tiny={
        "hat-s": _tiny(conv_channels=2),
        "hat": _tiny(),
        "hat-l": _tiny(depths=(2, 1), num_heads=(3, 2)),
    },
    publication=Publication(
        paper=Paper(
            title="Activating More Pixels in Image Super-Resolution Transformer",
            authors="X. Chen, X. Wang, J. Zhou, Y. Qiao, C. Dong",
            venue="CVPR 2023, 22367-22377",
            url="https://arxiv.org/abs/2205.04437",
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
        networks=_PUBLISHED,
        counting={_RULE: count_as_fvcore},
    ),
    files=WeightFiles(
        marks=(
            ".residual_group.overlap_attn.relative_position_bias_table",
            ".conv_block.cab.3.attention.1.weight",
        ),
        derivable=("relative_position_index_SA", "relative_position_index_OCA"),
        from_state=settings_from_state,
        unseen=lambda settings, state: (*unseen_fields(settings, state), "conv_scale"),
        unseen_help={
            **UNSEEN,
            **UNSEEN_HELP,
            "shifted": "on",
            "conv_scale": "0.01, the published one; a network trained with another answers wrongly",
        },
        buffers=published_buffers,
    ),
    options=PublishedOptions(classes=("HAT",), read=settings_from_options),
    quantization=Quantization(placement=lambda _: Placement(frequency=NETWORK_ENDS)),
    recipes=_RECIPES,
)
