"""The learning rate as a pure function of the step, so that nothing needs to be saved for a resume."""

from __future__ import annotations

from collections.abc import Sequence


def multi_step(step: int, *, learning_rate: float, milestones: Sequence[int], gamma: float) -> float:
    """The learning rate of a step.

    Args:
        step: Steps done before, from 0.
        learning_rate: At the start.
        milestones: Numbers of steps after which the rate is multiplied by ``gamma``.
        gamma: Factor at each milestone.
    """
    return learning_rate * float(gamma ** sum(step >= milestone for milestone in milestones))
