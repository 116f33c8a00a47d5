"""What a family says about the quantization of its networks: which tensors are treated in a way of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

NETWORK_ENDS = (
    "conv_first.input_quantizer",
    "conv_after_body.input_quantizer",
    "conv_after_body.0.input_quantizer",
    "conv_before_upsample.0.input_quantizer",
    "upsample.0.input_quantizer",
    "result",
)
"""The image, the body's result, the reconstruction's input and its result, of networks of any family."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where quantizers stand in a network, and how their ranges are found, beyond the rule.

    The rule: the weights of every linear layer and convolution, and their inputs; the inputs of every max pooling; the
    operands of every product of attention; the result. Errors are judged by their mean.

    Layers and quantizers are named by module paths in which ``*`` stands for any text. The quantizers of a layer are
    "<layer>.input_quantizer" and "<layer>.weight_quantizer", those of a product "<product>.query" and the like, that of
    the network's result is "result".
    """

    float_layers: Collection[str] = ()
    """Layers that stay as they are, weights and inputs."""
    constant_inputs: Collection[str] = ("*.pos.pos_proj",)
    """Layers whose inputs are constants, and stay as they are."""
    shared_inputs: Mapping[str, str] = field(default_factory=dict)
    """Layers that read the same tensor as another: end of the one's path to end of the other's, whose quantizer serves
    both."""
    frequency: Collection[str] = ()
    """Quantizers of maps (N, C, H, W) whose errors are judged by their spectra."""
    ends: Collection[str] = ("conv_first.input_quantizer", "result")
    """Quantizers of the image that comes in and of that which goes out, which have bits of their own."""
    first: str = "conv_first"
    """The first layer."""
    last: Collection[str] = ("conv_last", "upsample.0")
    """The last layer, by the first of these names that the network has."""


def matches(path: str, patterns: Collection[str]) -> bool:
    """Whether a module path is one of those that patterns with ``*`` describe."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)
