"""Progress of a training, reported after each step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training after one of its steps."""

    step: int
    """Steps done."""
    iterations: int
    """Steps in all."""
    loss: float | None = None
    """Loss of the last step."""
    psnr_y: float | None = None
    """PSNR of the latest validation, in dB."""


OnStep = Callable[[TrainingProgress], None]
"""Function that a training calls after each step."""
