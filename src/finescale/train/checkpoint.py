"""A training's state on disk, from which it goes on as if it had never stopped."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finescale.errors import CheckpointError
from finescale.files import whole_file
from finescale.train.settings import TrainSettings

MAY_CHANGE = {
    "output",
    "licence",
    "iterations",
    "milestones",
    "validation",
    "validate_every",
    "checkpoint_every",
    "log_every",
}
"""Settings that a resumed training may change: they do not touch the steps already done."""


@dataclass(frozen=True)
class Checkpoint:
    """All that the next step depends on; samples and learning rate follow from settings and step."""

    settings: dict[str, Any]
    """The settings of the training, as plain values."""
    step: int
    """Steps done."""
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizer: dict[str, Any]

    def save(self, path: Path) -> None:
        """Write to disk; at any moment there is one whole checkpoint under the name."""
        with whole_file(path) as file:
            torch.save(self.__dict__, file)

    @staticmethod
    def load(path: Path, settings: TrainSettings) -> Checkpoint:
        """Read the checkpoint of a training with these settings.

        Raises:
            CheckpointError: There is none, it is damaged, or it is of a training with other settings.
        """
        if not path.exists():
            raise CheckpointError(f"{path}: there is no checkpoint to resume from")
        try:
            if not zipfile.is_zipfile(path):
                raise CheckpointError(f"{path}: not a readable checkpoint (truncated, or of another kind)")
            checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, TypeError, IndexError, pickle.UnpicklingError) as error:
            raise CheckpointError(f"{path}: not a readable checkpoint ({type(error).__name__})") from None
        now = settings.model_dump(mode="json")
        changed = [
            f"{field} was {checkpoint.settings.get(field)!r}, is {value!r}"
            for field, value in now.items()
            if field not in MAY_CHANGE and checkpoint.settings.get(field) != value
        ]
        if changed:
            raise CheckpointError(f"{path}: the training was started with other settings: {'; '.join(changed)}")
        return checkpoint
