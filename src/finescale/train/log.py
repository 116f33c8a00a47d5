"""Log of a training: ``metrics.csv``, a picture of its curves, and optionally TensorBoard and a tracking service."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Protocol

from finescale.errors import CheckpointError, DataError, MissingExtraError, printable_name
from finescale.figures import svg
from finescale.figures.curves import Panel, Series, draw_curves
from finescale.system.files import whole_file
from finescale.train.folder import writing
from finescale.train.settings import KeepSettings, TrainSettings

_NO_TENSORBOARD = "keep.tensorboard needs the package tensorboard; install it with: pip install 'finescale[train]'"

_METRICS, _TENSORBOARD, _CURVE = "metrics.csv", "tensorboard", "curve.png"

_CURVES = {"loss": "loss", "psnr_y": "validation PSNR, dB", "psnr_rgb": "validation PSNR in RGB, dB"}
"""Columns that are drawn, and their names in the picture."""


class Log:
    """Writer of a training's numbers to ``metrics.csv`` and the other places that the settings name.

    Attributes:
        best: Highest value of each column of a validation so far, and the step it was measured after.

    When a training resumes, rows beyond the last checkpoint are dropped, since their steps are repeated.

    Args:
        folder: The training's folder, which exists.
        settings: Settings of the training.
        done_step: Steps done before: 0, or those of the checkpoint that the training resumes from.

    Raises:
        MissingExtraError: TensorBoard or the tracking service is requested but not installed.
        CheckpointError: ``metrics.csv`` is damaged.
        DataError: It cannot be written.
    """

    def __init__(self, folder: Path, settings: TrainSettings, *, done_step: int) -> None:
        followers: list[_Follower] = []
        if settings.keep.tensorboard:
            followers.append(_TensorBoard(folder / _TENSORBOARD, done_step))
        if settings.keep.tracker != "none":
            followers.append(_Tracker(settings))
        self._followers = followers
        self._path = folder / _METRICS
        rows = _read_rows(self._path) if self._path.exists() else []
        kept = [row for row in rows if int(row["step"]) <= done_step]
        self._columns = list(dict.fromkeys(["step", *(name for row in kept for name, value in row.items() if value)]))
        self._write(kept)
        self.best: dict[str, tuple[float, int]] = {}
        for row in kept:
            self._note_best(int(row["step"]), {name: float(value) for name, value in row.items() if value})

    def add(self, *, step: int, **values: float) -> None:
        """Add one row.

        Args:
            step: Number of steps done.
            values: Numbers by column; columns may be new.

        Raises:
            DataError: They cannot be written.
        """
        new = [name for name in values if name not in self._columns]
        if new:
            rows = _read_rows(self._path)
            self._columns += new
            self._write(rows)
        with writing(self._path), self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns).writerow({"step": step, **values})
        self._note_best(step, values)
        for follower in self._followers:
            follower.add(step, values)

    def _note_best(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            is_better = name not in self.best or value > self.best[name][0]
            if name.startswith(("psnr_", "ssim_")) and is_better:
                self.best[name] = value, step

    def close(self) -> None:
        """Close TensorBoard and the tracking service."""
        for follower in self._followers:
            follower.close()

    def _write(self, rows: Sequence[Mapping[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        with writing(self._path), whole_file(self._path) as file:
            file.write(text.getvalue().encode())


def check_places(keep: KeepSettings) -> None:
    """Refuse places for a training's numbers whose packages are missing.

    Raises:
        MissingExtraError: TensorBoard or the tracking service is requested but not installed.
    """
    if keep.tensorboard and not has_tensorboard():
        raise MissingExtraError(_NO_TENSORBOARD)
    if keep.tracker != "none" and find_spec(keep.tracker) is None:
        raise _missing_service(keep.tracker)


def has_tensorboard() -> bool:
    """Return whether the package tensorboard is installed."""
    return find_spec("tensorboard") is not None


def plot_curve(folder: Path) -> Path:
    """Draw the loss and the validation PSNR of a training over its steps, as ``curve.png`` beside its ``metrics.csv``.

    Args:
        folder: The training's folder.

    Returns:
        The picture.

    Raises:
        DataError: There is nothing to draw yet.
        CheckpointError: ``metrics.csv`` is damaged.
        ImageWriteError: The picture cannot be written.
    """
    svg.write_figure(folder / _CURVE, draw_trainings([folder]), density=1)
    return folder / _CURVE


def draw_trainings(folders: Sequence[Path], *, first_step: int = 0) -> str:
    """Draw the loss and the validation PSNR of trainings over their steps, one line for each training.

    Args:
        folders: Their folders, at least one; those of equal names are told apart by the folders around them.
        first_step: Step from which on values are drawn; the first ones often hide the differences of the last ones.

    Returns:
        An SVG document.

    Raises:
        DataError: There is nothing to draw of a training.
        CheckpointError: A ``metrics.csv`` is damaged.
        ValueError: A folder is named twice.
    """
    places = [folder.resolve() for folder in folders]
    if len(set(places)) < len(places):
        raise ValueError(f"each training must be named once, got {', '.join(map(str, folders))}")
    names = [place.name for place in places]
    labels = [place.name if names.count(place.name) == 1 else f"{place.parent.name}/{place.name}" for place in places]
    rows = [_drawable_rows(folder, first_step) for folder in folders]
    panels = []
    for column, name in _CURVES.items():
        points = [[(int(row["step"]), float(row[column])) for row in of_one if row.get(column)] for of_one in rows]
        lines = [Series(label, line) for label, line in zip(labels, points, strict=True) if line]
        if lines:
            panels.append(Panel(name, lines))
    title = labels[0] if len(labels) == 1 else f"{len(labels)} trainings"
    return draw_curves(panels, title=title, first_step=first_step)


def _drawable_rows(folder: Path, first_step: int) -> list[dict[str, str]]:
    path = folder / _METRICS
    rows = [row for row in (_read_rows(path) if path.exists() else []) if any(row.get(name) for name in _CURVES)]
    later = [row for row in rows if int(row["step"]) >= first_step]
    if not rows:
        raise DataError(f"{printable_name(path)} has no values to draw yet; let the training run to its first report")
    if not later:
        raise DataError(f"{printable_name(path)} has no values from step {first_step:,} on; draw from an earlier step")
    return later


class _Follower(Protocol):
    """Another place that the numbers go to."""

    def add(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Path, done_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError(_NO_TENSORBOARD) from None
        self._folder = folder
        with writing(folder):
            self._writer = SummaryWriter(folder, purge_step=done_step + 1 if done_step else None)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        with writing(self._folder):
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
            self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Tracker:
    """Weights & Biases, or trackio, which has the same functions."""

    def __init__(self, settings: TrainSettings) -> None:
        self._service = _import_service(settings.keep.tracker)
        self._service.init(
            project="finescale",
            name=settings.name,
            config=settings.shareable(),
            resume="allow",
        )

    def add(self, step: int, values: Mapping[str, float]) -> None:
        self._service.log(dict(values), step=step)

    def close(self) -> None:
        self._service.finish()


def _import_service(name: str) -> ModuleType:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise _missing_service(name) from None


def _missing_service(name: str) -> MissingExtraError:
    return MissingExtraError(f"keep.tracker needs the package {name}; install it with: pip install {name}")


def _read_rows(path: Path) -> list[dict[str, str]]:
    """Read the rows of ``metrics.csv``, except one that was cut off when the program was killed."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    rows = list(csv.DictReader(whole))
    if any(None in row or not row.get("step", "").isdecimal() for row in rows):
        raise CheckpointError(f"{printable_name(path)}: damaged; delete it, or name another training")
    return rows
