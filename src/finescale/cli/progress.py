"""The progress bars of all verbs: on a terminal, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from finescale.cli import console
from finescale.errors import printable_name

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from finescale.train.progress import OnStep, TrainingProgress


class Bars:
    """Bars on standard error, one for each named kind of work; without a terminal calls have no effect.

    Args:
        progress: Draws them; None where there is no terminal.
    """

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    @property
    def are_drawn(self) -> bool:
        """Whether there is a terminal to draw on."""
        return self._progress is not None

    def show(self, work: str, done: int, total: int | None, *, label: str | None = None, note: str = "") -> None:
        """Draw a bar, a new one for work that has none yet.

        Args:
            work: Which bar.
            done: How many parts are done.
            total: Of how many; None where that is not known yet.
            label: Text before the bar; None shows ``work``.
            note: Text behind the count.
        """
        if self._progress is None:
            return
        text = work if label is None else printable_name(label)
        if work in self._tasks:
            self._progress.update(self._tasks[work], description=text, completed=done, total=total, note=note)
        else:
            self._tasks[work] = self._progress.add_task(text, completed=done, total=total, note=note)


@contextmanager
def bars(*, slow_steps: bool = False) -> Iterator[Bars]:
    """Show progress bars with the time left while the block runs; messages of `console` appear above them.

    Args:
        slow_steps: A step may take many seconds: the speed is then that of the last quarter of an hour.
    """
    if not console.errors().is_terminal:
        yield Bars(None)
        return
    from rich import progress

    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[note]}", markup=False),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(
        *columns,
        console=console.errors(),
        transient=True,
        refresh_per_second=2 if slow_steps else 10,
        speed_estimate_period=900 if slow_steps else 30,
    ) as drawn:
        yield Bars(drawn)


@contextmanager
def training_bar() -> Iterator[OnStep | None]:
    """Show the steps of a training while the block runs; yield its callback, or None without a terminal."""
    if not console.errors().is_terminal:
        yield None
        return
    with bars(slow_steps=True) as shown:

        def show(now: TrainingProgress) -> None:
            loss = "" if now.loss is None else f"loss {now.loss:.4f}"
            psnr = "" if now.psnr_y is None else f"PSNR {now.psnr_y:.2f} dB"
            shown.show("steps", now.step, now.iterations, note=", ".join(text for text in (loss, psnr) if text))

        yield show
