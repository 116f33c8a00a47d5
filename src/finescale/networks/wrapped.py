"""Wrapper by which any module is used where finescale takes a network of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from finescale.layers.mirror_padding import pad_to_size
from finescale.layers.windows import Size
from finescale.networks.frame import Frame, check_scale

PROBE = 32
"""Least side of the image by which the scale of a module is checked."""


class WrappedNetwork(nn.Module):
    """Any module as a network: image in, image ``scale`` times as large out.

    Args:
        model: Maps (N, channels, H, W) to (N, channels, scale * H, scale * W), RGB or gray in [0, 1]. It is not copied.
        scale: How many times it enlarges.
        channels: Of its images.
        multiple: Number that must divide the sides of its images. Others are extended at the bottom and on the right by
            their mirror, and the result is cropped; tiles begin at its multiples.

    Raises:
        ValueError: A number is out of range.
    """

    one_by_one: bool = False
    """Whether `forward` calls the module once for each image of a batch."""

    traced: object = None
    """What quantization has found in the module, a `finescale.quantize.Trace`; None for a float network."""

    def __init__(self, model: nn.Module, *, scale: int, channels: int = 3, multiple: int = 1) -> None:
        super().__init__()
        check_scale(scale)
        for name, number in (("channels", channels), ("multiple", multiple)):
            if number < 1:
                raise ValueError(f"{name} must be at least 1, got {number}")
        self.model = model
        self.scale = scale
        self.in_channels = channels
        self.period = multiple

    @property
    def name(self) -> str:
        """Name for users."""
        return type(self.model).__name__

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions that may be asked for, "float32" first."""
        return ("float32", "bf16", "fp16")

    @property
    def notes(self) -> Sequence[str]:
        """What a user should know of it, one sentence each."""
        return ()

    @property
    def quantization(self) -> object:
        """How the module was quantized, as `Frame.quantization`."""
        return getattr(self.model, "quantization", None)

    @quantization.setter
    def quantization(self, settings: object) -> None:
        self.model.quantization = settings  # type: ignore[assignment]

    @property
    def num_parameters(self) -> int:
        """Number of learned values."""
        return sum(parameter.numel() for parameter in self.parameters())

    def allow_batches(self) -> None:
        """Let the images of a batch pass together from now on, where `one_by_one` keeps them apart without need."""

    def mirrored_size(self, size: Size) -> Size:
        """Return the size itself: `forward` extends images where needed."""
        return size

    def forward(self, image: Tensor) -> Tensor:
        """Upscale images.

        Args:
            image: (N, channels, H, W) in [0, 1], of any size from 1x1 up.

        Returns:
            (N, channels, scale * H, scale * W).
        """
        height, width = image.shape[-2:]
        whole = (math.ceil(height / self.period) * self.period, math.ceil(width / self.period) * self.period)
        sr: Tensor = self.model(pad_to_size(image, whole))
        return sr[..., : self.scale * height, : self.scale * width]


def as_network(
    module: nn.Module, *, scale: int | None = None, channels: int | None = None, multiple: int | None = None
) -> Frame | WrappedNetwork:
    """Return a network as it is, and any other module wrapped, after a check of its scale.

    A network is one of finescale's, or a module with the attributes ``scale``, ``in_channels``, ``period`` and
    ``mirrored_size`` of a `Frame`.

    Args:
        module: The network; a wrapped one is set to evaluation mode.
        scale: How many times it enlarges; required for a module that is to be wrapped, else its own.
        channels: Of its images, 3 by default; else its own.
        multiple: As for `WrappedNetwork`, 1 by default; else its own.

    Raises:
        ValueError: The scale is missing, an argument is not the network's own, or the module does not map images of
            these channels to images ``scale`` times as large.
    """
    if all(hasattr(module, fact) for fact in _FACTS):
        network: Any = module
        facts = (("scale", scale, network.scale), ("channels", channels, network.in_channels))
        for name, given, own in (*facts, ("multiple", multiple, network.period)):
            if given not in (None, own):
                raise ValueError(f"{name} must be {own}, the network's own, got {given}")
        return cast(Frame | WrappedNetwork, module)
    name = type(module).__name__
    if scale is None:
        raise ValueError(f"scale must be given for {name}, which is no network of finescale's")
    wrapped = WrappedNetwork(module, scale=scale, channels=channels or 3, multiple=multiple or 1).eval()
    _check_scale(wrapped, name)
    return wrapped


_FACTS = ("scale", "in_channels", "period", "mirrored_size")
"""What a module states that is used as it is."""


@torch.no_grad()
def _check_scale(network: WrappedNetwork, name: str) -> None:
    """Refuse a module that does not enlarge images as stated."""
    side = math.ceil(PROBE / network.period) * network.period
    tensor = next((tensor for tensor in network.parameters() if tensor.is_floating_point()), torch.empty(0))
    image = torch.full((1, network.in_channels, side, side), 0.5, device=tensor.device, dtype=tensor.dtype)
    try:
        answer = network.model(image)
    except (RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"{name} must take images {tuple(image.shape)}, but fails ({str(error).splitlines()[0]}); "
            "channels and multiple state what it takes"
        ) from None
    expected = (1, network.in_channels, network.scale * side, network.scale * side)
    if not isinstance(answer, Tensor) or answer.shape != expected:
        found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(f"{name} must map images {tuple(image.shape)} to {expected} at x{network.scale}, gave {found}")
