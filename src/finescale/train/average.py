"""The running average of a network's weights (EMA)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages weights over the steps of a training; later steps count more.

    The first steps are averaged over a shorter time, or the random start would weigh on the result for long: the decay
    after ``step`` steps is min(decay, (1 + step) / (10 + step)).

    Args:
        network: Whose weights to average; the average starts as a copy.
        decay: Share of the old average in the new one; 0 follows the weights without delay.
    """

    def __init__(self, network: nn.Module, *, decay: float) -> None:
        self.decay = decay
        self.weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module, *, step: int) -> None:
        """Take in the weights after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        current = [weight.detach() for _, weight in network.named_parameters()]
        torch._foreach_lerp_(list(self.weights.values()), current, 1 - decay)

    @contextmanager
    def applied_to(self, network: nn.Module) -> Iterator[None]:
        """Within the block the network has the averaged weights, in eval mode; afterwards all is as before."""
        training = network.training
        kept: dict[str, Tensor] = {name: weight.detach().clone() for name, weight in network.named_parameters()}
        _assign(network, self.weights)
        network.eval()
        try:
            yield
        finally:
            _assign(network, kept)
            network.train(training)


@torch.no_grad()
def _assign(network: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, weight in network.named_parameters():
        weight.copy_(weights[name])
