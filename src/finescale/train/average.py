"""The running average of a network's weights (EMA)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from finescale.train.distributed import own_part, spread_like, whole


class WeightAverage:
    """Averages parameters over the steps of a training; later steps count more.

    Buffers, such as the statistics of BatchNorm, are running averages already: they are taken as they are.

    Args:
        network: Whose weights to average; the average starts as a copy.
        decay: Share of the old average in the new one; 0 follows the weights without delay.
        warm_up: Average the first steps over a shorter time, or the random start would weigh on the result for long:
            the decay after ``step`` steps is min(decay, (1 + step) / (10 + step)).
    """

    def __init__(self, network: nn.Module, *, decay: float, warm_up: bool = True) -> None:
        self.decay = decay
        self.warm_up = warm_up
        self._network = network
        self._weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}

    @torch.no_grad()
    def update(self, *, step: int) -> None:
        """Take in the network's weights after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warm_up and self.decay else self.decay
        current = [own_part(weight.detach()) for weight in self._network.parameters()]
        torch._foreach_lerp_([own_part(weight) for weight in self._weights.values()], current, 1 - decay)

    def weights(self) -> dict[str, Tensor]:
        """The averaged parameters by their names, whole; where processes train together, all must ask."""
        return {name: whole(weight) for name, weight in self._weights.items()}

    def state(self) -> dict[str, Tensor]:
        """A state dict of the network with the averaged parameters; where processes train together, all must ask."""
        weights = self.weights()
        return {key: weights.get(key, tensor) for key, tensor in self._network.state_dict().items()}

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor]) -> None:
        """Go on from averaged parameters, as `weights` gave them."""
        for name, weight in self._weights.items():
            weight.copy_(spread_like(weights[name], weight))
