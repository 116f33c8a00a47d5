"""Initial weights of the published networks, where they are not PyTorch's own."""

from __future__ import annotations

from torch import nn


def initialise_small(network: nn.Module, kind: type[nn.Linear | nn.Conv2d]) -> None:
    """Initialise all layers of a kind: weights with a standard deviation of 0.02, biases with zero."""
    for layer in network.modules():
        if isinstance(layer, kind):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
