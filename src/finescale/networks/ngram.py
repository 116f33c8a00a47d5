"""N-gram Swin transformers: SwinIR-NG and NGswin.

H. Choi, J. Lee, J. Yang, "N-Gram in Swin Transformers for Efficient Lightweight Image Super-Resolution", CVPR 2023.

A window of a Swin transformer sees only itself. Here each window is summed up by one vector, neighbouring vectors
attend to each other, and the result, the window's context, is added to all its pixels before the window's own
attention. SwinIR-NG is SwinIR-light with this context in every layer. NGswin is a network of its own: an encoder of
three stages, each at half the resolution of the one before, a bottleneck that shuffles their results back to full
resolution, and a decoder. Its blocks are normed behind, and compare pixels by the cosine of query and key.

Letters: N batch, H W size of a map in whole windows, C = embed_dim, n heads, d channels of a head, w side of a window,
L = w * w, K windows in the batch.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from finescale.layers.convolution import convolve
from finescale.layers.feedforward import MLP
from finescale.layers.initialisation import initialise_small
from finescale.layers.linear import Linear
from finescale.layers.ngram_context import NGramContext, NGramWindowPartition
from finescale.layers.stochastic_depth import StochasticDepth, depth_rates
from finescale.layers.window_attention import BiasedAttention, SwinLayer, WindowAttention, attend_in_windows
from finescale.layers.windows import Size, at_least, pad_reflect, whole_windows
from finescale.networks import swin
from finescale.networks.counting import count_as_swinir, ngram_context_both_ways
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
from finescale.networks.frame import AnyUpsampler, Frame, FrameSettings
from finescale.networks.options import take_options
from finescale.networks.placement import NETWORK_ENDS, Placement
from finescale.networks.state import State, ratio_of
from finescale.networks.swin import check_heads, fields_from_options, fields_from_state, position_size_of
from finescale.networks.swinir import SwinIR, SwinIRSettings

if TYPE_CHECKING:  # a network that runs needs no metrics
    from finescale.metrics.cost import Operations

STAGES = ("encoder_layer1", "encoder_layer2", "encoder_layer3", "decoder_layer1")
"""Published names of NGswin's stages."""

Four = tuple[int, int, int, int]
"""One number for each of `STAGES`."""

_DEVIATION = {2: (0.2397, 0.2290, 0.2389), 3: (0.2373, 0.2265, 0.2367), 4: (0.2352, 0.2244, 0.2349)}
"""Standard deviation of the colours of DIV2K's lr images, by scale; a constant of NGswin."""


class SwinIRNGSettings(SwinIRSettings):
    """Sizes of a SwinIR-NG network; the defaults are those of all three published ones."""

    embed_dim: int = Field(60, ge=2, multiple_of=2)
    """Channels of the features, of which a window's summary has half as many."""
    upsampler: AnyUpsampler = "pixelshuffledirect"
    """Reconstruction head, see `finescale.layers.upsampling`."""
    depths: tuple[int, ...] = (6, 6, 6, 6)
    """Layers of each group."""
    num_heads: tuple[int, ...] = (6, 6, 6, 6)
    """Heads of the attention, within windows and among them, for each group."""
    shifted: Literal[True] = True
    """Each second layer rolls the map."""
    position_size: int | None = Field(None, ge=1)
    """Side, in lr pixels, of the one square image size that the network takes, each of whose places has learned
    features of its own; None, as in all published networks: any size, and no such features."""
    drop_path_rate: float = Field(0.0, ge=0, lt=1)
    """Share of a training's samples that skip the branches of the last layer, less in earlier ones; 0 is neutral."""

    @model_validator(mode="after")
    def _check_heads_among_windows(self) -> Self:
        check_heads(self.embed_dim // 2, self.num_heads)
        return self


class NGswinSettings(FrameSettings):
    """Sizes of an NGswin network; the defaults are those of all three published ones."""

    embed_dim: int = Field(64, ge=16, multiple_of=16)
    """Channels of the features, of which a sixteenth is left where four pixels of a side become one."""
    mean: tuple[float, ...] = (0.4485, 0.4375, 0.4045)
    """Colour taken off the image before the first convolution and added after the last, one value per channel of RGB.

    Images that are not RGB are not shifted.
    """
    unit_deviation: bool = True
    """Divide the shifted colours by their standard deviation in DIV2K, which depends on the scale; RGB images only."""
    upsampler: Literal["pixelshuffledirect"] = "pixelshuffledirect"
    """Reconstruction head; the family has one, with a last convolution after the pixel shuffle."""
    residual_conv: Literal["identity"] = "identity"
    """Closing of the body; the family has none."""
    depths: Four = (6, 4, 4, 6)
    """Blocks of the encoder's three stages and of the decoder."""
    num_heads: Four = (6, 4, 4, 6)
    """Heads of the attention, for each stage; they need not divide embed_dim."""
    head_dims: Four | None = None
    """Channels of a head, for each stage; None is embed_dim // num_heads."""
    window_size: int = Field(8, ge=1, le=64)
    """Side of the attention windows, in pixels of a stage's map."""
    ngrams: Four = (2, 2, 2, 2)
    """Side of the n-grams, in windows, for each stage; at 1 the context of a window is its own summary alone."""
    mlp_ratios: tuple[float, float, float, float] = (2.0, 2.0, 2.0, 2.0)
    """Hidden channels of the feed-forward layers, as multiples of embed_dim, for each stage."""
    qkv_bias: bool = True
    """Offset query, key and value of the attention within windows by a learned bias; that among windows always has one.
    """
    drop_path_rate: float = Field(0.0, ge=0, lt=1)
    """Share of a training's samples that skip the branches of the last block, less in earlier ones; 0 is neutral."""

    @property
    def scales(self) -> Sequence[int]:
        """Scales at which the network exists."""
        return tuple(_DEVIATION)

    def head_dim(self, stage: int) -> int:
        """Return the channels of a head."""
        return self.head_dims[stage] if self.head_dims else self.embed_dim // self.num_heads[stage]

    def hidden(self, stage: int) -> int:
        """Return the hidden channels of a feed-forward layer."""
        return int(self.embed_dim * self.mlp_ratios[stage])

    @property
    def least_side(self) -> int:
        """The least side of an image, in pixels: n windows for the n-grams of each stage, at its own resolution."""
        windows = (side * factor for side, factor in zip(self.ngrams, (1, 2, 4, 1), strict=True))
        return math.ceil(max(windows) / 4) * 4 * self.window_size

    @model_validator(mode="after")
    def _check_stages(self) -> Self:
        for field in ("depths", "num_heads", "ngrams"):
            if min(getattr(self, field)) < 1:
                raise ValueError(f"{field} must be at least 1 for each stage, got {getattr(self, field)}")
        if max(self.num_heads) > self.embed_dim // 2:
            raise ValueError(f"num_heads must be at most half of embed_dim {self.embed_dim}, got {self.num_heads}")
        if min(map(self.head_dim, range(4))) < 1:
            raise ValueError(f"head_dims must be at least 1, got {self.head_dims}")
        if min(map(self.hidden, range(4))) < 1:
            raise ValueError(f"mlp_ratios leave no hidden channels of {self.embed_dim}, got {self.mlp_ratios}")
        if self.unit_deviation and self.in_channels != 3:
            raise ValueError(f"unit_deviation must be false for images of {self.in_channels} channels")
        return self


# ---- SwinIR-NG, small to large


class NGramLayer(SwinLayer):
    """Layer of SwinIR with the context before its attention, computed for the windows of the map at rest."""

    def __init__(self, *, attention: BiasedAttention, channels: int, **parts: Any) -> None:
        super().__init__(attention=attention, channels=channels, **parts)
        among_windows = WindowAttention(
            channels=channels // 2, num_heads=attention.num_heads, window_size=2, shifted=False
        )
        self.ngram_window_partition = NGramWindowPartition(
            NGramContext(channels=channels, window=attention.window, attention=among_windows)
        )

    def attend(self, x: Tensor) -> Tensor:
        """Add the context to a normalised map (N, H, W, C), and attend within its windows."""
        return super().attend(self.ngram_window_partition(x))


class SwinIRNG(SwinIR):
    """SwinIR-NG."""

    layer = NGramLayer

    settings: SwinIRNGSettings

    def pad(self, image: Tensor) -> Tensor:
        """Mirror the image at the bottom and on the right to whole windows, at least two on each axis."""
        height, width = image.shape[-2:]
        return pad_reflect(image.permute(0, 2, 3, 1), self.mirrored_size((height, width))).permute(0, 3, 1, 2)

    def mirrored_size(self, size: Size) -> Size:
        """Return the size in whole windows, at least two on each axis; the authors' mirror repeats the edge."""
        height, width = (at_least(side, 2 * self.period) for side in size)
        return whole_windows((height, width), (self.period, self.period))


# ---- NGswin, small to large


class CosineAttention(WindowAttention):
    """Attention within windows by the cosine of query and key, times a learned factor of each head, at most 100."""

    def __init__(
        self, *, channels: int, num_heads: int, head_dim: int, window_size: int, shifted: bool, qkv_bias: bool = True
    ) -> None:
        super().__init__(
            channels=channels,
            num_heads=num_heads,
            window_size=window_size,
            shifted=shifted,
            qkv_bias=qkv_bias,
            width=num_heads * head_dim,
            scale=1.0,
        )
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))

    def project(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries times the head's factor, keys and values (K, n, L, d) of windows (K, L, C)."""
        query, key, value = super().project(windows)
        factor = self.logit_scale.clamp(max=math.log(100)).exp()
        return (_unit(query) * factor).to(value.dtype), _unit(key).to(value.dtype), value


def _unit(x: Tensor) -> Tensor:
    """Scale vectors (..., d) to length 1, at least in float32."""
    return F.normalize(x if x.dtype == torch.float64 else x.float(), dim=-1)


class Block(nn.Module):
    """Context, attention within windows and a feed-forward layer, each of the latter with its norm behind it."""

    def __init__(self, *, settings: NGswinSettings, stage: int, shifted: bool, drop_path: float) -> None:
        super().__init__()
        channels, num_heads, side = settings.embed_dim, settings.num_heads[stage], settings.window_size
        half = channels // 2
        among_windows = CosineAttention(
            channels=half,
            num_heads=num_heads,
            head_dim=half // num_heads,
            window_size=settings.ngrams[stage],
            shifted=False,
        )
        self.ngram_window_partition = NGramWindowPartition(
            NGramContext(channels=channels, window=(side, side), attention=among_windows)
        )
        self.attn = CosineAttention(
            channels=channels,
            num_heads=num_heads,
            head_dim=settings.head_dim(stage),
            window_size=side,
            shifted=shifted,
            qkv_bias=settings.qkv_bias,
        )
        self.drop_path = StochasticDepth(drop_path)
        self.norm1 = nn.LayerNorm(channels)
        self.ffn = MLP(channels=channels, hidden=settings.hidden(stage))
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = x + self.drop_path(self.norm1(attend_in_windows(self.attn, self.ngram_window_partition(x))))
        return x + self.drop_path(self.norm2(self.ffn(x)))  # type: ignore[no-any-return]


class Downsampling(nn.Module):
    """Four pixels to one, by a linear layer on their channels."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = Linear(4 * channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to (N, H/2, W/2, C)."""
        n, height, width, channels = x.shape
        pixels = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(2, 3)
        return self.reduction(self.norm(pixels.flatten(3)))  # type: ignore[no-any-return]


class Stage(nn.Module):
    """Blocks at one resolution; each reads the sum of what the one before read and returned.

    Args:
        settings: Of the network.
        stage: Number of the stage in `STAGES`.
        reads: How many times C channels come in.
        downsampled: Whether the next stage reads the result at half the resolution.
    """

    def __init__(self, *, settings: NGswinSettings, stage: int, reads: int = 1, downsampled: bool = False) -> None:
        super().__init__()
        channels = settings.embed_dim
        self.across_cascade_proj = nn.Identity() if reads == 1 else Linear(reads * channels, channels)
        rates = depth_rates(settings.drop_path_rate, settings.depths)[stage]
        self.blocks = nn.ModuleList(
            Block(settings=settings, stage=stage, shifted=number % 2 == 1, drop_path=rate)
            for number, rate in enumerate(rates)
        )
        self.downsample = Downsampling(channels=channels) if downsampled else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map (N, H, W, reads * C) to the last block's result (N, H, W, C), and (N, H/2, W/2, C) for the next stage."""
        x = self.across_cascade_proj(x)
        for block in self.blocks:
            out = block(x)
            x = out + x
        return out, None if self.downsample is None else self.downsample(x)


class Bottleneck(nn.Module):
    """Results of the encoder's three stages, shuffled to full resolution and reduced to C channels."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        shuffled = channels + channels // 4 + channels // 16
        self.depthwise = nn.Conv2d(shuffled, shuffled, 3, padding=1, groups=shuffled)
        self.pointwise = Linear(shuffled, channels)
        self.norm = nn.LayerNorm(channels)

    def forward(self, shallow: Tensor, stages: Sequence[Tensor]) -> Tensor:
        """Reduce (N, H, W, C), (N, H/2, W/2, C) and (N, H/4, W/4, C), and the features before them, to (N, H, W, C)."""
        parts = []
        for number, stage in enumerate(stages):
            if number:
                shallow = halved(shallow)
            parts.append(_shuffle(stage + F.leaky_relu(shallow), 2**number))
        x = F.gelu(convolve(self.depthwise, torch.cat(parts, dim=-1)))
        return self.norm(self.pointwise(x))  # type: ignore[no-any-return]


def halved(x: Tensor) -> Tensor:
    """Take the maximum of each 2x2 pixels: map (N, H, W, C) to (N, H/2, W/2, C)."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)


def _shuffle(x: Tensor, factor: int) -> Tensor:
    """Pixel shuffle of a map (N, H, W, C) to (N, factor * H, factor * W, C / factor²)."""
    n, height, width, channels = x.shape
    pixels = x.reshape(n, height, width, channels // factor**2, factor, factor).permute(0, 1, 4, 2, 5, 3)
    return pixels.reshape(n, height * factor, width * factor, channels // factor**2)


class NGswin(Frame):
    """NGswin."""

    first = "shallow_extract"

    settings: NGswinSettings

    deviation: Tensor

    def __init__(self, *, settings: NGswinSettings, scale: int) -> None:
        super().__init__(settings=settings, scale=scale)
        deviation = _DEVIATION[scale] if settings.unit_deviation else (1.0,) * settings.in_channels
        self.register_buffer("deviation", torch.tensor(deviation).reshape(1, -1, 1, 1), persistent=False)
        self.encoder_layer1 = Stage(settings=settings, stage=0, downsampled=True)
        self.encoder_layer2 = Stage(settings=settings, stage=1, reads=2, downsampled=True)
        self.encoder_layer3 = Stage(settings=settings, stage=2, reads=3)
        self.bottleneck = Bottleneck(channels=settings.embed_dim)
        self.decoder_layer1 = Stage(settings=settings, stage=3)
        self.norm = nn.LayerNorm(settings.embed_dim)
        initialise_small(self, nn.Linear)

    def build_first(self) -> nn.Module:
        """Build the first convolution."""
        return nn.Sequential(OrderedDict(conv1=super().build_first()))

    def build_head(self) -> dict[str, nn.Module]:
        """Build the reconstruction: a convolution, a pixel shuffle and a convolution of the image."""
        channels, scale = self.in_channels, self.scale
        steps = {
            "before_shuffle": nn.Conv2d(self.settings.embed_dim, channels * scale**2, 3, padding=1),
            "shuffle": nn.PixelShuffle(scale),
            "to_origin": nn.Conv2d(channels, channels, 3, padding=1),
        }
        return {"to_target": nn.Sequential(OrderedDict(steps))}

    @property
    def groups(self) -> list[nn.Module]:
        """The four stages."""
        return [self.get_submodule(name) for name in STAGES]

    @property
    def period(self) -> int:
        """Pixels of the image after which the windows of all stages repeat together."""
        return 4 * self.settings.window_size

    def pad(self, image: Tensor) -> Tensor:
        """Extend the image at the bottom and on the right by zeros, as the published network does."""
        height, width = image.shape[-2:]
        rows, columns = self.mirrored_size((height, width))
        return F.pad(image, (0, columns - width, 0, rows - height))

    def mirrored_size(self, size: Size) -> Size:
        """Return the size in whole windows of all stages, and in enough of them for the n-grams.

        The zeros of `pad`, which the network takes for darkness, change the picture up to a hundred pixels away.
        """
        height, width = (at_least(side, self.settings.least_side) for side in size)
        return whole_windows((height, width), (self.period, self.period))

    def normalise(self, image: Tensor) -> Tensor:
        """Map an image to the values that the network was trained with."""
        return super().normalise(image) / self.deviation

    def denormalise(self, sr: Tensor) -> Tensor:
        """Undo `normalise`."""
        return super().denormalise(sr * self.deviation)

    def body(self, features: Tensor) -> Tensor:
        """Encode, mix and decode: features (N, C, H, W) to the same shape."""
        shallow = features.permute(0, 2, 3, 1)  # (N, H, W, C)
        first, first_below = self.encoder_layer1(shallow)
        below = torch.cat((halved(shallow), first_below), dim=-1)
        second, second_below = self.encoder_layer2(below)
        third, _ = self.encoder_layer3(torch.cat((halved(below), second_below), dim=-1))
        mixed = self.bottleneck(shallow, (first, second, third))
        decoded, _ = self.decoder_layer1(mixed + first)
        return self.norm(decoded).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def ngram_network(*, settings: SwinIRNGSettings | NGswinSettings, scale: int) -> SwinIRNG | NGswin:
    """Build SwinIR-NG or NGswin, by the class of the settings."""
    if isinstance(settings, NGswinSettings):
        return NGswin(settings=settings, scale=scale)
    return SwinIRNG(settings=settings, scale=scale)


# ---- reading files and options

_CONTEXT = "ngram_window_partition.ngram_context."


def _is_ngswin(state: State) -> bool:
    return "bottleneck.depthwise.weight" in state


def settings_from_state(state: State) -> tuple[SwinIRNGSettings | NGswinSettings, int]:
    """Read settings and scale from the shapes of a weight file of either network; see `unseen_fields`."""
    return _ngswin_from_state(state) if _is_ngswin(state) else _swinir_ng_from_state(state)


def unseen_fields(settings: SwinIRNGSettings | NGswinSettings, state: State) -> tuple[str, ...]:
    """Name the fields that `settings_from_state` assumes; none where the file holds the other network."""
    if state and isinstance(settings, NGswinSettings) != _is_ngswin(state):
        return ()
    if isinstance(settings, SwinIRNGSettings):
        return ("image_range", "mean", "qk_scale", "drop_path_rate")
    return ("image_range", "mean", *(("unit_deviation",) if settings.in_channels == 3 else ()), "drop_path_rate")


def settings_from_options(options: Mapping[str, Any]) -> tuple[SwinIRNGSettings | NGswinSettings, int]:
    """Read settings and scale from the arguments of either published constructor.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    return _ngswin_from_options(options) if options["type"] == "NGswin" else _swinir_ng_from_options(options)


def _swinir_ng_from_state(state: State) -> tuple[SwinIRNGSettings, int]:
    fields, scale = fields_from_state(state)
    first = "layers.0.residual_group.blocks.0."
    window_size = state[first + _CONTEXT + "unigram_embed.weight"].shape[-1]
    ngram = side_of(state[first + _CONTEXT + "ngram_attn.relative_position_bias_table"])
    if ngram != 2:
        raise ValueError(f"the n-grams of SwinIR-NG must have 2 x 2 windows, got {ngram} x {ngram}")
    settings = SwinIRNGSettings(
        **fields,
        window_size=window_size,
        qkv_bias=first + "attn.qkv.bias" in state,
        position_size=position_size_of(state, window_size),
    )
    return settings, scale


_SWINIR_NG_DEFAULTS: Mapping[str, Any] = {
    "embed_dim": 60,
    "window_size": 8,
    "mlp_ratio": 2.0,
    "upsampler": "pixelshuffledirect",
}
"""Defaults of SwinIR-NG's published constructor, where they are not SwinIR's."""


def _swinir_ng_from_options(options: Mapping[str, Any]) -> tuple[SwinIRNGSettings, int]:
    fields = fields_from_options({**_SWINIR_NG_DEFAULTS, **options})
    scale, img_size, ape = (fields.pop(name) for name in ("scale", "img_size", "ape"))
    if img_size <= fields["window_size"]:  # the published layer would then displace its features
        raise ValueError(f"SwinIRNG: img_size must exceed window_size {fields['window_size']}, got {img_size}")
    fields["position_size"] = img_size if ape else None
    return SwinIRNGSettings(**fields), scale


def _ngswin_from_state(state: State) -> tuple[NGswinSettings, int]:
    embed_dim, in_channels = state["shallow_extract.conv1.weight"].shape[:2]
    depths, heads, ngrams, head_dims, ratios = [], [], [], [], []
    for stage in STAGES:
        block = f"{stage}.blocks.0."
        depths.append(len({key.split(".")[2] for key in state if key.startswith(f"{stage}.blocks.")}))
        heads.append(state[block + "attn.logit_scale"].shape[0])
        ngrams.append(side_of(state[block + _CONTEXT + "ngram_attn.relative_position_bias_table"]))
        head_dims.append(state[block + "attn.qkv.weight"].shape[0] // (3 * heads[-1]))
        ratios.append(ratio_of(state[block + "ffn.fc1.weight"].shape[0], embed_dim))
    settings = NGswinSettings(
        in_channels=in_channels,
        embed_dim=embed_dim,
        unit_deviation=in_channels == 3,
        depths=depths,
        num_heads=heads,
        head_dims=_unless_usual(head_dims, embed_dim, heads),
        window_size=side_of(state[f"{STAGES[0]}.blocks.0.attn.relative_position_bias_table"]),
        ngrams=ngrams,
        mlp_ratios=ratios,
        qkv_bias=f"{STAGES[0]}.blocks.0.attn.qkv.bias" in state,
    )
    return settings, math.isqrt(state["to_target.before_shuffle.weight"].shape[0] // in_channels)


def side_of(table: Tensor) -> int:
    """Return the side of the windows whose offsets a bias table (offsets, n) has."""
    return (math.isqrt(table.shape[0]) + 1) // 2


def _unless_usual(head_dims: Sequence[int], embed_dim: int, num_heads: Sequence[int]) -> Sequence[int] | None:
    """Return the channels of heads; None where they are the usual ones."""
    usual = [embed_dim // heads for heads in num_heads]
    return None if list(head_dims) == usual else head_dims


_NGSWIN_DEFAULTS: Mapping[str, Any] = {
    "in_channels": 3,
    "target_mode": "light_x2",
    "embed_dim": 64,
    "dec_dim": 64,
    "depths": (6, 4, 4),
    "dec_depths": 6,
    "num_heads": (6, 4, 4),
    "dec_num_heads": 6,
    "head_dim": None,
    "dec_head_dim": None,
    "mlp_ratio": 2.0,
    "img_norm": True,
}
"""Defaults of NGswin's published constructor, as far as arguments of it make one field of ours."""


def _ngswin_from_options(options: Mapping[str, Any]) -> tuple[NGswinSettings, int]:
    taken = take_options(
        options,
        shared={"in_chans": "in_channels"},
        fields={name: name for name in (*_NGSWIN_DEFAULTS, *_NGSWIN_ARGUMENTS) if name != "in_channels"},
        neutral={"drop_rate": 0, "attn_drop_rate": 0},
        without_effect=("training_img_size", "weight_init"),
        in_vain=(),
    )
    fields = {**_NGSWIN_DEFAULTS, **taken}
    mode = re.fullmatch(r"light_x([234])", str(fields.pop("target_mode")))
    if mode is None:
        raise ValueError(f"NGswin: target_mode must be light_x2, light_x3 or light_x4, got {options['target_mode']!r}")
    if fields["dec_dim"] != fields["embed_dim"]:
        raise ValueError(f"NGswin: dec_dim must equal embed_dim {fields['embed_dim']}, got {fields['dec_dim']}")
    if fields["img_norm"] and fields["in_channels"] != 3:
        raise ValueError(f"NGswin: img_norm must be False for {fields['in_channels']} channels, got True")
    depths, heads = ((*fields[name], fields[f"dec_{name}"]) for name in ("depths", "num_heads"))
    dims = (*_each(fields["head_dim"], 3), fields["dec_head_dim"])
    head_dims = [dim or fields["embed_dim"] // number for dim, number in zip(dims, heads, strict=True)]
    settings = NGswinSettings(
        in_channels=fields["in_channels"],
        embed_dim=fields["embed_dim"],
        **({} if fields["img_norm"] else {"mean": (0.0, 0.0, 0.0), "unit_deviation": False}),
        depths=depths,
        num_heads=heads,
        head_dims=_unless_usual(head_dims, fields["embed_dim"], heads),
        mlp_ratios=_each(fields["mlp_ratio"], 4),
        **{name: value for name, value in fields.items() if name in _NGSWIN_ARGUMENTS},
    )
    return settings, int(mode[1])


_NGSWIN_ARGUMENTS = ("ngrams", "window_size", "qkv_bias", "drop_path_rate")
"""Arguments of NGswin's published constructor that are fields of ours."""


def _each(value: Any, number: int) -> Sequence[Any]:
    """Return one value for each stage, of one value for all or of as many."""
    return value if isinstance(value, Sequence) else (value,) * number


def published_masks(network: SwinIRNG | NGswin, image_size: int | None) -> dict[str, Tensor]:
    """Compute the mask of each shifted layer for one image size, 64 in the published trainings.

    NGswin's second stage and its decoder see half of the size, its third stage a quarter.

    Raises:
        ValueError: The published network could not be built for this size.
    """
    if isinstance(network, SwinIRNG):
        return swin.published_masks(network, image_size)
    window = network.settings.window_size
    size = image_size or 8 * window
    if size % (4 * window) or size == 4 * window:
        raise ValueError(f"image_size must be a multiple of {4 * window} above it, by its windows, got {size}")
    sides = dict(zip(STAGES, (size, size // 2, size // 4, size // 2), strict=True))
    return {
        f"{name.removesuffix('.attn')}.attn_mask": module.mask((sides[name.partition(".")[0]],) * 2)
        for name, module in network.named_modules()
        if isinstance(module, WindowAttention) and any(module.shift)
    }


def placement(settings: SwinIRNGSettings | NGswinSettings) -> Placement:
    """Place quantizers by the general rule; those at the network's ends judge errors by their spectra."""
    if isinstance(settings, SwinIRNGSettings):
        return Placement(frequency=NETWORK_ENDS)
    first, last = "shallow_extract.conv1", "to_target.to_origin"
    ends = (f"{first}.input_quantizer", "result")
    return Placement(
        frequency=(*ends, "to_target.before_shuffle.input_quantizer", f"{last}.input_quantizer"),
        ends=ends,
        first=first,
        last=(last,),
    )


# ---- what the authors publish

_REPOSITORY = "https://github.com/rami0205/NGramSwin"

_LR = {2: (360, 640), 3: (240, 426), 4: (180, 320)}
"""Lr sizes for a result of 1280x720 pixels, for which the authors count."""

_EPOCH = 1000
"""Steps; 800 pictures, each 80 times, in batches of 64."""


_SEQUENCE = "SwinIR's formulas, with the summaries of all windows taken for one sequence"


def _count_one_sequence(network: nn.Module, shape: tuple[int, ...], operations: Operations) -> int:
    """Count by SwinIR's formulas, but attention among windows as if each window attended to all others."""
    by_swinir = count_as_swinir(network, shape, operations)
    if not isinstance(network, SwinIRNG):
        return by_swinir
    height, width = network.mirrored_size((shape[2], shape[3]))
    windows = height * width // network.period**2
    attentions = [module.ngram_attn for module in network.modules() if isinstance(module, NGramContext)]
    beyond = 0
    for attention in attentions:
        tokens, channels = attention.window[0] ** 2, attention.proj.in_features
        projected, attended = 4 * channels**2, 2 * channels
        beyond += 2 * windows * ((projected + attended * windows) - tokens * (projected + attended * tokens))
    return by_swinir + shape[0] * beyond


_PRINTED = {
    ("swinir-ng", scale): (Count(giga, size=_LR[scale], rule=_SEQUENCE),)
    for scale, giga in ((2, 274.1), (3, 114.1), (4, 63.0))
}

_COSTS = {
    (variant, scale): Cost(
        num_parameters=parameters,
        multiply_adds=Count(multiply_adds, size=_LR[scale]),
        printed=_PRINTED.get((variant, scale), ()),
    )
    for variant, scale, parameters, multiply_adds in (
        ("swinir-ng", 2, 1_181_448, 244.21),
        ("swinir-ng", 3, 1_189_563, 110.73),
        ("swinir-ng", 4, 1_200_924, 63.55),
        ("ngswin", 2, 998_384, 136.60),
        ("ngswin", 3, 1_007_039, 64.78),
        ("ngswin", 4, 1_019_156, 35.48),
    )
}

_SCORES = {
    ("swinir-ng", 2): scores("38.17/0.9612 33.94/0.9205 32.31/0.9013 32.78/0.9340 39.20/0.9781"),
    ("swinir-ng", 4): scores("32.44/0.8980 28.83/0.7870 27.73/0.7418 26.61/0.8010 31.09/0.9161"),
    ("ngswin", 2): scores("38.05/0.9610 33.79/0.9199 32.27/0.9008 32.53/0.9324 38.97/0.9777"),
}
"""Those that a second table confirms, or in part a measurement of our own."""

_UNCONFIRMED = {("ngswin", 2): "; scores confirmed by measurement on Set5 and Set14, on the others not confirmed"}

_PUBLISHED = [
    Published(
        variant=variant,
        scale=scale,
        training_data="DIV2K",
        scores=_SCORES.get((variant, scale), {}),
        file=f"{file}_x{scale}.pth",
        page=_REPOSITORY,
        licence="Apache-2.0",
        remark="in the folder `pretrain` of the repository" + _UNCONFIRMED.get((variant, scale), ""),
    )
    for variant, file in (("swinir-ng", "SwinIR-NG"), ("ngswin", "NGswin"))
    for scale in (2, 3, 4)
]


def _recipes(variant: str) -> dict[tuple[str, int], list[Recipe]]:
    """State the authors' training of a variant: x2 from random weights, x3 and x4 from x2."""
    shared: dict[str, Any] = {
        "variant": variant,
        "data": "DIV2K",
        "batch": 64,
        "betas": (0.9, 0.999),
        "lr": 4e-4,
        "warm_up": 20 * _EPOCH,
        "seed": 100,
    }
    halved = [epoch * _EPOCH for epoch in (200, 300, 400, 425, 450, 475)]
    first = Recipe(iterations=500 * _EPOCH, milestones=tuple(halved), remark="in mixed precision", **shared)
    others = Recipe(
        iterations=450 * _EPOCH,
        milestones=tuple(halved[:4]),
        start=(variant, 2),
        remark="in mixed precision, after 50k steps at 4e-4 of the reconstruction alone, which are left out here",
        **shared,
    )
    return {(variant, 2): [first], (variant, 3): [others], (variant, 4): [others]}


FAMILY = Family(
    name="ngram",
    about=About(
        title="SwinIR-NG and NGswin",
        idea=(
            "A window of a Swin transformer sees only itself. Here each window is told about its neighbours by "
            "attention among summaries of windows. SwinIR-NG is SwinIR-light with this context; NGswin is an encoder "
            "at full, half and quarter resolution, a bottleneck that shuffles their results together, and a decoder."
        ),
        remarks=(
            "Images are mirrored to whole windows before they are upscaled, as in the authors' test code; NGswin "
            "itself would add black pixels.",
            "For NGswin the authors print 140.4, 66.6 and 36.4 G multiply-adds, by a formula of their code that takes "
            "a wider attention, and includes norms, pools and activations.",
            "Scores that nothing confirms, those at x3 and of NGswin at x4, are left out.",
        ),
    ),
    network=ngram_network,
    variants={"swinir-ng": SwinIRNGSettings(), "ngswin": NGswinSettings()},
    tiny={
        "swinir-ng": SwinIRNGSettings(embed_dim=12, depths=(2,), num_heads=(3,), window_size=4),
        "ngswin": NGswinSettings(embed_dim=16, depths=(2, 1, 1, 2), num_heads=(2, 2, 2, 2), window_size=4),
    },
    publication=Publication(
        paper=Paper(
            title="N-Gram in Swin Transformers for Efficient Lightweight Image Super-Resolution",
            authors="H. Choi, J. Lee, J. Yang",
            venue="CVPR 2023, 2071-2081",
            url="https://arxiv.org/abs/2211.11436",
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
        networks=_PUBLISHED,
        counting={_SEQUENCE: _count_one_sequence},
        beyond={NGramContext: ngram_context_both_ways},
    ),
    files=WeightFiles(
        marks=("blocks.0." + _CONTEXT + "merge.weight", "blocks.0.attn.qkv.weight"),
        derivable=(".relative_position_index", ".attn_mask"),
        from_state=settings_from_state,
        key="none",
        buffers=swin.published_buffers,
        masks=published_masks,
        unseen=unseen_fields,
        unseen_help={
            "image_range": UNSEEN["image_range"],
            "mean": f"SwinIR-NG: {UNSEEN['mean']}; NGswin: 0.4485, 0.4375, 0.4045",
            "unit_deviation": "NGswin: on for RGB",
            "qk_scale": "SwinIR-NG: d ** -0.5, the usual one",
            "drop_path_rate": "0, which matters in training alone",
        },
    ),
    options=PublishedOptions(classes=("SwinIRNG", "NGswin"), read=settings_from_options),
    quantization=Quantization(placement=placement),
    recipes={**_recipes("swinir-ng"), **_recipes("ngswin")},
)
