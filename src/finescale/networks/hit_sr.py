"""HiT-SR: hierarchical transformers for efficient super-resolution (HiT-SIR, HiT-SNG, HiT-SRF).

X. Zhang, Y. Zhang, F. Yu, "HiT-SR: Hierarchical Transformer for Efficient Image Super-Resolution", ECCV 2024.

The windows of a group's blocks grow from 4 to 64 pixels, and attention is replaced by spatial-channel correlation, see
`finescale.layers.hierarchical`. The variants are one network with switches: feed-forward (HiT-SRF's has a depthwise
convolution), N-gram context (HiT-SNG's), window ratios. `finescale.networks.hierarchy` converts other networks to it.

Letters: N batch, H W size of the lr image, C = embed_dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from finescale.layers.attention import SpatialCorrelation
from finescale.layers.convolution import ResidualGroup
from finescale.layers.feedforward import MLP, ConvFFN
from finescale.layers.hierarchical import (
    DualFeatureExtraction,
    HierarchicalLayer,
    SpatialChannelCorrelation,
    SpatialPooling,
    hierarchical_windows,
)
from finescale.layers.initialisation import initialise_small
from finescale.layers.ngram_context import NGramContext
from finescale.layers.patch_embed import PatchEmbed
from finescale.layers.upsampling import head_from_state
from finescale.layers.windows import Size
from finescale.networks.counting import count_as_fvcore, ngram_context_both_ways
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
from finescale.networks.frame import Frame, FrameSettings, check_groups
from finescale.networks.options import take_options
from finescale.networks.placement import NETWORK_ENDS, Placement
from finescale.networks.state import State, depths_of, ratio_of
from finescale.networks.swin import published_buffers


class HiTSRSettings(FrameSettings):
    """Sizes of a HiT-SR network; the defaults are those of all nine published ones."""

    depths: tuple[int, ...] = (6, 6, 6, 6)
    """Blocks of each group."""
    num_heads: tuple[int, ...] = (6, 6, 6, 6)
    """Heads of the spatial correlation, for each group."""
    base_window: Size = (8, 8)
    """Window (height, width) that larger windows are pooled to, in lr pixels."""
    window_ratios: tuple[float, ...] = (0.5, 1, 2, 4, 6, 8)
    """Window of each block of a group, as a multiple of the base window; a shorter group uses the first ones."""
    mlp_ratio: float = Field(2.0, gt=0)
    """Hidden channels of the feed-forward layer, as a multiple of embed_dim."""
    feed_forward: Literal["mlp", "conv"] = "mlp"
    """ "conv" adds a 5x5 depthwise convolution to the hidden map (HiT-SRF)."""
    context: Literal["none", "ngram"] = "none"
    """ "ngram" adds a summary of the neighbouring windows to each window (HiT-SNG)."""
    residual_conv: Literal["1conv", "3conv"] = "1conv"
    """Convolution that closes each group and the body: one 3x3, or three through a quarter of the channels."""
    patch_norm: bool = True
    """Normalise the features before the first group."""

    @property
    def windows(self) -> tuple[Size, ...]:
        """Windows of the blocks of the longest group."""
        return hierarchical_windows(self.base_window, self.window_ratios[: max(self.depths)])

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_groups(self.depths, self.num_heads)
        if max(self.depths) > len(self.window_ratios):
            raise ValueError(
                f"a group of {max(self.depths)} blocks needs as many window_ratios, got {len(self.window_ratios)}"
            )
        if max(self.base_window) > 512:
            raise ValueError(f"base_window must be at most 512 pixels a side, got {self.base_window}")
        if int(self.embed_dim * self.mlp_ratio) < 1:
            raise ValueError(f"mlp_ratio leaves no hidden channels of {self.embed_dim}, got {self.mlp_ratio}")
        if self.embed_dim < 16:
            raise ValueError(f"embed_dim must be at least 16, got {self.embed_dim}")
        for heads in self.num_heads:
            if heads < 1 or self.embed_dim % (2 * heads):
                raise ValueError(f"embed_dim must be a multiple of twice the heads, got {self.embed_dim} and {heads}")
        for window in self.windows:
            if self.context == "ngram" and window[0] != window[1]:
                raise ValueError(f"the ngram context needs square windows, got {window}")
        return self


class Blocks(nn.Module):
    """Blocks of a group, with growing windows."""

    def __init__(self, *, settings: HiTSRSettings, group: int) -> None:
        super().__init__()
        channels = settings.embed_dim
        feed_forward = ConvFFN if settings.feed_forward == "conv" else MLP
        self.blocks = nn.Sequential(
            *(
                HierarchicalLayer(
                    correlation=SpatialChannelCorrelation(
                        channels=channels,
                        num_heads=settings.num_heads[group],
                        window=window,
                        base_window=settings.base_window,
                        ngram=settings.context == "ngram",
                    ),
                    feed_forward=feed_forward(channels=channels, hidden=int(channels * settings.mlp_ratio)),
                    channels=channels,
                )
                for window in settings.windows[: settings.depths[group]]
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.blocks(x)  # type: ignore[no-any-return]


class HiTSR(Frame):
    """HiT-SIR, HiT-SNG or HiT-SRF, by its settings."""

    settings: HiTSRSettings

    def __init__(self, *, settings: HiTSRSettings, scale: int) -> None:
        super().__init__(settings=settings, scale=scale)
        self.patch_embed = PatchEmbed(channels=settings.embed_dim) if settings.patch_norm else nn.Identity()
        self.layers = nn.Sequential(
            *(
                ResidualGroup(
                    Blocks(settings=settings, group=group),
                    channels=settings.embed_dim,
                    closing=settings.residual_conv,
                )
                for group in range(len(settings.depths))
            )
        )
        self.norm = nn.LayerNorm(settings.embed_dim)
        initialise_small(self, nn.Linear)

    @property
    def period(self) -> int:
        """Lr pixels after which the windows of all blocks repeat together."""
        return math.lcm(*(side for window in self.settings.windows for side in window))

    def body(self, features: Tensor) -> Tensor:
        """Apply the groups between two norms: features (N, C, H, W) to the same shape."""
        x = self.patch_embed(features.permute(0, 2, 3, 1))  # (N, H, W, C)
        return self.norm(self.layers(x)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


# ---- reading files and options


def settings_from_state(state: State) -> tuple[HiTSRSettings, int]:
    """Read settings and scale from the shapes of a HiT-SR weight file.

    A file does not show image_range and mean, nor the base window of HiT-SIR and HiT-SRF (8x8 is assumed), nor the
    exact ratios of their blocks that pool nothing (0.5 then 1 is assumed where two such blocks open a group).
    """
    embed_dim, in_channels = state["conv_first.weight"].shape[:2]
    depths = depths_of(state, "residual_group.blocks")
    first = "layers.{}.residual_group.blocks.0."
    ngram = any(".ngram_window_partition." in key for key in state)
    base_window, ratios = _windows_from_state(state, longest=depths.index(max(depths)), depth=max(depths), ngram=ngram)
    upsampler, scale = head_from_state(state)
    settings = HiTSRSettings(
        in_channels=in_channels,
        embed_dim=embed_dim,
        upsampler=upsampler,
        residual_conv="1conv" if "layers.0.conv.weight" in state else "3conv",
        depths=depths,
        num_heads=tuple(
            state[first.format(group) + "correlation.pos.pos3.2.weight"].shape[0] for group in range(len(depths))
        ),
        base_window=base_window,
        window_ratios=ratios,
        mlp_ratio=ratio_of(state[first.format(0) + "mlp.fc1.weight"].shape[0], embed_dim),
        feed_forward="conv" if any(".mlp.dwconv." in key for key in state) else "mlp",
        context="ngram" if ngram else "none",
        patch_norm="patch_embed.norm.weight" in state,
    )
    return settings, scale


def _windows_from_state(state: State, *, longest: int, depth: int, ngram: bool) -> tuple[Size, tuple[float, ...]]:
    """Read base window and ratios from the pooling weights, and for HiT-SNG from the unigram filters as well."""
    blocks = [f"layers.{longest}.residual_group.blocks.{block}.correlation." for block in range(depth)]
    pooling = [math.isqrt(state[block + "spatial_linear.weight"].shape[1]) for block in blocks]
    if not ngram:
        unpooled = sum(factor == 1 for factor in pooling)
        small = (0.5, 1.0) if unpooled == 2 else (1.0,) * unpooled
        ratios = iter(small)
        return (8, 8), tuple(next(ratios) if factor == 1 else float(factor) for factor in pooling)
    unigram = "ngram_window_partition.ngram_context.unigram_embed.weight"
    sides = [state[block + unigram].shape[-1] for block in blocks]
    pooled = [side // factor for side, factor in zip(sides, pooling, strict=True) if factor > 1]
    base = pooled[0] if pooled else max(sides)
    return (base, base), tuple(ratio_of(side, base) for side in sides)


def unseen_fields(settings: HiTSRSettings, _: State) -> tuple[str, ...]:
    """Name the fields that `settings_from_state` assumes; HiT-SNG's filters show its windows if one is pooled."""
    if settings.context == "ngram" and max(settings.window_ratios) > 1:
        return ("image_range", "mean")
    return ("image_range", "mean", "base_window", "window_ratios")


_SWITCHES: Mapping[str, dict[str, Any]] = {
    "HiT_SIR": {},
    "HiT_SNG": {"context": "ngram"},
    "HiT_SRF": {"feed_forward": "conv"},
}


def placement(_: HiTSRSettings) -> Placement:
    """Place quantizers, except on the layer that summarises a window, whose weights are read directly."""
    return Placement(
        float_layers=("*.unigram_embed",),
        shared_inputs={"qv.linear": "qv.conv.0"},
        frequency=NETWORK_ENDS,
    )


def settings_from_options(options: Mapping[str, Any]) -> tuple[HiTSRSettings, int]:
    """Read settings and scale from the published constructor's arguments.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    taken = take_options(
        options,
        fields={
            "depths": "depths",
            "base_win_size": "base_window",
            "hier_win_ratios": "window_ratios",
            "mlp_ratio": "mlp_ratio",
            "upsampler": "upsampler",
            "patch_norm": "patch_norm",
        },
        neutral={"drop_rate": 0, "value_drop_rate": 0, "drop_path_rate": 0, "ape": False, "patch_size": 1},
        without_effect=("img_size", "use_checkpoint"),
        in_vain=("expansion_factor",),
    )
    scale = taken.pop("scale", 4)
    return HiTSRSettings(**taken, **_SWITCHES[options["type"]]), scale


def _tiny(**switches: Any) -> HiTSRSettings:
    # The offset network is a sixteenth as wide as the features; below 48 its norms leave an offset's sign at most.
    return HiTSRSettings(
        embed_dim=48, depths=(2, 1), num_heads=(2, 1), base_window=(4, 4), window_ratios=(0.5, 2), **switches
    )


# ---- multiply-adds that the published network takes beyond ours, which computes the same by other steps


def _spatial_correlation(_: SpatialCorrelation, arguments: tuple[Tensor, Tensor, Tensor]) -> int:
    """(Q Vᵀ + P) V takes 2 K L M C; ours Q (VᵀV), by dense C x C products, and P V: K C² (M + L) + K L M C.

    M: pooled tokens of a window.
    """
    query, value, _position = arguments
    (windows, tokens, channels), pooled = query.shape, value.shape[1]
    return windows * channels * (tokens * pooled - channels * (tokens + pooled))


def _spatial_pooling(_: SpatialPooling, arguments: tuple[Tensor]) -> int:
    """A linear layer over the tokens of each cell; ours goes element by element, which is not counted."""
    return arguments[0].numel()


def _dual_features(_: DualFeatureExtraction, arguments: tuple[Tensor, Size]) -> int:
    """Two convolutions of single pixels, in ours before padding."""
    x, size = arguments
    channels = x.shape[-1]
    return _padding(x, size) * channels * (channels // 5 + channels)


def _projection(module: SpatialChannelCorrelation, arguments: tuple[Tensor]) -> int:
    """The last linear layer, in ours after cropping."""
    x = arguments[0]
    return _padding(x, module.padded((x.shape[1], x.shape[2]))) * x.shape[-1] ** 2


def _padding(x: Tensor, size: Size) -> int:
    """Number of pixels by which maps (N, H, W, C) grow to ``size``."""
    return x.shape[0] * (math.prod(size) - x.shape[1] * x.shape[2])


# ---- what the authors publish

_REPOSITORY = "https://github.com/XiangZ-0/HiT-SR"

_LR = {2: (360, 640), 3: (240, 427), 4: (180, 320)}
"""Lr sizes for a result of 1280x720 pixels, for which the authors count."""

_RULE = "multiply-adds, and 5 for each element of a LayerNorm"

_COSTS = {
    (variant, scale): Cost(
        num_parameters=parameters,
        multiply_adds=Count(multiply_adds, size=_LR[scale]),
        printed=(Count(printed, size=_LR[scale], rule=_RULE),),
    )
    for variant, scale, parameters, multiply_adds, printed in (
        ("hit-sir", 2, 772_064, 206.4, 209.9),
        ("hit-sir", 3, 780_179, 92.6, 94.2),
        ("hit-sir", 4, 791_540, 53.0, 53.8),
        ("hit-sng", 2, 1_012_584, 210.4, 213.9),
        ("hit-sng", 3, 1_020_699, 97.9, 99.5),
        ("hit-sng", 4, 1_032_060, 56.9, 57.7),
        ("hit-srf", 2, 846_944, 223.0, 226.5),
        ("hit-srf", 3, 855_059, 100.0, 101.6),
        ("hit-srf", 4, 866_420, 57.1, 58.0),
    )
}

_DIV2K = [
    Published(
        variant=variant,
        scale=scale,
        training_data="DIV2K",
        scores=scores(row),
        file=f"HiT-{variant[4:].upper()}-{scale}x.pth",
        hub=f"XiangZ/{variant}-{scale}x",
        page=_REPOSITORY,
        licence="Apache-2.0",
    )
    for variant, scale, row in (
        ("hit-sir", 2, "38.22/0.9613 33.91/0.9213 32.35/0.9019 33.02/0.9365 39.38/0.9782"),
        ("hit-sir", 3, "34.72/0.9298 30.62/0.8474 29.27/0.8101 28.93/0.8673 34.40/0.9496"),
        ("hit-sir", 4, "32.51/0.8991 28.84/0.7873 27.73/0.7424 26.71/0.8045 31.23/0.9176"),
        ("hit-sng", 2, "38.21/0.9612 34.00/0.9217 32.35/0.9020 33.01/0.9360 39.32/0.9782"),
        ("hit-sng", 3, "34.74/0.9297 30.62/0.8474 29.26/0.8100 28.91/0.8671 34.38/0.9495"),
        ("hit-sng", 4, "32.55/0.8991 28.83/0.7873 27.74/0.7426 26.75/0.8053 31.24/0.9176"),
        ("hit-srf", 2, "38.26/0.9615 34.01/0.9214 32.37/0.9023 33.13/0.9372 39.47/0.9787"),
        ("hit-srf", 3, "34.75/0.9300 30.61/0.8475 29.29/0.8106 28.99/0.8687 34.53/0.9502"),
        ("hit-srf", 4, "32.55/0.8999 28.87/0.7880 27.75/0.7432 26.80/0.8069 31.26/0.9171"),
    )
]

_DF2K = [
    Published(
        variant="hit-srf",
        scale=scale,
        tag="df2k",
        training_data="DIV2K, Flickr2K",
        scores=scores(row),
        file=f"HiT-SRF-{scale}x-DF2K.pth",
        page=_REPOSITORY,
        licence="Apache-2.0",
    )
    for scale, row in (
        (2, "38.30/0.9615 34.06/0.9217 32.41/0.9027 33.30/0.9387 39.67/0.9793"),
        (3, "34.79/0.9301 30.68/0.8486 29.33/0.8113 29.16/0.8717 34.71/0.9510"),
        (4, "32.63/0.8993 28.96/0.7899 27.78/0.7442 27.00/0.8119 31.55/0.9203"),
    )
]

_RECIPES = {
    (name, scale): [
        Recipe(
            variant=variant,
            data=data,
            batch=64,
            lr=5e-4,
            milestones=HALVED,
            iterations=500_000,
            seed=1226,
            start=None if scale == 2 else (name, 2),
        )
    ]
    for name, variant, data in (
        ("hit-sir", "hit-sir", "DIV2K"),
        ("hit-sng", "hit-sng", "DIV2K"),
        ("hit-srf", "hit-srf", "DIV2K"),
        ("hit-srf-df2k", "hit-srf", "DF2K"),
    )
    for scale in (2, 3, 4)
}

FAMILY = Family(
    name="hit-sr",
    about=About(
        title="HiT-SR",
        idea=(
            "The windows of a group's blocks grow from 4 to 64 pixels. Attention over them is replaced by a "
            "correlation whose cost is that of a window's area, not of its square."
        ),
        remarks=(
            "The paper offers this as a method: SwinIR-light becomes HiT-SIR, SwinIR-NG HiT-SNG, SRFormer-light "
            "HiT-SRF. `finescale.networks.hierarchical(settings)` converts the settings of any SwinIR, SwinIR-NG or "
            "SRFormer network so, and `finescale analyze cost -n MODEL --hierarchical` prints the costs of both.",
            "A conversion keeps the first and last layers, widths, depths, heads and feed-forward layers. Growing "
            "windows take the place of shifted ones, the correlation that of softmax attention, a small network that "
            "of the table of position biases, and norms move behind their layers. SwinIR-NG keeps its context.",
            "Weights are trained anew, at a rate of 5e-4: norms change their role, so the authors start no training "
            "from the other network's weights. 210 tensors (SRFormer-light: 258) keep name and shape.",
            "Networks of one's own are built from the blocks in `finescale.layers.hierarchical`.",
        ),
    ),
    network=HiTSR,
    variants={
        "hit-sir": HiTSRSettings(),
        "hit-sng": HiTSRSettings(context="ngram"),
        "hit-srf": HiTSRSettings(feed_forward="conv"),
    },
    tiny={"hit-sir": _tiny(), "hit-sng": _tiny(context="ngram"), "hit-srf": _tiny(feed_forward="conv")},
    publication=Publication(
        paper=Paper(
            title="HiT-SR: Hierarchical Transformer for Efficient Image Super-Resolution",
            authors="X. Zhang, Y. Zhang, F. Yu",
            venue="ECCV 2024",
            url="https://arxiv.org/abs/2407.05878",
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
        networks=(*_DIV2K, *_DF2K),
        counting={_RULE: count_as_fvcore},
        beyond={
            SpatialCorrelation: _spatial_correlation,
            SpatialPooling: _spatial_pooling,
            DualFeatureExtraction: _dual_features,
            SpatialChannelCorrelation: _projection,
            NGramContext: ngram_context_both_ways,
        },
    ),
    files=WeightFiles(
        marks=(".correlation.qv.linear.weight", ".correlation.spatial_linear.weight"),
        derivable=(".ngram_attn.relative_position_index",),
        buffers=published_buffers,
        from_state=settings_from_state,
        unseen=unseen_fields,
        unseen_help={
            **UNSEEN,
            "base_window": "8x8; HiT-SNG's files show theirs",
            "window_ratios": (
                "0.5 and 1 for two blocks that pool nothing, else 1 for each; a file shows those of blocks that pool"
            ),
        },
    ),
    options=PublishedOptions(classes=tuple(_SWITCHES), read=settings_from_options),
    quantization=Quantization(placement=placement),
    recipes=_RECIPES,
)
