"""Form of a network that other runtimes compute fastest: constants, and linear layers for 1x1 convolutions."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from finescale.layers.parameter_cache import ParameterCache
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


class _Constant(nn.Module):
    """Replacement of a `ParameterCache` whose tensor is known."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.register_buffer("value", value)

    def forward(self, _compute: Callable[[], Tensor]) -> Tensor:
        """Return the tensor."""
        return self.get_buffer("value")


def exportable(network: NetworkT, image: Tensor) -> NetworkT:
    """Copy a network for export; for images of one size the copy computes the same.

    Exported as it is, a network would compute its cached tensors with every image. Most of its convolutions are of maps
    (N, H, W, C) that are permuted to images: PyTorch computes them in place, other runtimes copy the map before and
    after. Where a convolution is 1x1, a linear layer does the same.

    Args:
        network: The network, in evaluation mode.
        image: Images (N, C, H, W) of the size that the copy is for.
    """
    constants: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _input, value, name=name: constants.update({name: value}))
        for name, module in network.named_modules()
        if isinstance(module, ParameterCache)
    ]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    copied = copy.deepcopy(network)
    for name, value in constants.items():
        copied.set_submodule(name, _Constant(value))
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
