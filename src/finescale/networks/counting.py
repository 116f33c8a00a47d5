"""Rules by which authors, or the tools that they use, count multiply-adds, for comparison with their numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
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


def count_by_swinir(network: nn.Module, shape: tuple[int, ...], operations: Operations) -> int:
    """Multiply-adds, and 1 for each element of a LayerNorm, with less for the last layers.

    The last LayerNorm is left out, the convolution that closes the body counts a third, one whose result is shuffled to
    the image as if the scale were 1, and any other reconstruction nothing.
    """
    head: tuple[str, ...] = getattr(network, "head", ())
    scale: int = getattr(network, "scale", 1)
    closing = _sum_over_layers(_convolution, network, shape, within=("conv_after_body",))
    reconstruction = _sum_over_layers(_convolution, network, shape, within=head)
    kept = reconstruction // scale**2 if head == ("upsample",) else 0
    last_norm = _sum_over_layers(lambda _, x, __: x.numel(), network, shape, within=("norm",))
    norms = operations.layer_norm - last_norm
    return operations.multiply_adds + norms - closing * 2 // 3 - reconstruction + kept


def count_linear_in_two_dimensions(network: nn.Module, shape: tuple[int, ...], _operations: Operations) -> int:
    """Weights of a convolution once for each pixel; for a linear layer on T tokens T x T, not T x in x out."""

    def count(layer: nn.Module, x: Tensor, out: Tensor) -> int:
        if isinstance(layer, nn.Conv2d):
            return _convolution(layer, x, out)
        return x.shape[0] * prod(x.shape[1:-1]) ** 2 if isinstance(layer, nn.Linear) else 0

    return _sum_over_layers(count, network, shape)


def _convolution(layer: nn.Module, _: Tensor, out: Tensor) -> int:
    """Multiply-adds of a convolution."""
    return layer.get_parameter("weight").numel() * (out.numel() // out.shape[1])


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
    count: Callable[[nn.Module, Tensor, Tensor], int],
    network: nn.Module,
    shape: tuple[int, ...],
    *,
    within: Collection[str] | None = None,
) -> int:
    """Sum of ``count(layer, input, output)`` over every call of a convolution, linear layer or LayerNorm.

    ``within`` names the parts of the network, at its root, whose layers count; None: all of it.
    """
    network = copy.deepcopy(network).to("meta").eval()
    total = 0

    def add(layer: nn.Module, arguments: tuple[Any, ...], out: Tensor) -> None:
        nonlocal total
        total += count(layer, arguments[0], out)

    for name, layer in network.named_modules():
        if within is not None and name.partition(".")[0] not in within:
            continue
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.LayerNorm):
            layer.register_forward_hook(add)
    network(torch.empty(shape, device="meta"))
    return total
