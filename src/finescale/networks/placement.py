"""Placement of quantizers: the tensors of a network that quantization treats in a way of their own."""

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
"""Quantizers of the parts that `Frame` gives every network: image, result of the body, reconstruction and its result.
A network has those whose layers it has."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where quantizers stand in a network, and how their ranges are found, beyond the general rule.

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
    """Pairs of layers that read the same tensor: end of the one's path to end of the other's, whose quantizer serves
    both."""
    frequency: Collection[str] = ()
    """Quantizers of maps (N, C, H, W) whose errors are judged by their spectra."""
    ends: Collection[str] = ("conv_first.input_quantizer", "result")
    """Quantizers of the network's input and output, which have a number of bits of their own."""
    thirds: Collection[str] = ("*.qkv",)
    """Linear layers that compute queries, keys and values, in this order."""
    one_sided: Collection[str] = ("*.probabilities", "*.fc2.input_quantizer")
    """Quantizers of tensors with all or most of their range on one side: attention weights, and what an activation
    function has passed."""
    first: str = "conv_first"
    """The first layer."""
    last: Collection[str] = ("conv_last", "upsample.0")
    """Names of the last layer, of which the first that the network has counts."""


def matches(path: str, patterns: Collection[str]) -> bool:
    """Whether a module path matches one of several patterns with ``*``."""
    return any(fnmatchcase(path, pattern) for pattern in patterns)
