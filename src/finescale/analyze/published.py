"""What the published networks take, where ours compute the same in other steps, and by which rules authors count.

Letters: K windows, L tokens of a window, M pooled tokens, n heads, C channels of the argument, H W size
of the lr image.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from finescale.layers.attention import SpatialCorrelation
from finescale.layers.windows import whole_windows
from finescale.metrics.cost import Beyond, Operations
from finescale.networks.craft import NormalizedChannelAttention
from finescale.networks.hit_sr import DualFeatureExtraction, NGramContext, SpatialChannelCorrelation, SpatialPooling
from finescale.networks.span import ELFEB

Arguments = tuple[Any, ...]


def _spatial_correlation(_: SpatialCorrelation, arguments: Arguments) -> int:
    """(Q Vᵀ + P) V takes 2 K L M C; ours Q (VᵀV), by dense C x C products, and P V: K C² (M + L) + K L M C."""
    query, value, _position = arguments
    (windows, tokens, channels), pooled = query.shape, value.shape[1]
    return int(windows * channels * (tokens * pooled - channels * (tokens + pooled)))


def _spatial_pooling(_: SpatialPooling, arguments: Arguments) -> int:
    """A linear layer over the tokens of each cell; ours goes element by element, which is not counted."""
    return int(arguments[0].numel())


def _dual_features(_: DualFeatureExtraction, arguments: Arguments) -> int:
    """Two convolutions of single pixels, before padding in ours."""
    x, size = arguments
    channels = x.shape[-1]
    return int(_padding(x, size) * channels * (channels // 5 + channels))


def _correlation(module: SpatialChannelCorrelation, arguments: Arguments) -> int:
    """The last linear layer, after cropping in ours."""
    x = arguments[0]
    return _padding(x, whole_windows((x.shape[1], x.shape[2]), module._multiple)) * int(x.shape[-1]) ** 2


def _context(_: NGramContext, arguments: Arguments) -> int:
    """Attention among four windows, forward and backward; ours for both at once, and projects only its mean."""
    windows, (rows, columns) = arguments
    maps, width = windows.shape[0] // (rows * columns), windows.shape[-1] // 2
    projected, attended = width**2, 2 * 4 * 4 * width
    theirs = 2 * rows * columns * (4 * 3 * projected + attended + 4 * projected)
    ours = (rows + 1) * (columns + 1) * (4 * 3 * projected + attended + projected)
    return int(maps * (theirs - ours))


def _padding(x: Any, size: tuple[int, int]) -> int:
    """Pixels that are added to maps (N, H, W, C) of which each becomes ``size``."""
    return int(x.shape[0] * (prod(size) - x.shape[1] * x.shape[2]))


def _channel_attention(_: NormalizedChannelAttention, arguments: Arguments) -> int:
    """Two products for each head, of which each is C/n wide; ours are dense, C wide."""
    value, temperature = arguments[2], arguments[3]
    channels = value.shape[-1]
    return int(2 * value.numel() * (channels // temperature.shape[0] - channels))


def _shifts(_: ELFEB, arguments: Arguments) -> int:
    """Channels are shifted twice, by depthwise 3x3 convolutions with constant kernels; ours are copied."""
    return int(2 * 9 * arguments[0].numel())


BEYOND: Mapping[type[nn.Module], Beyond] = {
    SpatialCorrelation: _spatial_correlation,
    SpatialPooling: _spatial_pooling,
    DualFeatureExtraction: _dual_features,
    SpatialChannelCorrelation: _correlation,
    NGramContext: _context,
    NormalizedChannelAttention: _channel_attention,
    ELFEB: _shifts,
}
"""Modules that take other steps than the published ones: what those take more, or less, in multiply-adds."""


# ---- the authors' rules


def count_by_rule(rule: str, network: nn.Module, shape: tuple[int, ...], operations: Operations) -> int | None:
    """What the authors' own way of counting gives for a network of ours; None for a rule that is not known here.

    Args:
        rule: `finescale.networks.Count.rule` of what they print.
        network: It is not changed.
        shape: Of the input, (N, C, H, W).
        operations: Of the same network and input.
    """
    if rule in _WITH_NORMS:
        return operations.multiply_adds + (
            5 * operations.layer_norm + 2 * operations.batch_norm + operations.global_mean
        )
    for beginning, count in _BY_LAYER.items():
        if rule.startswith(beginning):
            return _sum_over_layers(count, network, shape)
    return None


_WITH_NORMS = (
    "multiply-adds, and 5 for each element of a LayerNorm",
    "multiply-adds, and 5, 2 and 1 for each element of a LayerNorm, a BatchNorm and a global mean",
)
"""Two ways to say what the package fvcore counts."""


def _torchinfo(layer: nn.Module, _: Tensor, out: Tensor) -> int:
    """A convolution's parameters once for each pixel, any other layer's once for each window or image."""
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    return parameters * (out.numel() // out.shape[1] if isinstance(layer, nn.Conv2d) else out.shape[0])


def _two_dimensions(layer: nn.Module, x: Tensor, out: Tensor) -> int:
    """A convolution's weights once for each pixel; a linear layer on T tokens counts T x T, not T x in x out."""
    if isinstance(layer, nn.Conv2d):
        return layer.weight.numel() * (out.numel() // out.shape[1])
    return x.shape[0] * prod(x.shape[1:-1]) ** 2 if isinstance(layer, nn.Linear) else 0


_BY_LAYER: Mapping[str, Callable[[nn.Module, Tensor, Tensor], int]] = {
    "torchinfo's total": _torchinfo,
    "convolutions, and linear layers as if their input had two dimensions": _two_dimensions,
}
"""How a rule's words begin, and what it counts for one call of one layer."""


@torch.no_grad()
def _sum_over_layers(
    count: Callable[[nn.Module, Tensor, Tensor], int], network: nn.Module, shape: tuple[int, ...]
) -> int:
    network = copy.deepcopy(network).to("meta").eval()
    total = 0

    def add(layer: nn.Module, arguments: Arguments, out: Tensor) -> None:
        nonlocal total
        total += count(layer, arguments[0], out)

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.LayerNorm):
            layer.register_forward_hook(add)
    network(torch.empty(shape, device="meta"))
    return total
