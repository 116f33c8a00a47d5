"""Learning-rate schedule as a pure function of the step, so that checkpoints need not hold its state."""

from __future__ import annotations

import math

from finescale.train.settings import StepSettings


def learning_rate(step: int, settings: StepSettings) -> float:
    """Return the learning rate of a step.

    During warm-up the rate rises linearly to ``lr``, which it reaches at step number ``warm_up``, counted from 1.
    Otherwise "multi-step" is ``lr * gamma ** (milestones passed)``, and "cosine" is
    ``final_lr + (lr - final_lr) * (1 + cos(pi * step / iterations)) / 2``.

    Args:
        step: Number of steps done before.
        settings: ``lr``, ``schedule`` and its numbers.
    """
    if step + 1 < settings.warm_up:
        return settings.lr * (step + 1) / settings.warm_up
    if settings.schedule == "cosine":
        done = min(step / settings.iterations, 1.0)
        return settings.final_lr + (settings.lr - settings.final_lr) * (1 + math.cos(math.pi * done)) / 2
    return settings.lr * float(settings.gamma ** sum(step >= milestone for milestone in settings.milestones))
