"""Rules by which authors, or the tools that they use, count multiply-adds, for comparison with their numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from finescale.layers.ngram_context import NGramContext

if TYPE_CHECKING:  # a network that runs needs no metrics
    from finescale.metrics.cost import Operations

CountingRule = Callable[[nn.Module, tuple[int, ...], "Operations"], int]
"""From a network, the shape (N, C, H, W) of its input and its operations for that input to the rule's count."""


def count_as_fvcore(_network: nn.Module, _shape: tuple[int, ...], operations: Operations) -> int:
    """Multiply-adds, and 5, 2 and 1 for each element of a LayerNorm, a BatchNorm and a global mean."""
    return operations.multiply_adds + 5 * operations.layer_norm + 2 * operations.batch_norm + operations.global_mean


def count_as_torchinfo(network: nn.Module, shape: tuple[int, ...], _operations: Operations) -> int:
    """Parameters of a convolution once for each pixel, of any other layer once for each window or image."""

    def count(layer: nn.Module, _: Tensor, out: Tensor) -> int:
        parameters = sum(parameter.numel() for parameter in layer.parameters())
        return parameters * (out.numel() // out.shape[1] if isinstance(layer, nn.Conv2d) else out.shape[0])

    return _sum_over_layers(count, network, shape)


def count_linear_in_two_dimensions(network: nn.Module, shape: tuple[int, ...], _operations: Operations) -> int:
    """Weights of a convolution once for each pixel; for a linear layer on T tokens T x T, not T x in x out."""

    def count(layer: nn.Module, x: Tensor, out: Tensor) -> int:
        if isinstance(layer, nn.Conv2d):
            return layer.weight.numel() * (out.numel() // out.shape[1])
        return x.shape[0] * prod(x.shape[1:-1]) ** 2 if isinstance(layer, nn.Linear) else 0

    return _sum_over_layers(count, network, shape)


def ngram_context_both_ways(context: NGramContext, arguments: tuple[Tensor]) -> int:
    """Multiply-adds that the published N-gram context takes beyond ours, see `Publication.beyond`.

    It attends forward and backward apart; ours does both at once.
    """
    maps, height, width = arguments[0].shape[:3]
    attention, (h, w) = context.ngram_attn, context.window
    side, rows, columns = attention.window[0], height // h, width // w
    tokens, channels, attended = side**2, attention.proj.out_features, attention.proj.in_features
    each = 4 * tokens * channels * attended + 2 * tokens**2 * attended  # of an n-gram: four projections, two products
    return maps * each * (2 * rows * columns - (rows + side - 1) * (columns + side - 1))


@torch.no_grad()
def _sum_over_layers(
    count: Callable[[nn.Module, Tensor, Tensor], int], network: nn.Module, shape: tuple[int, ...]
) -> int:
    """Sum of ``count(layer, input, output)`` over every call of a convolution, linear layer or LayerNorm."""
    network = copy.deepcopy(network).to("meta").eval()
    total = 0

    def add(layer: nn.Module, arguments: tuple[Any, ...], out: Tensor) -> None:
        nonlocal total
        total += count(layer, arguments[0], out)

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.LayerNorm):
            layer.register_forward_hook(add)
    network(torch.empty(shape, device="meta"))
    return total
