"""The learning rate of every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from finescale.train.schedule import learning_rate
from finescale.train.settings import StepSettings


def rate(step: int, **fields: Any) -> float:
    return learning_rate(step, StepSettings(**{"iterations": 1000, "lr": 5e-4, **fields}))


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1), (1, 1), (249, 1), (250, 0.5), (399, 0.5), (400, 0.25), (449, 0.25), (450, 0.125), (10**6, 0.125)],
)
def test_the_rate_is_multiplied_at_each_milestone(step: int, factor: float) -> None:
    assert rate(step, milestones=(250, 400, 450)) == 5e-4 * factor


def test_without_milestones_the_rate_stays() -> None:
    assert rate(10**6) == 5e-4


def test_a_milestone_named_twice_counts_twice() -> None:
    assert rate(3, lr=1.0, milestones=(3, 3), gamma=0.1) == pytest.approx(0.01)


def test_the_cosine_is_that_of_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=5e-4)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-5)
    for step in range(51):
        ours = rate(step, iterations=50, schedule="cosine", final_lr=1e-5)
        assert ours == pytest.approx(theirs.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        theirs.step()
    assert rate(80, iterations=50, schedule="cosine", final_lr=1e-5) == pytest.approx(1e-5)


@pytest.mark.parametrize("schedule", ["multi-step", "cosine"])
def test_it_warms_up_in_a_straight_line_and_then_follows_the_schedule(schedule: str) -> None:
    rates = [rate(step, schedule=schedule, warm_up=4) for step in range(6)]
    assert rates[:3] == pytest.approx([1.25e-4, 2.5e-4, 3.75e-4])
    assert rates[3:] == [rate(step, schedule=schedule) for step in (3, 4, 5)]
