"""Rules by which authors, or the tools that they use, count the cost of networks, for comparison with their numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

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

    def count(call: _Call) -> int:
        parameters = sum(parameter.numel() for parameter in call.layer.parameters())
        return parameters * (call.pixels if isinstance(call.layer, nn.Conv2d) else call.out.shape[0])

    return _sum_over_layers(count, network, shape)


def count_pass_as_torchinfo(network: nn.Module, shape: tuple[int, ...], _operations: Operations) -> int:
    """Bytes of torchinfo's forward/backward pass: twice the float32 results of all layers that have parameters."""
    return _sum_over_layers(lambda call: 2 * 4 * call.out.numel(), network, shape)


def count_linear_in_two_dimensions(network: nn.Module, shape: tuple[int, ...], _operations: Operations) -> int:
    """Weights of a convolution once for each pixel; for a linear layer on T tokens T x T, not T x in x out.

    The rule is right for linear layers whose input has two dimensions.
    """

    def count(call: _Call) -> int:
        layer, x = call.layer, call.x
        if isinstance(layer, nn.Linear):
            return x.shape[0] * (layer.weight.numel() if x.dim() == 2 else prod(x.shape[1:-1]) ** 2)
        return layer.weight.numel() * call.pixels if isinstance(layer, nn.Conv2d) else 0

    return _sum_over_layers(count, network, shape)


def count_as_swinir(network: nn.Module, shape: tuple[int, ...], operations: Operations) -> int:
    """Count as SwinIR's own method does: multiply-adds, and one operation for each element of a LayerNorm.

    Parts with SwinIR's names are counted as that method does: ``norm`` not at all, ``conv_after_body`` as one
    convolution of 3 taps, ``upsample`` as one convolution to 3 channels, and longer heads not at all.
    """
    modules = dict(network.named_modules())
    root = next((name.removesuffix("conv_first") for name in modules if name.split(".")[-1] == "conv_first"), "")
    head = _SHUFFLING_HEAD if f"{root}conv_before_upsample" in modules else ("upsample",)

    def beyond(call: _Call) -> int:
        part, _, inside = call.name.removeprefix(root).partition(".")
        if isinstance(call.layer, nn.LayerNorm):
            return -call.out.numel() if part == "norm" and not inside else 0
        if not isinstance(call.layer, nn.Conv2d):
            return 0
        if part in ("conv_after_body", *head):
            return -call.layer.weight.numel() * call.pixels
        if part != "conv_first":
            return 0
        channels = call.out.shape[1]
        closing = 3 * channels * channels if f"{root}conv_after_body" in modules else 0
        shuffled = 9 * channels * 3 if head == ("upsample",) and f"{root}upsample" in modules else 0
        return (closing + shuffled) * call.pixels

    return operations.multiply_adds + operations.layer_norm + _sum_over_layers(beyond, network, shape)


def count_parameters_without_tables(network: nn.Module, _shape: tuple[int, ...], _operations: Operations) -> int:
    """Values of all parameters but the tables of relative positions, which SwinIR's paper leaves out."""
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not name.endswith("relative_position_bias_table")
    )


_SHUFFLING_HEAD = ("conv_before_upsample", "upsample", "conv_up1", "conv_up2", "conv_hr", "conv_last")
"""Parts of heads for which SwinIR's method counts nothing."""


class _Call(NamedTuple):
    """One call of a layer that has parameters."""

    name: str
    layer: nn.Module
    x: Tensor
    out: Tensor

    @property
    def pixels(self) -> int:
        """Number of pixels of a result (N, C, H, W)."""
        return self.out.numel() // self.out.shape[1]


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
def _sum_over_layers(count: Callable[[_Call], int], network: nn.Module, shape: tuple[int, ...]) -> int:
    """Sum of a count over every call of a layer that has parameters and no layers inside."""
    network = copy.deepcopy(network).to("meta").eval()
    total = 0

    def add(name: str, layer: nn.Module, arguments: tuple[Any, ...], out: Tensor) -> None:
        nonlocal total
        total += count(_Call(name, layer, arguments[0], out))

    for name, layer in network.named_modules():
        if next(layer.parameters(), None) is not None and next(layer.children(), None) is None:
            layer.register_forward_hook(partial(add, name))
    network(torch.empty(shape, device="meta"))
    return total
