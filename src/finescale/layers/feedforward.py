"""Feed-forward layers of transformer blocks, on maps (N, H, W, C)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from finescale.layers.convolution import convolve
from finescale.layers.linear import Linear


class MLP(nn.Module):
    """Multilayer perceptron: two linear layers with an exact GELU between them.

    Args:
        channels: C of the map.
        hidden: Channels between the two layers.
    """

    def __init__(self, *, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = Linear(channels, hidden)
        self.fc2 = Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return self.fc2(F.gelu(self.fc1(x)))  # type: ignore[no-any-return]


class DepthwiseConv(nn.Module):
    """Depthwise convolution with zero padding, followed by GELU."""

    def __init__(self, *, channels: int, kernel_size: int) -> None:
        super().__init__()
        conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.depthwise_conv = nn.Sequential(conv, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        return convolve(self.depthwise_conv, x)


class ConvFFN(nn.Module):
    """MLP that adds the neighbourhood to its hidden map: z + GELU(depthwise(z)).

    Args:
        channels: C of the map.
        hidden: Channels between the two linear layers.
        kernel_size: Side of the depthwise window, odd.
    """

    def __init__(self, *, channels: int, hidden: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.fc1 = Linear(channels, hidden)
        self.dwconv = DepthwiseConv(channels=hidden, kernel_size=kernel_size)
        self.fc2 = Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = F.gelu(self.fc1(x))
        return self.fc2(x + self.dwconv(x))  # type: ignore[no-any-return]
