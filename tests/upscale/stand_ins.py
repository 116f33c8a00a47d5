"""Small networks that behave as the real ones do, as far as upscaling is concerned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StandIn(nn.Module):
    """What an upscaler asks of a network."""

    scale: int
    in_channels: int
    period: int

    def mirrored_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size


class Convolutional(StandIn):
    """Three seeded 3x3 convolutions: seen from a result, 3 lr pixels in each direction matter."""

    reach = 3

    def __init__(self, *, scale: int = 2, in_channels: int = 3, width: int = 8) -> None:
        super().__init__()
        self.scale, self.in_channels, self.period = scale, in_channels, 1
        torch.manual_seed(7)
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, in_channels * scale**2, 3, padding=1)

    def forward(self, lr: Tensor) -> Tensor:
        details = self.last(self.second(self.first(lr).relu()).relu())
        return F.interpolate(lr, scale_factor=self.scale) + 0.1 * F.pixel_shuffle(details, self.scale)


class Nearest(StandIn):
    """Repeats pixels, so that a result is known exactly."""

    def __init__(self, *, scale: int = 2, in_channels: int = 3) -> None:
        super().__init__()
        self.scale, self.in_channels, self.period = scale, in_channels, 1

    def forward(self, lr: Tensor) -> Tensor:
        return lr.repeat_interleave(self.scale, dim=2).repeat_interleave(self.scale, dim=3)


class Limited(Nearest):
    """Runs out of memory above a number of pixels, and remembers the sizes that it was asked for."""

    def __init__(self, *, pixels: int, error: Exception | None = None) -> None:
        super().__init__()
        self.pixels = pixels
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        self.asked: list[tuple[int, int]] = []

    def forward(self, lr: Tensor) -> Tensor:
        self.asked.append((lr.shape[2], lr.shape[3]))
        if lr.shape[2] * lr.shape[3] > self.pixels:
            raise self.error
        return super().forward(lr)


def natural(height: int, width: int, *, channels: int = 3) -> Tensor:
    """A smooth picture with a few edges, (channels, height, width) in [0, 1]: noise of falling amplitude, and bars."""
    generator = torch.Generator().manual_seed(height * 10007 + width)
    picture = torch.zeros(1, channels, height, width)
    for cells, amplitude in ((3, 0.5), (8, 0.25), (24, 0.12), (64, 0.06)):
        noise = torch.rand(1, channels, cells, cells, generator=generator) - 0.5
        picture += amplitude * F.interpolate(noise, size=(height, width), mode="bicubic", align_corners=False)
    bars = (torch.arange(width) // 23 + torch.arange(height)[:, None] // 31) % 2
    return (picture[0] + 0.5 + 0.15 * (bars - 0.5)).clamp(0, 1)
