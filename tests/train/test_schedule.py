from __future__ import annotations

import pytest

from finescale.train.schedule import multi_step


@pytest.mark.parametrize(
    ("step", "factor"),
    [(0, 1), (1, 1), (249, 1), (250, 0.5), (399, 0.5), (400, 0.25), (449, 0.25), (450, 0.125), (10**6, 0.125)],
)
def test_the_rate_is_multiplied_at_each_milestone(step: int, factor: float) -> None:
    assert multi_step(step, learning_rate=5e-4, milestones=(250, 400, 450), gamma=0.5) == 5e-4 * factor


def test_without_milestones_the_rate_stays() -> None:
    assert multi_step(10**6, learning_rate=2e-4, milestones=(), gamma=0.5) == 2e-4


def test_a_milestone_named_twice_counts_twice() -> None:
    assert multi_step(3, learning_rate=1.0, milestones=(3, 3), gamma=0.1) == pytest.approx(0.01)
