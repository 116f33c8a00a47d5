"""CIT: complementary interaction transformer, in OUR OWN READING of the paper.

Of "CIT: Complementary Interaction Transformer for Lightweight Super Resolution", neither the authors' network code nor
their weights are available. The abstract names the parts and the purpose of each; every formula, width and kernel size
in them is ours. The authors' numbers are not claimed, and their files are not expected to load.

The network is DAT-light with a stronger convolutional branch: HFAB, a high-frequency attention block, sharpens it; EIB,
an efficient integration block, reaches across windows after the two branches have met; GHFF, a gated high-frequency
feed-forward, gates with local contrast as well. Each of them initially adds zero: a fresh CIT with the weights of a
DAT-light computes what that DAT-light does.

Letters: as in `finescale.networks.dat`; r = C // 4, D hidden channels of the feed-forward.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from finescale.layers.convolution import convolve
from finescale.layers.position import OffsetMLP
from finescale.networks import dat
from finescale.networks.dat import (
    DAT,
    LONG,
    SHORT,
    UNSEEN_HELP,
    AdaptiveAttention,
    ChannelAttention,
    DATSettings,
    SpatialAttention,
    SpatialGate,
    fields_from_options,
    fields_from_state,
)
from finescale.networks.family import (
    About,
    Cost,
    Count,
    Family,
    Paper,
    Publication,
    PublishedOptions,
    Quantization,
    Recipe,
    WeightFiles,
)
from finescale.networks.placement import Placement
from finescale.networks.state import State


class CITSettings(DATSettings):
    """Sizes of a CIT network; the defaults are those of the one size there is."""

    embed_dim: int = Field(60, ge=32)
    """Channels of the features, an even number."""
    depths: tuple[int, ...] = (18,)
    """Blocks of each group; spatial and channel attention take turns, spatial first."""
    num_heads: tuple[int, ...] = (6,)
    """Heads of the channel attention, for each group; each half of a spatial attention has half as many."""
    expansion_factor: float = Field(2.0, gt=0)
    """Hidden channels of the feed-forward layer, as a multiple of embed_dim."""
    upsampler: Literal["pixelshuffle", "pixelshuffledirect"] = "pixelshuffledirect"
    """Reconstruction head, see `finescale.layers.upsampling`."""
    qk_scale: None = None
    """CIT has no other factor of the attention scores than d^-1/2."""
    residual_conv: Literal["1conv", "3conv"] = "3conv"
    """Convolution that closes each group and the body: one 3x3, or three through a quarter of the channels."""
    pos_dim: int = Field(8, ge=1)
    """Inner width of the networks that compute the position bias; at 1 there is none, as in DAT-light."""

    @property
    def bias_width(self) -> int:
        """Inner width of the networks that compute the position bias."""
        return self.pos_dim


def neighbourhood_mean(x: Tensor) -> Tensor:
    """Compute the mean of the 3x3 pixels around each that lie within the image: (N, K, H, W) to the same shape."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def neighbourhood_max(x: Tensor) -> Tensor:
    """Compute the maximum of the 3x3 pixels around each that lie within the image: (N, K, H, W) to the same shape."""
    return F.max_pool2d(x, 3, stride=1, padding=1)


class HFAB(nn.Module):
    """High-frequency attention block, which adds the difference from the neighbourhood, gated by itself.

    The input passes untouched, and with it the low frequencies that the gates of the interaction live on.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        narrow = channels // 4
        self.weight = nn.Parameter(torch.zeros(channels))
        self.squeeze = nn.Conv2d(channels, narrow, 1)
        self.conv = nn.Conv2d(narrow, narrow, 3, padding=1, groups=narrow)
        self.excite = nn.Conv2d(narrow, channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, C, H, W) to the same shape."""
        detail = image - neighbourhood_mean(image)
        z = F.leaky_relu(self.squeeze(detail), 0.1)  # (N, r, H, W)
        z = F.leaky_relu(z + self.conv(z), 0.1)
        return torch.addcmul(image, self.weight[:, None, None] * self.excite(z).sigmoid(), detail)


class EIB(nn.Module):
    """Efficient integration block, which adds the product of the features with their surroundings of 17x17 pixels.

    The product is the non-linearity: between the two depthwise convolutions there is none.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.dwd = nn.Conv2d(channels, channels, 5, padding=6, dilation=3, groups=channels)
        nn.init.zeros_(self.dwd.weight)
        nn.init.zeros_(self.dwd.get_parameter("bias"))

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, C, H, W) to the same shape."""
        features = F.gelu(image)
        return torch.addcmul(image, features, self.dwd(self.dw(features)))


class ContrastGate(SpatialGate):
    """Gate of GHFF: the gate of SGFN plus its local contrast, the neighbourhood's maximum minus its mean."""

    def __init__(self, *, channels: int) -> None:
        super().__init__(channels=channels)
        self.weight = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, D/2) to the same shape."""
        gate = super().forward(x).permute(0, 3, 1, 2)
        contrast = neighbourhood_max(gate) - neighbourhood_mean(gate)
        return torch.addcmul(gate, self.weight[:, None, None], contrast).permute(0, 2, 3, 1)


class ComplementaryInteraction(AdaptiveAttention):
    """Additions of CIT to both kinds of attention."""

    def __init__(self, *, channels: int, **sizes: Any) -> None:
        super().__init__(channels=channels, **sizes)
        self.hfab = HFAB(channels=channels)
        self.eib = EIB(channels=channels)

    def refine(self, convolved: Tensor) -> Tensor:
        """Sharpen the convolved values (N, H, W, C)."""
        return convolve(self.hfab, convolved)

    def integrate(self, mixed: Tensor) -> Tensor:
        """Integrate the sum of the branches (N, H, W, C) across windows."""
        return convolve(self.eib, mixed)


class ComplementarySpatialAttention(ComplementaryInteraction, SpatialAttention):
    """Spatial attention of CIT, in blocks with an even place in their group."""


class ComplementaryChannelAttention(ComplementaryInteraction, ChannelAttention):
    """Channel attention of CIT, in blocks with an odd place in their group."""


class CIT(DAT):
    """CIT by our own reading: DAT with the three additions, and with a position bias at any width."""

    spatial_attention = ComplementarySpatialAttention
    channel_attention = ComplementaryChannelAttention
    gate = ContrastGate

    settings: CITSettings

    def __init__(self, *, settings: CITSettings, scale: int) -> None:
        super().__init__(settings=settings, scale=scale)
        for module in self.modules():
            if isinstance(module, OffsetMLP):
                for parameter in module.pos3[-1].parameters():
                    nn.init.zeros_(parameter)


# ---- reading files and options


def settings_from_state(state: State) -> tuple[CITSettings, int]:
    """Read settings and scale from the shapes of a CIT weight file, which shows what a DAT file does and pos_dim."""
    fields, scale = fields_from_state(state)
    width = state["layers.0.blocks.0.attn.attns.0.pos.pos_proj.weight"].shape[0]
    return CITSettings(**fields, pos_dim=width), scale


def published_buffers(network: CIT) -> dict[str, Tensor]:
    """Compute the offsets of each window, by which alone a file shows the window."""
    return {key: tensor for key, tensor in dat.published_buffers(network).items() if key.endswith(".rpe_biases")}


def unseen_fields(settings: CITSettings, state: State) -> tuple[str, ...]:
    """Name the fields that `settings_from_state` assumes: DAT's, without the one that has a single value here."""
    return tuple(field for field in dat.unseen_fields(settings, state) if field != "qk_scale")


def placement(settings: CITSettings) -> Placement:
    """Place quantizers as for DAT; `HFAB` reads high frequencies."""
    of_dat = dat.placement(settings)
    return replace(of_dat, frequency=(*of_dat.frequency, "*.hfab.squeeze.input_quantizer"))


def settings_from_options(options: Mapping[str, Any]) -> tuple[CITSettings, int]:
    """Read settings and scale from constructor arguments, named as DAT's.

    Raises:
        ValueError: An argument is unknown, or has a value that is not offered.
    """
    fields, scale = fields_from_options({"upscale": 2, **options}, more={"pos_dim": "pos_dim"})
    return CITSettings(**fields), scale


# ---- costs and trainings, all by our own reading

_REPOSITORY = "https://github.com/Zhouhj0329/CIT"

_COSTS = {
    ("cit", scale): Cost(num_parameters=parameters, multiply_adds=Count(multiply_adds, size=size))
    for scale, parameters, multiply_adds, size in (  # for results of 1280x720 pixels
        (2, 652_092, 210.09, (360, 640)),
        (3, 660_207, 95.61, (240, 426)),
        (4, 671_568, 53.64, (180, 320)),
    )
}

_OURS = "ours, after DAT-light's; the authors' training is not known"

_RECIPES = {
    ("cit", 2): [Recipe(variant="cit", remark=_OURS, **LONG)],
    **{("cit", scale): [Recipe(variant="cit", start=("cit", 2), remark=_OURS, **LONG)] for scale in (3, 4)},
    ("cit-from-dat-light", 2): [
        Recipe(
            variant="cit", start=("dat-light", 2), average=0.999, remark="ours, shorter and with an average", **SHORT
        )
    ],
    **{
        ("cit-from-dat-light", scale): [
            Recipe(variant="cit", start=("cit-from-dat-light", 2), average=0.999, remark=_OURS, **LONG)
        ]
        for scale in (3, 4)
    },
}

FAMILY = Family(
    name="cit",
    about=About(
        title="CIT",
        idea=(
            "DAT-light with a stronger convolutional branch: one block sharpens it, one reaches across windows, and "
            "the feed-forward gates with local contrast as well."
        ),
        caution=(
            "This is our own reading of an abstract: neither the authors' network code nor their weights are "
            "available. No number of the authors is claimed, and their files are not expected to load. A training can "
            "start from a DAT-light file: a fresh CIT with its weights computes what that DAT-light does."
        ),
    ),
    network=CIT,
    variants={"cit": CITSettings()},
    tiny={
        "cit": CITSettings(embed_dim=32, depths=(3,), num_heads=(4,), window_size=(2, 4), pos_dim=4, drop_path_rate=0)
    },
    publication=Publication(
        paper=Paper(
            title="CIT: Complementary Interaction Transformer for Lightweight Super Resolution",
            authors=None,
            venue=None,
            url=_REPOSITORY,
        ),
        repository=_REPOSITORY,
        costs=_COSTS,
    ),
    files=WeightFiles(
        marks=(".attn.hfab.squeeze.weight", ".ffn.sg.weight"),
        derivable=(".rpe_biases",),
        buffers=published_buffers,
        from_state=settings_from_state,
        unseen=unseen_fields,
        unseen_help=UNSEEN_HELP,
    ),
    options=PublishedOptions(classes=("CIT",), read=settings_from_options),
    quantization=Quantization(placement=placement),
    recipes=_RECIPES,
    openvino_speed=1.7,
)
