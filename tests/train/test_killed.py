"""A training that is killed at any moment, and resumed, ends with the weights of one that never stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finescale import weights
from finescale.train import TrainSettings, train
from training_run import changed, run, tiny_settings, write_textures

KILLED = -9


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    """Short, with a checkpoint at every second step."""
    pictures = write_textures(tmp_path_factory.mktemp("killed_pictures"))
    settings = tiny_settings(pictures, tmp_path_factory.mktemp("killed"), "whole")
    return changed(settings, train={"iterations": 6}, keep={"every": 2})


@pytest.fixture(scope="module")
def expected(settings: TrainSettings) -> dict[str, torch.Tensor]:
    return weights.load(train(settings, device="cpu")).network.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "left"),
    [
        ({"kill_at": 2}, []),
        ({"kill_at": 4}, ["step_00000002.pt"]),
        ({"kill_in_write": 1, "after": 1}, []),
        ({"kill_in_write": 2, "after": 1000}, ["step_00000002.pt"]),
        ({"kill_in_write": 2, "after": 80_000}, ["step_00000002.pt"]),
        ({"kill_in_write": 3, "after": 150_000}, ["step_00000002.pt", "step_00000004.pt"]),
    ],
    ids=str,
)
def test_a_killed_training_resumes_to_the_same_weights(
    settings: TrainSettings, expected: dict[str, torch.Tensor], tmp_path: Path, fault: dict[str, Any], left: list[str]
) -> None:
    killed = changed(settings, name="killed", output=tmp_path)
    assert run(killed, fault=fault) == KILLED
    checkpoints = tmp_path / "killed" / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("step_*")) == left
    if "kill_in_write" in fault:
        assert list(checkpoints.glob(".finescale-*")), "the kill did not come within the writing"
    resumed = weights.load(train(killed, device="cpu")).network.state_dict()
    assert [key for key in expected if not torch.equal(expected[key], resumed[key])] == []
    assert sorted(path.name for path in checkpoints.iterdir()) == ["step_00000004.pt", "step_00000006.pt"]
