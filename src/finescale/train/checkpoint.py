"""Checkpoints: the state of a training on disk, from which it resumes as if it had never stopped."""

from __future__ import annotations

import dataclasses
import pickle
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from finescale.errors import CheckpointError, WeightsError, printable_name
from finescale.settings import group_of
from finescale.system.files import TEMPORARY_PREFIX, whole_file
from finescale.train.folder import writing
from finescale.train.settings import TrainSettings
from finescale.weightfiles.tensors import check_archive

MAY_CHANGE = {
    "output",
    "licence",
    "train.iterations",
    "train.milestones",
    "train.accumulate",
    "train.checkpointing",
    "train.compile",
    "train.strategy",
    "train.bad_steps",
    "train.explosion",
    *(f"validation.{field}" for field in ("hr", "lr", "sets", "border", "channel", "every", "seconds", "pictures")),
    *(f"keep.{field}" for field in ("every", "last", "log_every", "tensorboard", "tracker")),
}
"""Settings that a resumed training may change: they affect the steps already done at most by rounding."""

_STATE = "standing"
"""Key of the training's state in the file of a checkpoint."""

USUAL_OVER = 100
"""Number of good steps over which a loss is averaged to find its usual value."""


@dataclass
class TrainingState:
    """Progress of a training, apart from what the network has learned."""

    step: int = 0
    """Steps done, skipped ones included."""
    passed_over: int = 0
    """Number of steps whose samples were skipped when the training went back to a checkpoint."""
    good: int = 0
    """Steps that changed the weights."""
    bad: int = 0
    """Steps that were skipped because their loss or gradients exploded."""
    bad_in_a_row: int = 0
    """Bad steps since the last good one."""
    went_back_to: int | None = None
    """Step of the checkpoint that the training last went back to."""
    best: float | None = None
    """Highest PSNR of all validations, in decibels."""
    usual: dict[str, float] = dataclasses.field(default_factory=dict)
    """Each loss, unweighted, averaged over about the last `USUAL_OVER` good steps."""

    def count(self, losses: Mapping[str, float], *, is_bad: bool) -> None:
        """Count a step; the losses of a bad one do not enter the usual values."""
        if is_bad:
            self.bad += 1
            self.bad_in_a_row += 1
            return
        self.bad_in_a_row = 0
        self.good += 1
        share = 1 / min(self.good, USUAL_OVER)
        for name, loss in losses.items():
            before = self.usual.get(name, loss)
            self.usual[name] = before + share * (loss - before)


@dataclass(frozen=True)
class Checkpoint:
    """All that the next step depends on; samples, random numbers and learning rate follow from settings and step."""

    settings: dict[str, Any]
    """The settings of the training, as plain values."""
    devices: int
    """Number of processes that trained together."""
    state: TrainingState
    """How far the training is."""
    learner: dict[str, Any]
    """Result of `Learner.state`: all tensors whole, so that any number of devices can continue from it."""

    def save(self, path: Path) -> None:
        """Write to disk; at any moment the file is a complete checkpoint, or does not exist.

        Raises:
            DataError: The file cannot be written.
        """
        values = {name: value for name, value in self.__dict__.items() if name != "state"}
        with writing(path), whole_file(path) as file:
            try:
                torch.save({**values, _STATE: asdict(self.state)}, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch replaces it while it closes its archive
                    raise error.__context__ from None
                raise

    @staticmethod
    def load(path: Path, settings: TrainSettings) -> Checkpoint:
        """Read the checkpoint of a training with these settings; the checksums of its content are compared first.

        Raises:
            CheckpointError: The checkpoint is damaged or cannot be read, or is of a training with other settings.
        """
        try:
            file = path.open("rb")
        except OSError as error:
            raise CheckpointError(f"{printable_name(path)}: cannot be read ({error.strerror})") from None
        try:
            with file:
                check_archive(file)
                file.seek(0)
                values = {**torch.load(file, map_location="cpu", weights_only=True)}
            checkpoint = Checkpoint(state=TrainingState(**values.pop(_STATE)), **values)
            then = _flat(checkpoint.settings)
        except WeightsError as error:
            raise _unreadable(path, str(error).partition(";")[0]) from None
        except (
            # All that another program's file, and a seek to where its archive should begin, can lead to.
            RuntimeError, TypeError, ValueError, LookupError, AttributeError, EOFError, OSError, pickle.UnpicklingError,
        ) as error:  # fmt: skip
            raise _unreadable(path, f"damaged, or of another kind: {type(error).__name__}") from None
        now = _flat(settings.model_dump(mode="json"))
        changed = [
            "{} was {!r}, is {!r}".format(field, *_differences(then.get(field), value))
            for field, value in now.items()
            if field not in MAY_CHANGE and then.get(field) != value
        ]
        if changed:
            raise CheckpointError(
                f"{path}: the training was started with other settings; restore them or choose another name: "
                f"{'; '.join(changed)}"
            )
        return checkpoint


class Checkpoints:
    """Folder with the last checkpoints of a training.

    Args:
        folder: The folder; created when the first checkpoint is saved.
        last: Number of checkpoints to keep.
    """

    def __init__(self, folder: Path, *, last: int) -> None:
        self._folder = folder
        self._last = last

    def latest(self) -> Path | None:
        """Return the newest checkpoint; None where there is none."""
        return next(iter(_newest_first(self._folder)), None)

    def save(self, checkpoint: Checkpoint) -> None:
        """Save a checkpoint; delete the oldest beyond the limit, and files that a killed process left half written."""
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(self._folder / f"step_{checkpoint.state.step:08d}.pt")
        with writing(self._folder):
            for path in (*_newest_first(self._folder)[self._last :], *self._folder.glob(f"{TEMPORARY_PREFIX}*")):
                path.unlink()


def _newest_first(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, that of the most steps first."""
    names = ((re.fullmatch(r"step_(\d+)\.pt", path.name), path) for path in folder.glob("step_*.pt"))
    steps = {path: int(name[1]) for name, path in names if name}
    return sorted(steps, key=lambda path: steps[path], reverse=True)


def _unreadable(path: Path, reason: str) -> CheckpointError:
    """Return the error of a damaged checkpoint; it says whether there is an older one to resume from."""
    found = _newest_first(path.parent)
    older = found[found.index(path) + 1 :] if path in found else []
    remedy = f"resume from {older[0].name}, the one before" if older else "restart, since there is no older one"
    return CheckpointError(f"{printable_name(path)}: not a readable checkpoint ({reason}); delete it to {remedy}")


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Flatten settings to plain values; fields of a group get its name and a dot in front."""
    flat: dict[str, Any] = {}
    for field, value in values.items():
        if field in TrainSettings.model_fields and group_of(TrainSettings.model_fields[field]):
            flat.update({f"{field}.{key}": inner for key, inner in value.items()})
        else:
            flat[field] = value
    return flat


def _differences(one: Any, other: Any) -> tuple[Any, Any]:
    """Return two values, without the fields that are equal in both."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return one, other
    same = {key for key in one.keys() & other.keys() if one[key] == other[key]}
    left, right = ({key: value for key, value in each.items() if key not in same} for each in (one, other))
    return left, right
