"""A bar with the time left, for ``finescale train`` on a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from finescale.cli import console

if TYPE_CHECKING:
    from finescale.train.progress import OnStep, TrainingProgress


@contextmanager
def training_bar() -> Iterator[OnStep | None]:
    """A bar on standard error while the block runs: what to call after each step, or None where it is no terminal.

    What is said meanwhile through `finescale.cli.console` stands above the bar.
    """
    if not console.errors().is_terminal:
        yield None
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[told]}", markup=False),
        progress.TimeRemainingColumn(),
    )
    # A step may take many seconds; the speed is that of the last quarter of an hour.
    with progress.Progress(
        *columns, console=console.errors(), transient=True, refresh_per_second=2, speed_estimate_period=900
    ) as bar:
        task = bar.add_task("steps", total=None, told="")

        def show(now: TrainingProgress) -> None:
            bar.update(task, completed=now.step, total=now.iterations, told=_told(now))

        yield show


def _told(now: TrainingProgress) -> str:
    loss = "" if now.loss is None else f"loss {now.loss:.4f}"
    psnr = "" if now.psnr_y is None else f"PSNR {now.psnr_y:.2f} dB"
    return ", ".join(text for text in (loss, psnr) if text)
