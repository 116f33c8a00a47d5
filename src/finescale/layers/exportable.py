"""Form of a network that other runtimes compute fastest: linear layers in place of 1x1 convolutions."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import Tensor, nn

from finescale.layers.precision import SafeConv2d

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class ChannelsFirst(nn.Module):
    """Linear layer over the channels of images (N, C, H, W)."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, image: Tensor) -> Tensor:
        """Image (N, in_features, H, W) to (N, out_features, H, W)."""
        return self.linear(image.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def exportable(network: NetworkT) -> NetworkT:
    """Copy a network for export; the copy computes the same.

    Most of its convolutions are of maps (N, H, W, C) that are permuted to images: PyTorch computes them in place, other
    runtimes copy the map before and after. Where a convolution is 1x1, a linear layer does the same.

    Args:
        network: The network, in evaluation mode.
    """
    copied = copy.deepcopy(network)
    for name, module in list(copied.named_modules()):
        if type(module) in (nn.Conv2d, SafeConv2d) and is_pointwise(module):
            copied.set_submodule(name, ChannelsFirst(as_linear(module)))
    return copied


def is_pointwise(conv: nn.Conv2d) -> bool:
    """Whether a convolution reads one pixel at a time."""
    return (conv.kernel_size, conv.stride, conv.padding, conv.groups) == ((1, 1), (1, 1), (0, 0), 1)


def as_linear(conv: nn.Conv2d) -> nn.Linear:
    """Convert a 1x1 convolution to a linear layer with the same weights."""
    linear = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
    linear.weight = nn.Parameter(conv.weight.detach().flatten(1), requires_grad=False)
    linear.bias = conv.bias  # type: ignore[assignment]
    return linear
