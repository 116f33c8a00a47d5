"""The integer form of a quantized network, in operators that engines turn into integer arithmetic.

Engines multiply integers of eight bits where both factors come from operators that they recognise as quantization, and
of certain types only: inputs of layers unsigned with a zero point, weights signed without one, and of two activations
both signed without one, or the first unsigned. Our quantizers have a zero point everywhere. With less than eight bits
their integers, less the zero point, fit into signed ones, and the integer form has the same values; with eight bits,
what has to be signed and extends further than 127 steps to one side gets a wider step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from finescale.layers.exportable import ChannelsFirst, as_linear, is_pointwise
from finescale.quantize.modules import QuantConv2d, QuantLayer, QuantLinear, QuantMaxPool2d, is_quantized
from finescale.quantize.quantizer import Quantizer

NetworkT = TypeVar("NetworkT", bound=nn.Module)

SIGNED = 127
"""Largest absolute value of the signed integers."""


class SignedWeights(nn.Module):
    """Quantizer of weights to signed integers of eight bits, without zero points.

    Args:
        step: Of each row, (rows,).
    """

    step: Tensor
    zero: Tensor

    def __init__(self, step: Tensor) -> None:
        super().__init__()
        self.register_buffer("step", step)
        self.register_buffer("zero", torch.zeros_like(step, dtype=torch.int32))

    def forward(self, weight: Tensor) -> Tensor:
        """Round weights to the values of the integers."""
        return torch.fake_quantize_per_channel_affine(weight, self.step, self.zero, 0, -SIGNED, SIGNED)


class EightBits(nn.Module):
    """Quantizer of an activation to integers of eight bits, after clipping to the range of the original quantizer.

    Args:
        quantizer: Of eight bits or fewer.
        signed: Whether the integers are signed, without a zero point; a range that starts at zero needs none anyway.
    """

    def __init__(self, quantizer: Quantizer, *, signed: bool) -> None:
        super().__init__()
        step, zero = (float(term) for term in quantizer.step_and_zero())
        top = 2**quantizer.bits - 1
        self.low, self.high = -zero * step, (top - zero) * step
        if signed and zero:
            self.lowest, self.highest, self.zero = -SIGNED - 1, SIGNED, 0
            self.step = step * max(1.0, max(zero, top - zero) / SIGNED)
        else:
            self.lowest, self.highest, self.zero = 0, 255, round(zero)
            self.step = step
        self.clips = (self.low, self.high) != (
            (self.lowest - self.zero) * self.step,
            (self.highest - self.zero) * self.step,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Round numbers to the values of the integers."""
        if self.clips:
            x = x.clamp(self.low, self.high)
        return torch.fake_quantize_per_tensor_affine(x, self.step, self.zero, self.lowest, self.highest)


class FloatGrid(nn.Module):
    """Quantizer of an activation to values that start at a lower bound, which engines compute in floats.

    Args:
        quantizer: Anchored.
    """

    def __init__(self, quantizer: Quantizer) -> None:
        super().__init__()
        self.low, self.high = float(quantizer.low), float(quantizer.high)
        self.step = (self.high - self.low) / (2**quantizer.bits - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Round numbers to the nearest of the values."""
        values: Tensor = ((x.clamp(self.low, self.high) - self.low) / self.step).round() * self.step + self.low
        return values


class Computed(nn.Module):
    """Replacement of a `ParameterCache` that computes its tensor at each use, so that an engine sees how."""

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """Compute the tensor."""
        return compute()


def integer_form(network: NetworkT) -> NetworkT:
    """Return a copy of a quantized network that computes by `torch.fake_quantize_per_tensor_affine` and its like.

    Its 1x1 convolutions are linear layers, see `finescale.layers.exportable.exportable`. Its answers equal those of
    the network, except where a number lies midway between two integers, and where eight bits need the wider step.

    Raises:
        ValueError: The network is not quantized, or a quantizer has more than eight bits.
    """
    if not is_quantized(network):
        raise ValueError(f"{type(network).__name__} has no quantizers; only a quantized network has an integer form")
    copied = copy.deepcopy(network)
    for name, module in list(copied.named_modules()):
        if isinstance(module, QuantConv2d) and is_pointwise(module):
            copied.set_submodule(name, ChannelsFirst(_as_linear(module)))
    made: dict[Quantizer, nn.Module] = {}  # layers may share one
    for module in list(copied.modules()):
        if isinstance(module, QuantLinear | QuantConv2d):
            _sign_weights(module)
        for name, child in list(module.named_children()):
            if isinstance(child, Quantizer):
                if child.bits > 8:
                    raise ValueError(f"an integer form has at most eight bits, the network has {child.bits}")
                signed = module is not copied and not isinstance(module, QuantLinear | QuantConv2d | QuantMaxPool2d)
                new = FloatGrid(child) if child.anchored else EightBits(child, signed=signed)
                setattr(module, name, made.setdefault(child, new))
    return copied


def _as_linear(conv: QuantConv2d) -> QuantLinear:
    """Return a 1x1 convolution as a linear layer with the same quantizers."""
    return QuantLinear(as_linear(conv), weight_quantizer=conv.weight_quantizer, input_quantizer=conv.input_quantizer)


def _sign_weights(layer: QuantLayer) -> None:
    """Replace the weights of a layer by signed integers, with the step of its quantizer wherever they fit.

    Anchored weights become floats: their values are multiples of no step.
    """
    quantizer = layer.weight_quantizer
    with torch.no_grad():
        weight = layer.quantized_weight()
        step = quantizer.step_and_zero()[0].repeat_interleave(len(weight) // len(quantizer.low))
        reach = weight.flatten(1).abs().amax(1)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    signed = nn.Identity() if quantizer.anchored else SignedWeights(torch.maximum(step, reach / SIGNED))
    layer.weight_quantizer = signed  # type: ignore[assignment]
    layer._weight = Computed()  # type: ignore[assignment]
