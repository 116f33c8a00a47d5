"""The layers of a quantized network, and how they replace the float layers.

A quantized network keeps its class, parameters and state dict. Its linear layers, convolutions and poolings have
quantizers, its products of attention are computed step by step. Only the quantizers' bounds can still be trained.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.layers.attention import AttentionProduct
from finescale.layers.explicit_attention import Tap
from finescale.layers.exportable import is_pointwise
from finescale.layers.linear import Linear
from finescale.layers.parameter_cache import ParameterCache
from finescale.layers.precision import SafeConv2d, SafeLinear, no_float16, widened
from finescale.networks import Frame
from finescale.networks.placement import Placement, matches
from finescale.networks.wrapped import WrappedNetwork
from finescale.quantize.quantizer import Quantizer
from finescale.quantize.settings import QuantSettings

KEPT_BITS = 8
"""Width of the integers in the layers that `QuantSettings.keep` names."""


class _QuantLayer(nn.Module, ABC):
    """Base of quantized layers; computes in float32 instead of float16."""

    weight: Tensor
    bias: Any  # a tensor or None, which the two layers declare differently

    def _take_over(
        self, layer: nn.Linear | nn.Conv2d, *, weight_quantizer: Quantizer, input_quantizer: Quantizer | None
    ) -> None:
        """Take the parameters of a layer, and quantizers."""
        self.weight, self.bias = layer.weight, layer.bias
        self.input_quantizer = input_quantizer
        self.weight_quantizer = weight_quantizer
        self._weight = ParameterCache(self)

    def forward(self, x: Tensor) -> Tensor:
        """Compute what the float layer does, with quantized weights and input."""
        if self.input_quantizer is not None:
            x = self.input_quantizer(x)
        with no_float16(x):
            return self._product(widened(x), self._weight(self.quantized_weight), widened(self.bias))

    def quantized_weight(self) -> Tensor:
        """Return the weights after quantization, in float32."""
        weight: Tensor = self.weight_quantizer(widened(self.weight))
        return weight

    @abstractmethod
    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Compute the layer's product, of tensors in float32."""


class QuantLinear(_QuantLayer, nn.Linear):
    """A linear layer with quantizers on weights and input.

    Args:
        layer: The float layer, whose parameters it shares.
        weight_quantizer: Quantizes the weights.
        input_quantizer: Quantizes the input; None for an input that is constant.
    """

    def __init__(
        self, layer: nn.Linear, *, weight_quantizer: Quantizer, input_quantizer: Quantizer | None = None
    ) -> None:
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self._take_over(layer, weight_quantizer=weight_quantizer, input_quantizer=input_quantizer)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)


class QuantThirds(QuantLinear):
    """A linear layer for queries, keys and values, each of which quantizes the input in its own way.

    Args:
        layer: The float layer, whose parameters it shares.
        weight_quantizer: Quantizes the weights, in three parts.
        input_quantizers: Quantize the input for queries, keys and values.
    """

    def __init__(
        self, layer: nn.Linear, *, weight_quantizer: Quantizer, input_quantizers: tuple[Quantizer, Quantizer, Quantizer]
    ) -> None:
        super().__init__(layer, weight_quantizer=weight_quantizer)
        self.query_quantizer, self.key_quantizer, self.value_quantizer = input_quantizers

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        inputs = (self.query_quantizer(x), self.key_quantizer(x), self.value_quantizer(x))
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        return torch.cat([F.linear(*each) for each in zip(inputs, weight.chunk(3), biases, strict=True)], dim=-1)


class QuantConv2d(_QuantLayer, nn.Conv2d):
    """A convolution with quantizers on weights and input; it takes the arguments of `QuantLinear`."""

    def __init__(
        self, layer: nn.Conv2d, *, weight_quantizer: Quantizer, input_quantizer: Quantizer | None = None
    ) -> None:
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            layer.kernel_size,  # type: ignore[arg-type]
            stride=layer.stride,  # type: ignore[arg-type]
            padding=layer.padding,  # type: ignore[arg-type]
            dilation=layer.dilation,  # type: ignore[arg-type]
            groups=layer.groups,
            padding_mode=layer.padding_mode,
            device="meta",
        )
        self._take_over(layer, weight_quantizer=weight_quantizer, input_quantizer=input_quantizer)

    def _product(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        answer: Tensor = self._conv_forward(x, weight, bias)
        return answer


class QuantMaxPool2d(nn.MaxPool2d):
    """A max pooling with a quantizer on its input.

    Args:
        layer: The float pooling, whose window it has.
        input_quantizer: Quantizes the input.
    """

    def __init__(self, layer: nn.MaxPool2d, *, input_quantizer: Quantizer) -> None:
        super().__init__(layer.kernel_size, layer.stride, layer.padding, layer.dilation, ceil_mode=layer.ceil_mode)
        self.input_quantizer = input_quantizer

    def forward(self, x: Tensor) -> Tensor:
        """Map images (N, C, H, W) to (N, C, H', W')."""
        answer: Tensor = super().forward(self.input_quantizer(x))
        return answer


QuantLayer = QuantLinear | QuantConv2d


# ---- putting quantizers in


def insert_quantizers(network: Frame | WrappedNetwork, placement: Placement, settings: QuantSettings) -> None:
    """Insert quantizers into a network in place, all switched off, so that its answers stay the same.

    Subclasses of linear layers and convolutions that compute in their own way stay as they are.

    Args:
        network: A float network; its attribute ``quantization`` becomes ``settings``.
        placement: Where quantizers go.
        settings: Widths of the integers.

    Raises:
        ValueError: ``settings.keep`` names a layer that does not exist.
    """
    kept = _kept_layers(network, placement, settings)

    def bits_of(path: str) -> int:
        if path in placement.ends:
            return settings.edge_bits
        return KEPT_BITS if path.rpartition(".")[0] in kept else settings.bits

    def quantizer(path: str, rows: int | None = None) -> Quantizer:
        anchored = settings.scheme == "anchored"
        return Quantizer(bits=bits_of(path), rows=rows, include_zero=settings.include_zero, anchored=anchored)

    def quantized(layer: nn.Linear | nn.Conv2d, path: str) -> QuantLayer:
        of_input, of_weights = f"{path}.input_quantizer", f"{path}.weight_quantizer"
        if settings.split_qkv and isinstance(layer, nn.Linear) and matches(path, placement.thirds):
            rows = len(layer.weight) if settings.granularity == "row" else 3
            three = quantizer(of_input), quantizer(of_input), quantizer(of_input)
            return QuantThirds(layer, weight_quantizer=quantizer(of_weights, rows), input_quantizers=three)
        of_rows = quantizer(of_weights, len(layer.weight) if settings.granularity == "row" else 1)
        read = None if matches(path, placement.constant_inputs) else quantizer(of_input)
        if isinstance(layer, nn.Linear):
            return QuantLinear(layer, weight_quantizer=of_rows, input_quantizer=read)
        return QuantConv2d(layer, weight_quantizer=of_rows, input_quantizer=read)

    def visit(parent: nn.Module, prefix: str) -> None:
        for name, child in list(parent.named_children()):
            path = prefix + name
            if matches(path, placement.float_layers):
                continue
            if settings.placement == "blocks" and _is_outside_blocks(child, path):
                continue
            if type(child) in (*_LINEAR, *_CONVOLUTION):
                new: nn.Module = quantized(child, path)  # type: ignore[arg-type]
            elif isinstance(child, nn.MaxPool2d):
                new = QuantMaxPool2d(child, input_quantizer=quantizer(f"{path}.input_quantizer"))
            elif isinstance(child, Tap):
                new = quantizer(path)
            elif isinstance(child, AttentionProduct):
                new = child.explicit()
                visit(new, f"{path}.")
            else:
                visit(child, f"{path}.")
                continue
            setattr(parent, name, new)

    visit(network, "")
    layers = quantized_layers(network)
    for path, layer in layers.items():
        for reader, other in placement.shared_inputs.items():
            if path.endswith(reader):
                layer.input_quantizer = layers[path.removesuffix(reader) + other].input_quantizer
    network.quantization = settings
    network.requires_grad_(False)
    network.to(next(network.parameters()).device)
    network.eval()


def _is_outside_blocks(module: nn.Module, path: str) -> bool:
    """Whether "blocks" of `QuantSettings.placement` leaves out a layer, pooling or tap."""
    if next(module.children(), None) is not None:
        return False
    return (
        not path.startswith("layers.")
        or path.split(".")[2:3] == ["conv"]  # of a group, after its blocks
        or isinstance(module, nn.MaxPool2d)
        or (isinstance(module, nn.Conv2d) and not is_pointwise(module))
    )


_LINEAR = (nn.Linear, Linear, SafeLinear)
_CONVOLUTION = (nn.Conv2d, SafeConv2d)


def is_replaced(module: nn.Module) -> bool:
    """Return whether `insert_quantizers` replaces a module as a linear layer or convolution."""
    return type(module) in (*_LINEAR, *_CONVOLUTION)


def _kept_layers(network: nn.Module, placement: Placement, settings: QuantSettings) -> Collection[str]:
    """Paths of the layers that `QuantSettings.keep` names."""
    layers = [name for name, module in network.named_modules() if type(module) in (*_LINEAR, *_CONVOLUTION)]
    names = {"first": placement.first, "last": next(name for name in placement.last if name in layers)}
    kept: set[str] = set()
    for pattern in settings.keep:
        found = [name for name in layers if matches(name, [names.get(pattern, pattern)])]
        if not found:
            raise ValueError(
                f"keep: no layer is named {pattern!r}; known are first, last and paths such as "
                f"{layers[len(layers) // 2]!r}"
            )
        kept.update(found)
    return kept


# ---- a network with quantizers


def is_quantized(network: nn.Module) -> bool:
    """Return whether a network has quantizers."""
    return isinstance(getattr(network, "quantization", None), QuantSettings)


def settings_of(network: nn.Module) -> QuantSettings:
    """Return the settings by which a network was quantized.

    Raises:
        ValueError: The network has no quantizers.
    """
    settings = getattr(network, "quantization", None)
    if not isinstance(settings, QuantSettings):
        raise ValueError(f"{type(network).__name__} has no quantizers; insert them first")
    return settings


def quantizers(network: nn.Module) -> dict[str, Quantizer]:
    """Return every quantizer by its path; one that several layers share has the path of the first."""
    return {name: module for name, module in network.named_modules() if isinstance(module, Quantizer)}


def quantized_layers(network: nn.Module) -> dict[str, QuantLayer]:
    """Return every layer with quantized weights by its path."""
    return {name: module for name, module in network.named_modules() if isinstance(module, QuantLinear | QuantConv2d)}


def switch(network: nn.Module, *, on: bool, only: Collection[str] | None = None) -> None:
    """Switch quantizers on or off.

    Args:
        network: A network with quantizers.
        on: Whether they quantize.
        only: Paths of those to switch, all others being switched off; None for all.
    """
    for path, quantizer in quantizers(network).items():
        quantizer.is_on = on and (only is None or path in only)
    network.eval()  # clears tensors that were derived from weights under the other setting


@contextmanager
def switched_off(network: nn.Module) -> Iterator[None]:
    """Switch all quantizers off while the block runs, and on afterwards."""
    switch(network, on=False)
    try:
        yield
    finally:
        switch(network, on=True)


def bounds_of(network: nn.Module) -> dict[str, tuple[Tensor, Tensor]]:
    """Return copies of the lower and upper bounds of every quantizer, by path."""
    return {path: (one.low.detach().clone(), one.high.detach().clone()) for path, one in quantizers(network).items()}
