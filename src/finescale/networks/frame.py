"""Frame of the networks of all families: mean shift, first convolution, long skip, reconstruction.

Letters: N batch, C channels, H W size of the lr image, s scale.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from torch import Tensor, nn
from typing_extensions import Self

from finescale.layers.convolution import ResidualConv, residual_conv
from finescale.layers.explicit_attention import Tap
from finescale.layers.precision import without_autocast
from finescale.layers.upsampling import SCALES as HEAD_SCALES
from finescale.layers.upsampling import Upsampler, check_head, upsampling_head
from finescale.layers.windows import Size
from finescale.resize import MAX_SCALE
from finescale.settings import Settings

SCALES = (2, 3, 4)
"""The scales at which every variant is published, or meant to be; networks of the same sizes exist at others."""


def check_scale(scale: int) -> None:
    """Refuse a scale that no network can have; heads narrow the choice, see `FrameSettings.scales`.

    Raises:
        ValueError: There is no such scale.
    """
    if type(scale) is not int or not 1 <= scale <= MAX_SCALE:
        raise ValueError(f"scale must be a whole number from 1 to {MAX_SCALE}, got {scale!r}")


DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
"""Mean colour of the DIV2K training images, red, green, blue; a constant of the published networks."""


QKScale = Annotated[float | None, AfterValidator(lambda value: value or None)]
"""Factor of attention scores; None, and 0 as in the published networks, are d^-1/2, d the channels of a head."""


AnyUpsampler = Annotated[Upsampler, BeforeValidator(lambda value: value or "restoration")]
"""Kind of a reconstruction head."""


class FrameSettings(Settings):
    """Settings that every network has."""

    in_channels: int = Field(3, ge=1)
    """Channels of the image: 3 for RGB, 1 for grey; any other number is for images given as tensors to the network."""
    embed_dim: int = Field(60, ge=1)
    """Channels of the features."""
    image_range: float = Field(1.0, gt=0)
    """Factor on the image before the first convolution, undone after the last; 1 is neutral."""
    mean: tuple[float, ...] = DIV2K_MEAN
    """Colour taken off the image before the first convolution and added after the last, one value per channel of RGB.

    Images that are not RGB are not shifted. Some community networks were trained with 0.5 for each channel.
    """
    upsampler: AnyUpsampler = "pixelshuffledirect"
    """Reconstruction head, see `finescale.layers.upsampling`; published options call "restoration" '' or null."""
    residual_conv: ResidualConv = "1conv"
    """Convolution that closes each group and the body: one 3x3, three through a quarter of the channels, or none."""

    @property
    def scales(self) -> Sequence[int]:
        """Scales at which the network exists; with the upsampler "nearest+conv" most families offer x4 alone."""
        return (4,) if self.upsampler == "nearest+conv" else HEAD_SCALES[self.upsampler]

    def check_scale(self, scale: int) -> None:
        """Refuse a scale at which the network does not exist.

        Raises:
            ValueError: It is none of `scales`.
        """
        check_head(self.upsampler, scale, offered=self.scales)

    @model_validator(mode="after")
    def _check_mean(self) -> Self:
        if len(self.mean) != 3:
            raise ValueError(f"mean has one value for red, green and blue, got {len(self.mean)} values")
        return self


def check_groups(depths: Sequence[int], num_heads: Sequence[int]) -> None:
    """Refuse settings whose depths and numbers of heads are not those of the same groups.

    Raises:
        ValueError: There is no group, an empty one, or one without a number of heads.
    """
    if len(depths) != len(num_heads) or not depths or min(depths) < 1:
        raise ValueError(f"depths and num_heads need one number per group, got {depths} and {num_heads}")


class Frame(nn.Module, ABC):
    """Frame of every network: image in, image ``scale`` times larger out. A family implements `body`.

    Args:
        settings: Settings of the family's network.
        scale: Factor of the size, one at which the upsampler exists.

    Raises:
        ValueError: The upsampler does not exist at this scale.
    """

    closing_conv: ClassVar[type[nn.Conv2d]] = nn.Conv2d
    """Class of the convolutions that close the body."""

    first: ClassVar[str] = "conv_first"
    """Published name of the first convolution, see `build_first`."""

    settings: FrameSettings
    """Settings that the network was built with; a family declares its own type."""

    layers: nn.Sequential
    """Groups of the body, under the published name that most families have for them, see `groups`."""

    quantization: Settings | None = None
    """How the network was quantized, see `finescale.quantize`; None for a float network."""

    mean: Tensor

    def __init__(self, *, settings: FrameSettings, scale: int) -> None:
        super().__init__()
        settings.check_scale(scale)
        self.settings = settings
        self.quantization = None
        self.scale = scale
        self.in_channels = settings.in_channels
        self.image_range = settings.image_range
        mean = settings.mean if settings.in_channels == 3 else (0.0,) * settings.in_channels
        self.register_buffer("mean", torch.tensor(mean).reshape(1, -1, 1, 1), persistent=False)
        self.add_module(self.first, self.build_first())
        self.conv_after_body = residual_conv(settings.residual_conv, settings.embed_dim, conv=self.closing_conv)
        head = self.build_head()
        self.head = tuple(head)
        for name, step in head.items():
            self.add_module(name, step)
        self.result = Tap()

    def build_first(self) -> nn.Module:
        """Build the first convolution: images (N, in_channels, H, W) to features (N, embed_dim, H, W)."""
        return nn.Conv2d(self.in_channels, self.settings.embed_dim, 3, padding=1)

    def build_head(self) -> Mapping[str, nn.Module]:
        """Build the steps of the reconstruction, in their order, under their published names."""
        settings = self.settings
        return upsampling_head(
            settings.upsampler, channels=settings.embed_dim, out_channels=settings.in_channels, scale=self.scale
        )

    @property
    def groups(self) -> list[nn.Module]:
        """The parts of the body that follow each other; a training can recompute each by itself."""
        return list(self.layers)

    @property
    def period(self) -> int:
        """Lr pixels after which the network's windows repeat; 1 where it has none.

        A tile that begins at a multiple of it is cut into the same windows as the whole image.
        """
        return 1

    def pad(self, image: Tensor) -> Tensor:
        """Extend the image at the bottom and on the right to a size that the body accepts; the result is cropped."""
        return image

    def mirrored_size(self, size: Size) -> Size:
        """Return the size to which a whole image should be extended before it is upscaled, by its mirror.

        `finescale.layers.mirror_padding.pad_to_size` extends it as the authors' test code does. Networks whose own
        `pad` does as well return ``size``.
        """
        return size

    def normalise(self, image: Tensor) -> Tensor:
        """Map an image to the values that the network was trained with."""
        return (image - self.mean) * self.image_range

    def denormalise(self, sr: Tensor) -> Tensor:
        """Undo `normalise`, for an image of any size."""
        return sr / self.image_range + self.mean

    @abstractmethod
    def body(self, features: Tensor) -> Tensor:
        """Compute the deep part: features (N, embed_dim, H, W) to the same shape."""

    def forward(self, image: Tensor) -> Tensor:
        """Upscale images.

        Args:
            image: (N, in_channels, H, W), RGB or gray in [0, 1], of any size from 1x1 up.

        Returns:
            (N, in_channels, s * H, s * W), not clamped.
        """
        height, width = image.shape[-2:]
        image = self.pad(image).contiguous(memory_format=torch.channels_last)
        image = self.normalise(image)
        # The first and the last convolution run without autocast: they are cheap, and most of bf16's loss arises there.
        with without_autocast(image.device):
            shallow = getattr(self, self.first)(image)
        features = (self.conv_after_body(self.body(shallow)) + shallow).to(shallow.dtype)
        *steps, last = (getattr(self, step) for step in self.head)
        for step in steps:
            features = step(features)
        with without_autocast(image.device):
            features = last(features.to(image.dtype))
        # A half would keep few digits of a small difference to a large image.
        features = self.result(features).to(torch.promote_types(image.dtype, torch.float32))
        if self.settings.upsampler == "restoration":
            features = features + image
        sr = self.denormalise(features).to(image.dtype)
        return sr[..., : self.scale * height, : self.scale * width]
