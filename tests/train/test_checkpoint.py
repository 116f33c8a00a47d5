from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale.errors import CheckpointError
from finescale.train.checkpoint import MAY_CHANGE, Checkpoint
from finescale.train.settings import TrainSettings

SETTINGS = TrainSettings(name="a", variant="hit-sir", scale=2, hr=(Path("pictures"),), iterations=10)


def changed(**fields: Any) -> TrainSettings:
    return TrainSettings.model_validate({**SETTINGS.model_dump(), **fields})


@pytest.fixture
def checkpoint() -> Checkpoint:
    return Checkpoint(
        settings=SETTINGS.model_dump(mode="json"),
        step=7,
        weights={"a": torch.randn(2, 3)},
        average={"a": torch.randn(2, 3)},
        optimizer={"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
    )


@pytest.fixture
def file(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path)
    return path


def test_a_checkpoint_is_read_back_equal(checkpoint: Checkpoint, file: Path) -> None:
    loaded = Checkpoint.load(file, SETTINGS)
    assert (loaded.settings, loaded.step) == (checkpoint.settings, 7)
    assert torch.equal(loaded.weights["a"], checkpoint.weights["a"])
    assert torch.equal(loaded.average["a"], checkpoint.average["a"])
    assert loaded.optimizer == checkpoint.optimizer


def test_nothing_but_the_checkpoint_is_left_in_the_folder(file: Path) -> None:
    assert list(file.parent.iterdir()) == [file]


def test_a_checkpoint_that_cannot_be_written_whole_leaves_the_old_one(checkpoint: Checkpoint, file: Path) -> None:
    before = file.read_bytes()
    unwritable = replace(checkpoint, optimizer={"hook": lambda: None})
    with pytest.raises(Exception, match="lambda"):
        unwritable.save(file)
    assert file.read_bytes() == before
    assert Checkpoint.load(file, SETTINGS).step == 7


def test_settings_that_do_not_touch_the_steps_done_may_change(file: Path) -> None:
    free = changed(
        output="elsewhere", iterations=20, milestones=(8, 15), validation="others", validate_every=3,
        checkpoint_every=4, log_every=5, licence="mine",
    )  # fmt: skip
    assert {
        field for field in TrainSettings.model_fields if getattr(free, field) != getattr(SETTINGS, field)
    } == MAY_CHANGE
    assert Checkpoint.load(file, free).step == 7


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("learning_rate", 1e-3, "learning_rate was 0.0005, is 0.001"),
        ("scale", 3, "scale was 2, is 3"),
        ("hr", ["others"], "hr was ['pictures'], is ['others']"),
        ("betas", (0.8, 0.99), "betas was [0.9, 0.99], is [0.8, 0.99]"),
        ("network", {"mlp_ratio": 1.5}, "network was {}, is {'mlp_ratio': 1.5}"),
        ("warm_start", "x.pth", "warm_start was None, is 'x.pth'"),
    ],
)
def test_other_changed_settings_are_named_with_both_values(file: Path, field: str, value: object, told: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        Checkpoint.load(file, changed(**{field: value}))
    assert str(caught.value) == f"{file}: the training was started with other settings: {told}"


def test_all_changed_settings_are_named_at_once(file: Path) -> None:
    with pytest.raises(CheckpointError, match="batch was 16, is 8; seed was 1226, is 1"):
        Checkpoint.load(file, changed(seed=1, batch=8))


def test_a_missing_checkpoint_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none.pt: there is no checkpoint to resume from"):
        Checkpoint.load(tmp_path / "none.pt", SETTINGS)


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
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: not a readable checkpoint \(.+\)") as caught:
        Checkpoint.load(file, SETTINGS)
    assert "\n" not in str(caught.value)


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
    replace(checkpoint, optimizer={"trap": Trap()}).save(file)
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        Checkpoint.load(file, SETTINGS)
    assert not Path("trapped").exists()
