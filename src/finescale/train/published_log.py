"""Messages of a training's text log in the form of BasicSR's, which its users search and plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

_PIXEL_LOSSES = ("l1", "charbonnier", "mse")
"""Losses that BasicSR's logs call "l_pix"."""


def step_message(
    name: str,
    *,
    step: int,
    epoch: int,
    rate: float,
    seconds_left: float,
    seconds: float,
    waited: float,
    losses: Mapping[str, float],
) -> str:
    """Return the message of a step: ``[mine..][epoch:  0, iter:     200, lr:(5.000e-04,)] [eta: ...] l_pix: ...``.

    Args:
        name: Name of the training, of which five letters are shown.
        step: Steps done.
        epoch: How many times the samples so far cover the training's pictures, rounded down.
        rate: Learning rate of the step.
        seconds_left: Time until the last step.
        seconds: Time for a step.
        waited: The part of it spent waiting for samples.
        losses: Weighted losses by our names.
    """
    named: dict[str, float] = {}
    for loss, value in losses.items():
        key = "l_pix" if loss in _PIXEL_LOSSES else f"l_{loss}"
        named[key] = named.get(key, 0.0) + value
    values = " ".join(f"{key}: {value:.4e}" for key, value in named.items())
    eta = timedelta(seconds=int(seconds_left))
    return (
        f"[{name[:5]}..][epoch:{epoch:3d}, iter:{step:8,d}, lr:({rate:.3e},)] "
        f"[eta: {eta}, time (data): {seconds:.3f} ({waited:.3f})] {values}"
    )


def validation_messages(
    sets: Iterable[str], scores: Mapping[str, float], best: Mapping[str, tuple[float, int]]
) -> list[str]:
    """Return a message of several lines for each set: ``Validation Set5``, ``# psnr: 31.7000``, ``# ssim: 0.8881``.

    Args:
        sets: Names of the sets.
        scores: Result of `finescale.train.validation.Validation.run`.
        best: The best value of each column so far, and the step it was measured after.
    """
    names = list(sets)
    messages = []
    for name in names:
        ending = f"_{name}" if len(names) > 1 else ""
        columns = {
            column: value
            for column, value in scores.items()
            if column in (f"{metric}_{channel}{ending}" for metric in ("psnr", "ssim") for channel in ("y", "rgb"))
        }
        lines = [f"Validation {name}"]
        for column, value in columns.items():
            highest, step = best[column]
            metric = column.partition("_")[0]
            lines.append(f"\t # {metric}: {value:.4f}\tBest: {highest:.4f} @ {step} iter")
        if columns:  # none where the time limit left out the whole set
            messages.append("\n".join(lines))
    return messages
