"""How far a training is, for a person who watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingProgress:
    """A training after one of its steps."""

    step: int
    """Steps that are done."""
    iterations: int
    """Steps in all."""
    loss: float | None = None
    """The loss that was reported last."""
    psnr_y: float | None = None
    """The latest validation's PSNR, in dB."""


OnStep = Callable[[TrainingProgress], None]
"""What a training calls after each step."""
