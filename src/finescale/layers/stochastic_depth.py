"""Stochastic depth: leaving a branch out for some samples of a training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Leave a branch out for a share of the samples of a training, and enlarge it for the others to compensate.

    Args:
        rate: Share of the samples, 0 to below 1; 0 changes nothing.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Branch (N, ...) to the same shape."""
        if not self.training or self.rate == 0:
            return branch
        kept = torch.rand(branch.shape[:1] + (1,) * (branch.ndim - 1), device=branch.device) >= self.rate
        return branch * (kept / (1 - self.rate)).to(branch.dtype)


def depth_rates(last: float, depths: Sequence[int]) -> list[list[float]]:
    """Return the rate of each block of each group, which rises evenly from 0 at the first block to ``last``."""
    steps = max(sum(depths) - 1, 1)
    return [[last * (sum(depths[:group]) + block) / steps for block in range(n)] for group, n in enumerate(depths)]
