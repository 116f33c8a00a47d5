"""Convolutions on maps that are kept channels-last, and residual groups that a convolution closes."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

ResidualConv = Literal["1conv", "3conv", "identity"]


def convolve(module: nn.Module, x: Tensor) -> Tensor:
    """Apply a module for images (N, C, H, W) to a map (N, H, W, C) without copying it.

    The permuted map is an image in channels-last memory order, which convolutions read and write as it is.
    """
    return module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # type: ignore[no-any-return]


def residual_conv(kind: ResidualConv, channels: int, *, conv: type[nn.Conv2d] = nn.Conv2d) -> nn.Module:
    """Build what closes a group: one 3x3 convolution, three through a quarter of the channels, or the identity."""
    if kind == "identity":
        return nn.Identity()
    if kind == "1conv":
        return conv(channels, channels, 3, padding=1)
    quarter = channels // 4
    return nn.Sequential(
        conv(channels, quarter, 3, padding=1),
        nn.LeakyReLU(0.2),
        conv(quarter, quarter, 1),
        nn.LeakyReLU(0.2),
        conv(quarter, channels, 3, padding=1),
    )


class ResidualGroup(nn.Module):
    """Residual group of blocks: the blocks, a convolution that closes them, and a skip over both.

    Args:
        blocks: Map (N, H, W, C) to the same shape.
        channels: C of the map.
        closing: Kind of the convolution.
    """

    def __init__(self, blocks: nn.Module, *, channels: int, closing: ResidualConv = "1conv") -> None:
        super().__init__()
        self.residual_group = blocks
        self.conv = residual_conv(closing, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return x + convolve(self.conv, self.residual_group(x))
