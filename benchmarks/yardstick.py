"""The yardstick, and how something is timed beside it (see README.md)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

WIDTH, SIDE, WINDOW, HEADS = 60, 128, 8, 6


def yardstick() -> Callable[[], Tensor]:
    """Four window-attention blocks and a convolution with fixed random weights; the answer computes them once."""
    generator = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) * 0.05

    features = weight(1, WIDTH, SIDE, SIDE)
    qkv, proj, up, down = weight(3 * WIDTH, WIDTH), weight(WIDTH, WIDTH), weight(120, WIDTH), weight(WIDTH, 120)
    kernel = weight(WIDTH, WIDTH, 3, 3)
    per_axis = SIDE // WINDOW

    def block(x: Tensor) -> Tensor:
        y = F.layer_norm(x, (WIDTH,)).view(per_axis, WINDOW, per_axis, WINDOW, WIDTH).transpose(1, 2)
        y = F.linear(y.reshape(-1, WINDOW**2, WIDTH), qkv).view(-1, WINDOW**2, 3, HEADS, WIDTH // HEADS)
        query, key, value = y.permute(2, 0, 3, 1, 4)
        y = ((query * (WIDTH // HEADS) ** -0.5) @ key.transpose(-2, -1)).softmax(-1) @ value
        y = F.linear(y.transpose(1, 2).reshape(-1, WINDOW**2, WIDTH), proj)
        y = y.view(per_axis, per_axis, WINDOW, WINDOW, WIDTH).transpose(1, 2).reshape(1, -1, WIDTH)
        x = x + y
        return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (WIDTH,)), up)), down)

    @torch.no_grad()
    def run() -> Tensor:
        x = features.flatten(2).transpose(1, 2)
        for _ in range(4):
            x = block(x)
        return F.conv2d(x.transpose(1, 2).reshape(features.shape), kernel, padding=1) + features

    return run


@dataclass(frozen=True)
class Times:
    """Seconds of each round, of what was measured and of the yardstick."""

    seconds: list[float]
    yard_seconds: list[float]

    def as_row(self) -> dict[str, float]:
        """Minimum and median in yards, the spread (median over minimum), and the seconds behind them."""
        least, yard = min(self.seconds), min(self.yard_seconds)
        median, median_yard = statistics.median(self.seconds), statistics.median(self.yard_seconds)
        return {
            "yards": round(least / yard, 2),
            "median_yards": round(median / median_yard, 2),
            "spread": round(median / least, 2),
            "seconds": round(least, 4),
            "yard_seconds": round(yard, 4),
        }


def measure(run: Callable[[], object], *, rounds: int) -> Times:
    """Time something and the yardstick in turns, after each was done once to warm up."""
    return Times(*in_turns(run, yardstick(), rounds=rounds))


def in_turns(*runs: Callable[[], object], rounds: int) -> list[list[float]]:
    """Time several things in turns, after each was done once to warm up; return the seconds of each, round by round."""
    for each in runs:
        each()
    times = [[_seconds(each) for each in runs] for _ in range(rounds)]
    return [list(seconds) for seconds in zip(*times, strict=True)]


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start
