"""Running average of a network's weights (EMA)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from finescale.train.distributed import own_part, spread_like, whole


class WeightAverage:
    """Average of parameters over the steps of a training, in which later steps count more.

    Buffers, such as the statistics of BatchNorm, are running averages already and are used as they are.

    Args:
        network: Network whose weights are averaged; the average starts as a copy of them.
        decay: Share of the old average in the new one; 0 follows the weights without delay.
        warm_up: Average the first steps over a shorter time, so that the random start is forgotten sooner: the decay
            after ``step`` steps is min(decay, (1 + step) / (10 + step)).
    """

    def __init__(self, network: nn.Module, *, decay: float, warm_up: bool = True) -> None:
        self.decay = decay
        self.warm_up = warm_up
        self._network = network
        self._weights = {name: weight.detach().clone() for name, weight in network.named_parameters()}

    @torch.no_grad()
    def update(self, *, step: int) -> None:
        """Add the network's weights after ``step`` steps to the average."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.warm_up and self.decay else self.decay
        current = [own_part(weight.detach()) for weight in self._network.parameters()]
        torch._foreach_lerp_([own_part(weight) for weight in self._weights.values()], current, 1 - decay)

    def weights(self) -> dict[str, Tensor]:
        """Return the averaged parameters by name, whole; where processes train together, all must call this."""
        return {name: whole(weight) for name, weight in self._weights.items()}

    def state(self) -> dict[str, Tensor]:
        """Return a state dict with the averaged parameters; where processes train together, all must call this."""
        weights = self.weights()
        return {key: weights.get(key, tensor) for key, tensor in self._network.state_dict().items()}

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor]) -> None:
        """Continue from averaged parameters that `weights` returned."""
        for name, weight in self._weights.items():
            weight.copy_(spread_like(weights[name], weight))
