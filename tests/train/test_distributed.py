"""Two real processes train as one does, started by torchrun or in its place."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor

from finescale import weights
from finescale.networks import variants
from finescale.settings import settings_text
from finescale.train import TrainSettings, loop, train
from finescale.train.distributed import Team, joined, with_plain_strides
from training_run import changed, run, run_by_torchrun, tiny_settings, write_textures


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    pictures = write_textures(tmp_path_factory.mktemp("shared_pictures"))
    settings = tiny_settings(pictures, tmp_path_factory.mktemp("shared"), "alone")
    return changed(settings, train={"iterations": 6}, validation={"every": 3}, keep={"every": 3, "log_every": 1})


@pytest.fixture(scope="module")
def alone(settings: TrainSettings) -> TrainSettings:
    """Trained by one process."""
    train(settings, device="cpu")
    return settings


def rows(settings: TrainSettings) -> list[dict[str, float]]:
    with (settings.output / settings.name / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def final(settings: TrainSettings) -> dict[str, Tensor]:
    return weights.load(settings.output / settings.name / "weights.safetensors").network.state_dict()


def assert_close(one: TrainSettings, other: TrainSettings) -> None:
    """Both had the same losses, up to rounding."""
    found = rows(other)
    assert [row.keys() for row in found] == [row.keys() for row in rows(one)]
    for row, expected in zip(found, rows(one), strict=True):
        assert row == pytest.approx(expected, rel=1e-4)


def test_gradients_get_the_strides_of_their_parameters_where_they_lie() -> None:
    gradient = torch.empty_strided((40, 1, 5, 5), (25, 1, 5, 1)).normal_()
    plain = with_plain_strides(gradient)
    assert plain.stride() == (25, 25, 5, 1)
    assert plain.data_ptr() == gradient.data_ptr()
    assert torch.equal(plain, gradient)


@pytest.mark.slow
def test_the_command_is_started_without_warnings(settings: TrainSettings, tmp_path: Path) -> None:
    network = variants()["hit-srf"].tiny["hit-srf"].model_dump(mode="json")  # with depthwise convolutions
    together = changed(settings, name="command", variant="hit-srf", network=network, train={"iterations": 2})
    file = tmp_path / "settings.yml"
    file.write_text(settings_text(together))
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # without it, torchrun itself warns that it sets it
    flags = ["-opt", str(file), "--launcher", "pytorch", "--device", "cpu"]
    command = [sys.executable, *launcher, "-m", "finescale", "train", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.casefold()
    assert done.stderr.count("note: --launcher has no effect") == 1
    assert final(together)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one_and_resume_to_the_bit(alone: TrainSettings, strategy: str) -> None:
    interrupt = run_by_torchrun if strategy == "ddp" else run  # either launcher will do, and torchrun is slow
    together = changed(alone, name=strategy, train={"strategy": strategy, "accumulate": 2})
    assert run(together, processes=2) == 0
    assert_close(alone, together)

    stopped = changed(together, name=f"{strategy}-stopped")
    assert interrupt(stopped, processes=2, fault={"terminate_at": 5, "rank": 1}) != 0
    checkpoints = {path.name for path in (stopped.output / stopped.name / "checkpoints").iterdir()}
    assert checkpoints == {"step_00000003.pt", "step_00000005.pt"}
    assert run(stopped, processes=2) == 0
    expected, resumed = final(together), final(stopped)
    assert [key for key in expected if not torch.equal(expected[key], resumed[key])] == []
    assert rows(stopped) == rows(together)


@pytest.mark.slow
def test_another_number_of_devices_goes_on_with_the_same_samples(alone: TrainSettings) -> None:
    moved = changed(alone, name="moved", train={"strategy": "fsdp"})
    assert run(changed(moved, train={"iterations": 3}), processes=2) == 0
    train(moved, device="cpu")
    assert_close(alone, moved)


def test_samples_that_cannot_be_dealt_out_are_refused(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def joined_of_three(_: str | None) -> Iterator[Team]:
        # Nothing is exchanged before the refusal but what the first process broadcasts, and there is no first one here.
        monkeypatch.setattr(Team, "broadcast", lambda _, value: value)
        yield Team(0, 3, torch.device("cpu"))

    monkeypatch.setattr(loop, "joined", joined_of_three)
    with pytest.raises(ValueError, match=r"train.batch must be a multiple of 3, devices times .*, got 4"):
        train(changed(settings, output=tmp_path), device="cpu")


def test_without_torchrun_a_process_is_alone() -> None:
    with joined("cpu") as team:
        assert (team.rank, team.world, team.is_first) == (0, 1, True)
        assert team.broadcast("a") == "a"
        assert torch.equal(team.mean(torch.tensor([3.0])), torch.tensor([3.0]))
    assert not torch.distributed.is_initialized()
