from __future__ import annotations

import errno
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch

import finescale.train.checkpoint
from finescale.errors import CheckpointError, DataError
from finescale.train.checkpoint import MAY_CHANGE, Checkpoint, Checkpoints, TrainingState
from finescale.train.settings import TrainSettings
from training_run import changed

SETTINGS = TrainSettings.model_validate(
    {"name": "a", "variant": "hit-sir", "scale": 2, "data": {"hr": ["pictures"]}, "train": {"iterations": 10}}
)


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint(
        settings=SETTINGS.model_dump(mode="json"),
        devices=2,
        state=TrainingState(step=7, bad=1, best=31.5),
        learner={
            "weights": {"a": torch.randn(2, 3)},
            "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        },
    )


@pytest.fixture
def file(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path)
    return path


def test_a_checkpoint_is_read_back_equal(checkpoint: Checkpoint, file: Path) -> None:
    loaded = Checkpoint.load(file, SETTINGS)
    assert (loaded.settings, loaded.devices, loaded.state) == (checkpoint.settings, 2, checkpoint.state)
    assert torch.equal(loaded.learner["weights"]["a"], checkpoint.learner["weights"]["a"])
    assert loaded.learner["optimizer"] == checkpoint.learner["optimizer"]


def test_nothing_but_the_checkpoint_is_left_in_the_folder(file: Path) -> None:
    assert list(file.parent.iterdir()) == [file]


def test_a_checkpoint_that_cannot_be_written_whole_leaves_the_old_one(checkpoint: Checkpoint, file: Path) -> None:
    before = file.read_bytes()
    unwritable = replace(checkpoint, learner={"hook": lambda: None})
    with pytest.raises(Exception, match="lambda"):
        unwritable.save(file)
    assert file.read_bytes() == before
    assert Checkpoint.load(file, SETTINGS).state.step == 7


def test_settings_that_do_not_touch_the_steps_done_may_change(file: Path) -> None:
    free = changed(
        SETTINGS,
        output="elsewhere",
        licence="mine",
        train={
            "iterations": 20, "milestones": [8], "accumulate": 2, "checkpointing": True, "compile": True,
            "strategy": "fsdp", "bad_steps": 3, "explosion": 9.0,
        },
        validation={
            "hr": "others", "lr": "small", "border": 2, "channel": "rgb", "every": 3, "seconds": 5, "pictures": 4,
        },
        keep={"every": 4, "last": 5, "log_every": 5, "tensorboard": True, "tracker": "trackio"},
    )  # fmt: skip
    other_sets = changed(SETTINGS, validation={"sets": {"Set5": {"hr": "others"}}})
    assert fields_that_differ(SETTINGS, free) | fields_that_differ(SETTINGS, other_sets) == MAY_CHANGE
    assert Checkpoint.load(file, free).state.step == 7
    assert Checkpoint.load(file, other_sets).state.step == 7


def fields_that_differ(one: TrainSettings, other: TrainSettings) -> set[str]:
    found = set()
    for name in TrainSettings.model_fields:
        before, after = getattr(one, name), getattr(other, name)
        if before != after:
            fields = getattr(type(before), "model_fields", None)
            inner = {f"{name}.{field}" for field in fields or () if getattr(before, field) != getattr(after, field)}
            found |= inner or {name}
    return found


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train": {"lr": 1e-3}}, "train.lr was 0.0005, is 0.001"),
        ({"scale": 3}, "scale was 2, is 3"),
        ({"data": {"hr": ["others"]}}, "data.hr was ['pictures'], is ['others']"),
        ({"train": {"betas": (0.8, 0.99)}}, "train.betas was [0.9, 0.99], is [0.8, 0.99]"),
        ({"train": {"loss": {"mse": 1}}}, "train.loss was {'l1': 1.0}, is {'mse': 1.0}"),
        ({"network": {"mlp_ratio": 1.5}}, "network was {}, is {'mlp_ratio': 1.5}"),
        ({"warm_start": "x.pth"}, "warm_start was None, is 'x.pth'"),
        ({"train": {"seed": 1, "batch": 8}}, "train.batch was 16, is 8; train.seed was 1226, is 1"),
    ],
)
def test_other_changed_settings_are_all_named_with_both_values(file: Path, change: dict[str, Any], told: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(file, changed(SETTINGS, **change))
    assert str(caught.value).endswith(f"with other settings; restore them or choose another name: {told}")


def test_a_training_is_not_resumed_with_another_degradation(checkpoint: Checkpoint, tmp_path: Path) -> None:
    plain, mild, strong = (
        changed(SETTINGS, data={"degradation": degradation}) for degradation in (None, {}, {"blur": 0.9, "noise": 0.4})
    )
    for before, after, told in (
        (plain, mild, "data.degradation was None, is {'clean': 0.15, "),
        (mild, plain, "'subsampled': 0.7}, is None"),
        (mild, strong, "data.degradation was {'blur': 0.5}, is {'blur': 0.9}"),
    ):
        path = tmp_path / "degraded.pt"
        replace(checkpoint, settings=before.model_dump(mode="json")).save(path)
        assert Checkpoint.load(path, before).state.step == 7
        with pytest.raises(CheckpointError) as caught:
            Checkpoint.load(path, after)
        assert told in str(caught.value)


def damaged(content: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "text": b"step: 7\n",
        "halved": content[: len(content) // 2],
        "cut at the end": content[:-40],
        "beginning lost": content[100:],
        "a web page": b"<!doctype html><html>",
    }


@pytest.mark.parametrize("damage", damaged(b""))
def test_a_damaged_checkpoint_is_told(file: Path, damage: str) -> None:
    file.write_bytes(damaged(file.read_bytes())[damage])
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: not a readable checkpoint \(.+\); delete it") as caught:
        Checkpoint.load(file, SETTINGS)
    assert "\n" not in str(caught.value)


def test_tensors_that_the_archive_calls_folders_are_refused(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for found in re.finditer(rb"PK\x01\x02", bytes(content)):  # the central directory
        content[found.start() + 38] |= 0x10  # PyTorch reads nothing then, and leaves the memory as it finds it
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: not a readable checkpoint \(damaged"):
        Checkpoint.load(file, SETTINGS)


def test_no_flipped_byte_goes_unnoticed(checkpoint: Checkpoint, file: Path) -> None:
    content = bytearray(file.read_bytes())
    refusals = []
    for place in range(0, len(content), 3):
        content[place] ^= 0x10
        file.write_bytes(content)
        content[place] ^= 0x10
        try:
            loaded = Checkpoint.load(file, SETTINGS)
        except CheckpointError as error:
            refusals.append(str(error))
        else:  # in the padding between two records
            assert (loaded.settings, loaded.devices, loaded.state) == (checkpoint.settings, 2, checkpoint.state)
            assert torch.equal(loaded.learner["weights"]["a"], checkpoint.learner["weights"]["a"])
            assert loaded.learner["optimizer"] == checkpoint.learner["optimizer"]
    records = sum(record.file_size for record in zipfile.ZipFile(BytesIO(content)).infolist())
    assert len(refusals) > records / 3
    assert all("not a readable checkpoint" in told and "\n" not in told for told in refusals)


def test_a_flipped_byte_in_a_tensor_is_told_with_what_is_left(checkpoint: Checkpoint, tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, last=3)
    for step in (5, 10, 15):
        kept.save(replace(checkpoint, state=TrainingState(step=step)))
    for step, remedy in (
        (15, "resume from step_00000010.pt, the one before"),
        (5, "restart, since there is no older one"),
    ):
        path = tmp_path / f"step_{step:08d}.pt"
        content = path.read_bytes()
        weights = checkpoint.learner["weights"]["a"].numpy().tobytes()
        damaged = bytearray(weights)
        damaged[7] ^= 1
        path.write_bytes(content.replace(weights, damaged))
        with pytest.raises(CheckpointError) as caught:
            Checkpoint.load(path, SETTINGS)
        reason = r"damaged \(the checksum of '[^']*/data/\d' is wrong\)"
        assert re.fullmatch(
            rf"{re.escape(str(path))}: not a readable checkpoint \({reason}\); delete it to {remedy}", str(caught.value)
        )
        path.write_bytes(content)
    assert Checkpoint.load(tmp_path / "step_00000005.pt", SETTINGS).state.step == 5


def test_a_checkpoint_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").mkdir()
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: cannot be read \(Is a directory\)$"):
        Checkpoint.load(tmp_path / "checkpoint.pt", SETTINGS)


class FullDisk:
    """A file of which no more than some bytes find room."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, data: bytes) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return len(data)

    def flush(self) -> None: ...


@pytest.mark.parametrize("room", [0, 100, 1000, 3000])
def test_a_full_disk_is_told_and_the_old_checkpoint_stays(
    checkpoint: Checkpoint, file: Path, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def whole_file(_path: Path) -> Iterator[FullDisk]:
        yield FullDisk(room)

    before = file.read_bytes()
    monkeypatch.setattr(finescale.train.checkpoint, "whole_file", whole_file)
    sentence = r"checkpoint\.pt: cannot be written \(No space left on device\); free some space and resume"
    with pytest.raises(DataError, match=sentence):
        checkpoint.save(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content", [{"weights": {}}, {"params": {"a": torch.zeros(1)}}, [1, 2], torch.zeros(3)], ids=str
)
def test_a_file_of_another_kind_is_told(file: Path, content: object) -> None:
    torch.save(content, file)
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: not a readable checkpoint"):
        Checkpoint.load(file, SETTINGS)


class Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("trapped"),)


def test_code_in_a_checkpoint_is_not_run(checkpoint: Checkpoint, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    replace(checkpoint, learner={"trap": Trap()}).save(file)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        Checkpoint.load(file, SETTINGS)
    assert not Path("trapped").exists()


# ---- the folder


def test_the_last_checkpoints_are_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    kept = Checkpoints(folder, last=2)
    assert kept.latest() is None
    for step in (5, 10, 100_000_000, 15):
        kept.save(replace(checkpoint, state=TrainingState(step=step)))
    assert {path.name for path in folder.iterdir()} == {"step_100000000.pt", "step_00000015.pt"}


def test_the_newest_checkpoint_is_the_one_of_the_most_steps(checkpoint: Checkpoint, tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, last=3)
    for step in (99_999_999, 100_000_000):
        kept.save(replace(checkpoint, state=TrainingState(step=step)))
    latest = kept.latest()
    assert latest is not None
    assert latest.name == "step_100000000.pt"


def test_what_a_killed_process_left_half_written_is_cleared_away(checkpoint: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / ".finescale-0123456789ab").write_bytes(b"half")
    Checkpoints(tmp_path, last=1).save(checkpoint)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000007.pt"]


def test_the_usual_loss_is_the_mean_at_first_and_then_follows_by_a_hundredth() -> None:
    state = TrainingState()
    for loss in range(100):
        state.count({"l1": float(loss)}, is_bad=False)
    assert state.usual["l1"] == pytest.approx(sum(range(100)) / 100)
    for _ in range(2):
        before = state.usual["l1"]
        state.count({"l1": 1000.0}, is_bad=False)
        assert state.usual["l1"] == pytest.approx(before + (1000 - before) / 100)
