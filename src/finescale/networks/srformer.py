"""SRFormer: permuted self-attention (SRFormer, SRFormer-light).

Y. Zhou, Z. Li, C.-L. Guo, S. Bai, M.-M. Cheng, Q. Hou, "SRFormer: Permuted Self-Attention for Single Image
Super-Resolution", ICCV 2023.

SwinIR with large windows at less cost: keys and values have a quarter of the channels, and each cell of 2x2 pixels is
folded into one key of all channels. The feed-forward layer looks around by a depthwise convolution.

Letters: N batch, H W size of the lr image in whole windows, C = embed_dim, n heads, d = C/n, w side of a window,
L = w * w queries, p = w/2, M = p * p keys, K windows in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from finescale.layers.convolution import ResidualGroup
from finescale.layers.feedforward import ConvFFN
from finescale.layers.linear import Linear
from finescale.layers.position import relative_index
from finescale.layers.window_attention import BiasedAttention, SwinLayer
from finescale.layers.windows import Size, shift_mask
from finescale.networks import swin
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
from finescale.networks.frame import AnyUpsampler
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
    published_buffers,
    published_masks,
)


class SRFormerSettings(SwinSettings):
    """Sizes of an SRFormer network; the defaults are those of the published one."""

    embed_dim: int = Field(180, ge=4)
    """Channels of the features."""
    upsampler: AnyUpsampler = "pixelshuffle"
    """Reconstruction head, see `finescale.layers.upsampling`."""
    residual_conv: Literal["1conv", "3conv"] = "1conv"
    """Convolution that closes each group and the body: one 3x3, or three through a quarter of the channels."""
    window_size: int = Field(22, ge=2, le=64)
    """Side of the attention windows, in lr pixels, an even number."""
    shift_mask: bool = True
    """Whether shifted windows keep pixels from opposite ends of the map apart.

    The code from before July 2023, with which most published weights were probably trained, did not.
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_heads(self.embed_dim, self.num_heads)
        if self.embed_dim % 4:
            raise ValueError(f"embed_dim must be a multiple of 4, got {self.embed_dim}")
        if self.window_size % 2:
            raise ValueError(f"window_size must be even, got {self.window_size}")
        return self


class PermutedAttention(BiasedAttention):
    """Attention of all pixels of a window to its cells of 2x2 pixels, each folded into one key and value."""

    index_name: ClassVar[str] = "aligned_relative_position_index"

    q: Linear
    kv: Linear

    def __init__(self, *, settings: SRFormerSettings, num_heads: int, shifted: bool) -> None:
        channels = settings.embed_dim
        super().__init__(
            channels=channels,
            num_heads=num_heads,
            window_size=settings.window_size,
            shifted=shifted,
            offsets=(settings.window_size - 1) ** 2,
            inputs={
                "kv": Linear(channels, channels // 2, bias=settings.qkv_bias),
                "q": Linear(channels, channels, bias=settings.qkv_bias),
            },
            masked=settings.shift_mask,
            scale=settings.qk_scale,
        )

    def project(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries (K, n, L, d), keys and values (K, n, M, d) of windows (K, L, C).

        A key holds the quarters of its cell's pixels one after another, row by row; only then it is cut into heads.
        """
        count, half = windows.shape[0], self.window[0] // 2
        query = self.q(windows).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
        cells = self.kv(windows).reshape(count, half, 2, half, 2, 2, -1)  # (K, p, 2, p, 2, key or value, C/4)
        folded = cells.permute(5, 0, 1, 3, 2, 4, 6).reshape(2, count, half**2, self.num_heads, -1)
        key, value = folded.transpose(2, 3)
        return query, key, value

    def index(self, device: torch.device | None = None) -> Tensor:
        """Compute for each query and key the row (L, M) of the table: the pixels of a cell share theirs."""
        half = self.window[0] // 2
        cells = relative_index((half, half), device).reshape(half, 1, half, 1, -1)
        return cells.expand(half, 2, half, 2, -1).reshape(-1, half**2)

    def mask(self, size: Size, device: torch.device | None = None) -> Tensor:
        """Compute the mask (windows, L, M) of a rolled map of some size in whole windows."""
        return shift_mask(size, self.window, self.shift, device, cell=2)


class SRFormer(SwinFrame):
    """SRFormer or SRFormer-light, by its settings."""

    settings: SRFormerSettings

    def group(self, number: int) -> ResidualGroup:
        """Build a group: layers, the convolution that closes them, and a skip."""
        settings = self.settings
        channels = settings.embed_dim
        layers = [
            SwinLayer(
                attention=PermutedAttention(
                    settings=settings,
                    num_heads=settings.num_heads[number],
                    shifted=settings.shifted and layer % 2 == 1,
                ),
                feed_forward=ConvFFN(channels=channels, hidden=settings.hidden),
                channels=channels,
                drop_path=rate,
            )
            for layer, rate in enumerate(settings.drop_path_rates(number))
        ]
        return ResidualGroup(Blocks(layers), channels=channels, closing=settings.residual_conv)


# ---- reading files and options


def settings_from_state(state: State) -> tuple[SRFormerSettings, int]:
    """Read settings and scale from the shapes of an SRFormer weight file.

    A file does not show image_range, mean, qk_scale and drop_path_rate. The masks among the published buffers show
    whether layers are shifted and by which code; without them the published code of today is assumed.
    """
    fields, scale = fields_from_state(state)
    first = "layers.0.residual_group.blocks.0.attn."
    window_size = math.isqrt(state[first + "relative_position_bias_table"].shape[0]) + 1
    settings = SRFormerSettings(
        **fields,
        window_size=window_size,
        qkv_bias=first + "q.bias" in state,
        position_size=position_size_of(state, window_size),
        shift_mask=not any(_masks_nothing(tensor) for key, tensor in state.items() if key.endswith(".attn_mask")),
    )
    return settings, scale


def _masks_nothing(mask: Tensor) -> bool:
    """Whether a mask hides all keys from a query, as the code from before July 2023 made them: softmax forgets it."""
    return mask.shape[-1] > 1 and bool((mask < 0).all(-1).any())


def placement(_: SRFormerSettings) -> Placement:
    """Place quantizers by the general rule; those at the network's ends judge errors by their spectra."""
    return Placement(shared_inputs={"attn.q": "attn.kv"}, frequency=NETWORK_ENDS)


def unseen_fields(settings: SRFormerSettings, state: State) -> tuple[str, ...]:
    """Name the fields that `settings_from_state` assumes."""
    masks = () if any(key.endswith(".attn_mask") for key in state) else ("shift_mask",)
    return (*swin.unseen_fields(settings, state), *masks)


def settings_from_options(options: Mapping[str, Any]) -> tuple[SRFormerSettings, int]:
    """Read settings and scale from the published constructor's arguments.

    Two effects of ``img_size``, rounded up to whole windows, remain: with one of a single window no layer is shifted,
    and with ``ape`` it is the only size that the network takes.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    fields = fields_from_options(options, more={"shift_mask": "shift_mask"})
    scale, img_size, ape = (fields.pop(name) for name in ("scale", "img_size", "ape"))
    if not isinstance(img_size, int):
        raise ValueError(f"SRFormer: img_size must be a whole number, got {img_size!r}")
    settings = SRFormerSettings(**fields)
    side = -(-img_size // settings.window_size) * settings.window_size
    changes = {"shifted": side > settings.window_size, "position_size": side if ape else None}
    return settings.model_copy(update=changes), scale


# ---- what the authors publish

_REPOSITORY = "https://github.com/HVision-NKU/SRFormer"

_LR = {2: (360, 640), 3: (240, 427), 4: (180, 320)}  # for results of 1280x720 pixels

_RULE = "multiply-adds, and 5 for each element of a LayerNorm"

_PRINTED = {("srformer-light", 2): 236, ("srformer-light", 3): 105, ("srformer-light", 4): 62.8}

_COSTS = {
    (variant, scale): Cost(
        num_parameters=parameters,
        multiply_adds=Count(multiply_adds, size=_LR[scale]),
        printed=(Count(_PRINTED[variant, scale], size=_LR[scale], rule=_RULE),) if (variant, scale) in _PRINTED else (),
    )
    for variant, scale, parameters, multiply_adds in (
        ("srformer", 2, 10_376_783, 2907.25),
        ("srformer", 3, 10_561_423, 1274.65),
        ("srformer", 4, 10_524_495, 809.46),
        ("srformer-w24", 2, 10_395_791, 2817.08),
        ("srformer-w24", 3, 10_580_431, 1272.04),
        ("srformer-w24", 4, 10_543_503, 818.43),
        ("srformer-light", 2, 853_272, 232.70),
        ("srformer-light", 3, 861_387, 103.28),
        ("srformer-light", 4, 872_748, 61.90),
    )
}

_LICENCE = "CC-BY-NC-4.0"

_PUBLISHED = [
    *(
        Published(
            variant=variant,
            scale=scale,
            training_data=data,
            scores=scores(row),
            file=f"{file}{scale}_{data_in_name}.pth",
            page=_REPOSITORY,
            licence=_LICENCE,
            remark=remark,
        )
        for variant, file, data, data_in_name, remark, rows in (
            (
                "srformer",
                "SRFormer_SRx",
                "DIV2K, Flickr2K",
                "DF2K",
                "probably trained, and measured, with shift_mask off",
                (
                    (2, "38.51/0.9627 34.44/0.9253 32.57/0.9046 34.09/0.9449 40.07/0.9802"),
                    (3, "35.02/0.9323 30.94/0.8540 29.48/0.8156 30.04/0.8865 35.26/0.9543"),
                    (4, "32.93/0.9041 29.08/0.7953 27.94/0.7502 27.68/0.8311 32.21/0.9271"),
                ),
            ),
            (
                "srformer-light",
                "SRFormerLight_SRx",
                "DIV2K",
                "DIV2K",
                "probably trained, and measured, with shift_mask off",
                (
                    (2, "38.23/0.9613 33.94/0.9209 32.36/0.9019 32.91/0.9353 39.28/0.9785"),
                    (3, "34.67/0.9296 30.57/0.8469 29.26/0.8099 28.81/0.8655 34.19/0.9489"),
                    (4, "32.51/0.8988 28.82/0.7872 27.73/0.7422 26.67/0.8032 31.17/0.9165"),
                ),
            ),
        )
        for scale, row in rows
    ),
    *(
        Published(
            variant="srformer-w24",
            scale=scale,
            training_data="DIV2K",
            scores=scores(row),
            file=None,
            licence=None,
            remark="whether the authors offer a file was not seen",
        )
        for scale, row in (
            (2, "38.45/0.9622 34.21/0.9236 32.51/0.9038 33.86/0.9426 39.69/0.9786"),
            (3, "34.94/0.9318 30.81/0.8518 29.41/0.8142 29.52/0.8786 34.78/0.9524"),
            (4, "32.81/0.9029 29.01/0.7919 27.85/0.7472 27.20/0.8189 31.75/0.9237"),
        )
    ),
    Published(
        variant="srformer-w24",
        scale=4,
        tag="gan",
        training_data="DIV2K, Flickr2K, OST",
        scores={},
        file="SRFormer_S_RealSR.pth",
        page=_REPOSITORY,
        licence=_LICENCE,
        remark="for photographs; trained by Real-ESRGAN's recipe, according to the authors",
    ),
]

_COMMON: Mapping[str, Any] = {"lr": 2e-4, "milestones": HALVED, "iterations": 500_000, "seed": 0}

_RECIPES = {
    (variant, scale): [Recipe(variant=variant, data=data, patch=patch, batch=batch, remark=remark, **_COMMON)]
    for variant, data, patch, batch, remark in (
        (
            "srformer",
            "DF2K",
            64,
            32,
            "no option file of it is published; here that of DIV2K, in patches of 64",
        ),
        ("srformer-w24", "DIV2K", 48, 32, ""),
        ("srformer-light", "DIV2K", 64, 64, ""),
    )
    for scale in (2, 3, 4)
}

_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "srformer": {},
    "srformer-w24": {"window_size": 24},
    "srformer-light": {
        "embed_dim": 60,
        "depths": (6,) * 4,
        "num_heads": (6,) * 4,
        "window_size": 16,
        "upsampler": "pixelshuffledirect",
    },
}


def _tiny(fields: Mapping[str, Any], window_size: int) -> SRFormerSettings:
    small = {"embed_dim": 12, "depths": (2, 1), "num_heads": (3, 2), "drop_path_rate": 0}
    return SRFormerSettings(**{**fields, **small, "window_size": window_size})


FAMILY = Family(
    name="srformer",
    about=About(
        title="SRFormer",
        idea=(
            "SwinIR with large windows at less cost: keys and values have a quarter of the channels, and four pixels "
            "are folded into one key of all channels."
        ),
        remarks=(
            "The code masked nothing in shifted windows until 25 July 2023, after the networks for super-resolution "
            "were published; files with masks from before show it, and are then read with shift_mask off.",
            "The authors' table of sizes mixes windows of 24 (10.40M parameters, 2741 G at x2) and of 22 (10.52M, "
            "697 G at x4); no known rule of counting gives these multiply-adds.",
            "SRFormerV2, in the same repository, is another network, whose files are not read.",
        ),
    ),
    network=SRFormer,
    variants={name: SRFormerSettings(**fields) for name, fields in _VARIANTS.items()},
    tiny={name: _tiny(_VARIANTS[name], side) for name, side in zip(_VARIANTS, (6, 8, 4), strict=True)},
    publication=Publication(
        paper=Paper(
            title="SRFormer: Permuted Self-Attention for Single Image Super-Resolution",
            authors="Y. Zhou, Z. Li, C.-L. Guo, S. Bai, M.-M. Cheng, Q. Hou",
            venue="ICCV 2023, 12780-12791",
            url="https://arxiv.org/abs/2303.09735",
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
        networks=_PUBLISHED,
        counting={_RULE: count_as_fvcore},
    ),
    files=WeightFiles(
        marks=(
            "layers.0.residual_group.blocks.0.attn.kv.weight",
            "layers.0.residual_group.blocks.0.attn.q.weight",
            "layers.0.residual_group.blocks.0.mlp.dwconv.depthwise_conv.0.weight",
        ),
        foreign=(".attn.qkv.weight",),  # SRFormerV2
        derivable=(".attn.aligned_relative_position_index", ".attn_mask"),
        from_state=settings_from_state,
        unseen=unseen_fields,
        unseen_help={
            **UNSEEN,
            **UNSEEN_HELP,
            "shift_mask": "on, as in the published code since July 2023, in a file without the published buffers",
        },
        buffers=published_buffers,
        masks=partial(published_masks, extends=True),
        varying={"shift_mask": "its masks hide nothing, as those from before July 2023: shift_mask = False"},
    ),
    options=PublishedOptions(classes=("SRFormer",), read=settings_from_options),
    quantization=Quantization(placement=placement),
    recipes=_RECIPES,
)
