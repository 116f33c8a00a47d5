"""The learning rate as a pure function of the step, so that nothing needs to be saved for a resume."""

from __future__ import annotations

import math

from finescale.train.settings import StepSettings


def learning_rate(step: int, settings: StepSettings) -> float:
    """The learning rate of a step.

    While it warms up, the rate rises in a straight line to ``lr``, which step number ``warm_up``, counted from 1, has.
    Otherwise "multi-step" is ``lr * gamma ** (milestones passed)``, and "cosine" is
    ``final_lr + (lr - final_lr) * (1 + cos(pi * step / iterations)) / 2``.

    Args:
        step: Steps done before, from 0.
        settings: ``lr``, ``schedule`` and its numbers.
    """
    if step + 1 < settings.warm_up:
        return settings.lr * (step + 1) / settings.warm_up
    if settings.schedule == "cosine":
        done = min(step / settings.iterations, 1.0)
        return settings.final_lr + (settings.lr - settings.final_lr) * (1 + math.cos(math.pi * done)) / 2
    return settings.lr * float(settings.gamma ** sum(step >= milestone for milestone in settings.milestones))
