"""SwinIR: image restoration with shifted windows (super-resolution, real-world pictures, denoising, JPEG artefacts).

J. Liang, J. Cao, G. Sun, K. Zhang, L. Van Gool, R. Timofte, "SwinIR: Image Restoration Using Swin Transformer", ICCV
Workshops (AIM) 2021.

Groups of layers that attend within small windows, which lie half a window further in each second layer; a convolution
and a skip close each group, and one head of four makes the image. HAT, DRCT, SRFormer and others descend from it.

Letters: N batch, H W size of the lr image in whole windows, C = embed_dim.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from finescale.layers.convolution import ResidualGroup
from finescale.layers.feedforward import MLP
from finescale.layers.upsampling import SCALES
from finescale.layers.window_attention import SwinLayer
from finescale.networks.counting import count_as_swinir
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
    unseen_fields,
    window_attention,
)


class SwinIRSettings(SwinSettings):
    """Sizes of a SwinIR network; the defaults are those of the classical one."""

    embed_dim: int = Field(180, ge=1)
    """Channels of the features."""
    upsampler: AnyUpsampler = "pixelshuffle"
    """Reconstruction head, see `finescale.layers.upsampling`."""
    residual_conv: Literal["1conv", "3conv"] = "1conv"
    """Convolution that closes each group and the body: one 3x3, or three through a quarter of the channels."""

    @property
    def scales(self) -> Sequence[int]:
        """Scales at which the network exists: all of its upsampler."""
        return SCALES[self.upsampler]

    @model_validator(mode="after")
    def _check_heads(self) -> Self:
        check_heads(self.embed_dim, self.num_heads)
        return self


class SwinIR(SwinFrame):
    """Every SwinIR network, by its settings."""

    layer: ClassVar[type[SwinLayer]] = SwinLayer
    """Class of the layers."""

    settings: SwinIRSettings

    def group(self, number: int) -> ResidualGroup:
        """Build a group: layers, the convolution that closes them, and a skip."""
        settings = self.settings
        channels = settings.embed_dim
        layers = [
            self.layer(
                attention=window_attention(
                    settings,
                    channels=channels,
                    num_heads=settings.num_heads[number],
                    shifted=settings.shifted and layer % 2 == 1,
                ),
                feed_forward=MLP(channels=channels, hidden=settings.hidden),
                channels=channels,
                drop_path=rate,
            )
            for layer, rate in enumerate(settings.drop_path_rates(number))
        ]
        return ResidualGroup(Blocks(layers), channels=channels, closing=settings.residual_conv)


# ---- reading files and options


def settings_from_state(state: State) -> tuple[SwinIRSettings, int]:
    """Read settings and scale from the shapes of a SwinIR weight file.

    A file does not show image_range (255 is assumed for restoration in windows of 7, as of JPEG files), mean, qk_scale
    and drop_path_rate. Only files with the published buffers show whether layers are shifted.
    """
    fields, scale = fields_from_state(state)
    first = "layers.0.residual_group.blocks.0.attn."
    window_size = (math.isqrt(state[first + "relative_position_bias_table"].shape[0]) + 1) // 2
    for_jpeg = fields["upsampler"] == "restoration" and window_size == 7
    settings = SwinIRSettings(
        **fields,
        window_size=window_size,
        image_range=255.0 if for_jpeg else 1.0,
        qkv_bias=first + "qkv.bias" in state,
        position_size=position_size_of(state, window_size),
    )
    return settings, scale


def placement(_: SwinIRSettings) -> Placement:
    """Place quantizers by the general rule; those at the network's ends judge errors by their spectra."""
    return Placement(frequency=NETWORK_ENDS)


def settings_from_options(options: Mapping[str, Any]) -> tuple[SwinIRSettings, int]:
    """Read settings and scale from the published constructor's arguments.

    Two effects of ``img_size`` remain: with one of ``window_size`` no layer is shifted, and with ``ape`` it is the only
    size that the network takes.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    fields = fields_from_options(options)
    scale, img_size, ape = (fields.pop(name) for name in ("scale", "img_size", "ape"))
    height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
    if min(height, width) < fields["window_size"]:
        # The published network then attends in windows of img_size, and extends images to multiples of window_size.
        raise ValueError(f"SwinIR: img_size must be at least window_size {fields['window_size']}, got {img_size!r}")
    fields["shifted"] = min(height, width) > fields["window_size"]
    if ape:
        fields["position_size"] = height if height == width else (height, width)
    return SwinIRSettings(**fields), scale


# ---- what the authors publish


_REPOSITORY = "https://github.com/JingyunLiang/SwinIR"

_OWN = "the network's own formulas, which leave out parts of its last layers"

_PRINTED = {
    # For 1024 pixels, not the stated 1280, and a window more on each axis.
    ("swinir-light", 2): (Count(195.6, size=(368, 520), rule=_OWN),),
    ("swinir-light", 3): (Count(87.2, size=(248, 344), rule=_OWN),),
    ("swinir-light", 4): (Count(49.6, size=(184, 264), rule=_OWN),),
}

_COSTS = {
    (variant, scale): Cost(
        num_parameters=parameters,
        multiply_adds=Count(multiply_adds, size=size),
        printed=_PRINTED.get((variant, scale), ()),
    )
    for variant, scale, parameters, multiply_adds, size in (
        ("swinir", 2, 11_752_487, 2871.88, (360, 640)),
        ("swinir", 3, 11_937_127, 1312.35, (240, 427)),
        ("swinir", 4, 11_900_199, 769.87, (180, 320)),
        ("swinir", 8, 12_047_911, 238.35, (90, 160)),
        ("swinir-light", 2, 910_152, 240.91, (360, 640)),
        ("swinir-light", 3, 918_267, 109.25, (240, 427)),
        ("swinir-light", 4, 929_628, 62.71, (180, 320)),
        ("swinir-real-m", 2, 11_678_631, 826.55, (256, 256)),
        ("swinir-real-m", 4, 11_715_559, 895.56, (256, 256)),
        ("swinir-real-l", 4, 28_013_059, 2009.96, (256, 256)),
        ("swinir-gray-dn", 1, 11_497_681, 799.87, (256, 256)),
        ("swinir-color-dn", 1, 11_504_163, 800.30, (256, 256)),
        ("swinir-gray-car", 1, 11_485_585, 805.69, (256, 256)),
        ("swinir-color-car", 1, 11_492_067, 806.12, (256, 256)),
    )
}

_DF2K = "DIV2K, Flickr2K"
_DFO = f"{_DF2K}, OST"
_DFWB = f"{_DF2K}, WED, BSD500"


def _published(variant: str, scale: int, file: str, data: str, *, row: str = "", **more: str) -> Published:
    return Published(
        variant=variant,
        scale=scale,
        training_data=data,
        scores=scores(row) if row else {},
        file=f"{file}.pth",
        page=f"{_REPOSITORY}/releases/tag/v0.0",
        licence="Apache-2.0",
        **more,
    )


_CLASSICAL = (
    (
        2,
        "38.35/0.9620 34.14/0.9227 32.44/0.9030 33.40/0.9393 39.60/0.9792",
        "38.42/0.9623 34.46/0.9250 32.53/0.9041 33.81/0.9427 39.92/0.9797",
    ),
    (
        3,
        "34.89/0.9312 30.77/0.8503 29.37/0.8124 29.29/0.8744 34.74/0.9518",
        "34.97/0.9318 30.93/0.8534 29.46/0.8145 29.75/0.8826 35.12/0.9537",
    ),
    (
        4,
        "32.72/0.9021 28.94/0.7914 27.83/0.7459 27.07/0.8164 31.67/0.9226",
        "32.92/0.9044 29.09/0.7950 27.92/0.7489 27.45/0.8254 32.03/0.9260",
    ),
    (8, "", ""),
)
"""Scale, results after training on DIV2K and on DF2K."""

_LIGHTWEIGHT = (
    (2, "38.14/0.9611 33.86/0.9206 32.31/0.9012 32.76/0.9340 39.12/0.9783"),
    (3, "34.62/0.9289 30.54/0.8463 29.20/0.8082 28.66/0.8624 33.98/0.9478"),
    (4, "32.44/0.8976 28.77/0.7858 27.69/0.7406 26.47/0.7980 30.92/0.9151"),
)

_RESTORATION = (
    (
        "swinir-gray-dn",
        "004_grayDN_DFWB_s128w8_SwinIR-M_noise",
        "for noise of standard deviation {} of 255; PSNR on gray: Set12 {} dB, BSD68 {} dB, Urban100 {} dB",
        {
            "15": "33.36 31.97 33.70",
            "25": "31.01 29.50 31.30",
            "50": "27.91 26.58 27.98",
        },
    ),
    (
        "swinir-color-dn",
        "005_colorDN_DFWB_s128w8_SwinIR-M_noise",
        "for noise of standard deviation {} of 255; PSNR on RGB: CBSD68 {} dB, Kodak24 {} dB, McMaster {} dB, "
        "Urban100 {} dB",
        {
            "15": "34.42 35.34 35.61 35.13",
            "25": "31.78 32.89 33.20 32.90",
            "50": "28.56 29.79 30.22 29.82",
        },
    ),
    (
        "swinir-gray-car",
        "006_CAR_DFWB_s126w7_SwinIR-M_jpeg",
        "for JPEG of quality {}; PSNR / SSIM / PSNR-B on gray: Classic5 {}, LIVE1 {}",
        {
            "10": "30.27/0.8249/29.95 29.86/0.8287/29.50",
            "20": "32.52/0.8748/31.99 32.25/0.8909/31.70",
            "30": "33.73/0.8961/33.03 33.69/0.9174/33.01",
            "40": "34.52/0.9082/33.66 34.67/0.9317/33.88",
        },
    ),
    (
        "swinir-color-car",
        "006_colorCAR_DFWB_s126w7_SwinIR-M_jpeg",
        "for JPEG of quality {}; PSNR / SSIM / PSNR-B on RGB: LIVE1 {}",
        {
            "10": "28.06/0.8089/27.76",
            "20": "30.45/0.8741/29.97",
            "30": "31.82/0.9018/31.24",
            "40": "32.75/0.9174/32.12",
        },
    ),
)

_PUBLISHED = [
    *(
        _published("swinir", scale, f"001_classicalSR_DIV2K_s48w8_SwinIR-M_x{scale}", "DIV2K", row=row)
        for scale, row, _ in _CLASSICAL
    ),
    *(
        _published("swinir", scale, f"001_classicalSR_DF2K_s64w8_SwinIR-M_x{scale}", _DF2K, row=row, tag="df2k")
        for scale, _, row in _CLASSICAL
    ),
    *(
        _published("swinir-light", scale, f"002_lightweightSR_DIV2K_s64w8_SwinIR-S_x{scale}", "DIV2K", row=row)
        for scale, row in _LIGHTWEIGHT
    ),
    *(
        _published("swinir-real-m", scale, f"003_realSR_BSRGAN_DFO_s64w8_SwinIR-M_x{scale}_GAN", _DFO, tag="gan")
        for scale in (2, 4)
    ),
    _published(
        "swinir-real-l",
        4,
        "003_realSR_BSRGAN_DFOWMFC_s64w8_SwinIR-L_x4_GAN",
        f"{_DFO}, WED, Manga109, FFHQ, SCUT-CTW1500",
        tag="gan",
        remark="of FFHQ and SCUT-CTW1500, 2000 and 100 pictures",
    ),
    *(
        _published(variant, 1, f"{file}{tag}", _DFWB, tag=tag, remark=words.format(tag, *results.split()))
        for variant, file, words, rows in _RESTORATION
        for tag, results in rows.items()
    ),
]

_UNSTATED = "seed and betas are not stated; here 0 and those of PyTorch"

_COMMON: Mapping[str, Any] = {"betas": (0.9, 0.999), "average": 0.999, "seed": 0, "remark": _UNSTATED}

_FROM_SCRATCH: Mapping[str, Any] = {"lr": 2e-4, "milestones": HALVED, "iterations": 500_000, **_COMMON}
_FINE_TUNED: Mapping[str, Any] = {
    "lr": 1e-4,
    "milestones": (125_000, 200_000, 225_000, 237_500),
    "iterations": 250_000,
    **_COMMON,
}
_REAL: Mapping[str, Any] = {
    "batch": 32,
    "lr": 2e-4,
    "milestones": (500_000, 800_000, 900_000, 950_000),
    "iterations": 1_000_000,
    **_COMMON,
    "remark": "the first of two stages, on sharpened pictures degraded as by BSRGAN; the second has a discriminator",
}
_LONG: Mapping[str, Any] = {
    "data": _DFWB,
    "batch": 8,
    "loss": {"charbonnier": 1.0},
    "lr": 2e-4,
    "milestones": (800_000, 1_200_000, 1_400_000, 1_500_000),
    "iterations": 1_600_000,
    **_COMMON,
}
_LONG_FINE_TUNED: Mapping[str, Any] = {
    **_LONG,
    "lr": 1e-4,
    "milestones": (400_000, 600_000, 700_000, 750_000),
    "iterations": 800_000,
}


def _super_resolution(name: str, variant: str, scale: int, **sizes: Any) -> Recipe:
    """x2 from random weights, and every other scale from x2 in half the time."""
    if scale == 2:
        return Recipe(variant=variant, **sizes, **_FROM_SCRATCH)
    return Recipe(variant=variant, start=(name, 2), **sizes, **_FINE_TUNED)


def _restoration(variant: str, tag: str) -> Recipe:
    """The first level of noise or quality from random weights, and every other one from it in half the time."""
    first, patch = ("15", 128) if "dn" in variant else ("40", 126)
    if tag == first:
        return Recipe(variant=variant, patch=patch, **_LONG)
    return Recipe(variant=variant, patch=patch, start=(f"{variant}-{first}", 1), **_LONG_FINE_TUNED)


_RECIPES = {
    **{
        (name, scale): [_super_resolution(name, "swinir", scale, data=data, patch=patch, batch=32)]
        for name, data, patch in (("swinir", "DIV2K", 48), ("swinir-df2k", "DF2K", 64))
        for scale in (2, 3, 4, 8)
    },
    **{
        ("swinir-light", scale): [
            _super_resolution("swinir-light", "swinir-light", scale, data="DIV2K", patch=64, batch=64)
        ]
        for scale in (2, 3, 4)
    },
    **{("swinir-real-m", scale): [Recipe(variant="swinir-real-m", data=_DFO, **_REAL)] for scale in (2, 4)},
    ("swinir-real-l", 4): [Recipe(variant="swinir-real-l", data=f"{_DFO}, WED, Manga109, FFHQ, SCUT-CTW1500", **_REAL)],
    **{(f"{variant}-{tag}", 1): [_restoration(variant, tag)] for variant, _, _, rows in _RESTORATION for tag in rows},
}

_LARGE: Mapping[str, Any] = {"embed_dim": 240, "depths": (6,) * 9, "num_heads": (8,) * 9, "residual_conv": "3conv"}
_SMALL: Mapping[str, Any] = {"embed_dim": 60, "depths": (6,) * 4, "num_heads": (6,) * 4}
_JPEG: Mapping[str, Any] = {"window_size": 7, "image_range": 255.0}

_VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "swinir": {},
    "swinir-light": {"upsampler": "pixelshuffledirect", **_SMALL},
    "swinir-real-m": {"upsampler": "nearest+conv"},
    "swinir-real-l": {"upsampler": "nearest+conv", **_LARGE},
    "swinir-gray-dn": {"upsampler": "restoration", "in_channels": 1},
    "swinir-color-dn": {"upsampler": "restoration"},
    "swinir-gray-car": {"upsampler": "restoration", "in_channels": 1, **_JPEG},
    "swinir-color-car": {"upsampler": "restoration", **_JPEG},
}


def _tiny(fields: Mapping[str, Any]) -> SwinIRSettings:
    small = {"embed_dim": 12, "depths": (2, 1), "num_heads": (3, 2), "drop_path_rate": 0}
    return SwinIRSettings(**{"window_size": 4, **fields, **small})


FAMILY = Family(
    name="swinir",
    about=About(
        title="SwinIR",
        idea=(
            "Groups of layers that attend within small windows, which lie half a window further in each second layer. "
            "HAT, DRCT, SRFormer and others descend from it."
        ),
        remarks=(
            "The paper prints 878K, 886K and 897K parameters for SwinIR-light, without its tables of position biases.",
            "The authors print 195.6, 87.2 and 49.6 G for a result of 1280x720; the sizes in brackets are those that "
            "give the numbers. For the classical network at x4 they print 788.6 G for 256x256, "
            "where their formulas give 788.1 G.",
            "Of the classical network at x8 the authors print no results.",
        ),
    ),
    network=SwinIR,
    variants={name: SwinIRSettings(**fields) for name, fields in _VARIANTS.items()},
    tiny={name: _tiny(fields) for name, fields in _VARIANTS.items()},
    publication=Publication(
        paper=Paper(
            title="SwinIR: Image Restoration Using Swin Transformer",
            authors="J. Liang, J. Cao, G. Sun, K. Zhang, L. Van Gool, R. Timofte",
            venue="ICCV Workshops (AIM) 2021",
            url="https://arxiv.org/abs/2108.10257",
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
        networks=_PUBLISHED,
        counting={_OWN: count_as_swinir},
        test_padding=lambda settings: settings.window_size,
    ),
    files=WeightFiles(
        marks=(
            "layers.0.residual_group.blocks.0.attn.qkv.weight",
            "layers.0.residual_group.blocks.0.attn.relative_position_bias_table",
            "layers.0.residual_group.blocks.0.mlp.fc1.weight",
        ),
        foreign=(
            ".conv_block.cab.0.weight",  # HAT
            ".overlap_attn.qkv.weight",
            ".mlp.dwconv.depthwise_conv.0.weight",  # SRFormer
            ".attn.kv.weight",
            ".attn.logit_scale",  # Swin2SR
            ".ngram_context.unigram_embed.weight",  # SwinIR-NG
        ),
        derivable=(".attn.relative_position_index", ".attn_mask"),
        from_state=settings_from_state,
        unseen=unseen_fields,
        unseen_help={
            **UNSEEN,
            "image_range": "255 for restoration in windows of 7, as of JPEG files, else 1",
            **UNSEEN_HELP,
        },
        buffers=published_buffers,
        masks=published_masks,
    ),
    options=PublishedOptions(classes=("SwinIR",), read=settings_from_options),
    quantization=Quantization(placement=placement),
    recipes=_RECIPES,
)
