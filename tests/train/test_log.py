"""The numbers of a training: nothing is lost, nothing is there twice."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from finescale.errors import CheckpointError, DataError, MissingExtraError
from finescale.images import read_image
from finescale.settings import parse_settings
from finescale.train.log import Log, plot_curve
from finescale.train.settings import TrainSettings


def settings(**keep: Any) -> TrainSettings:
    values = {
        "name": "mine",
        "variant": "hit-sir",
        "scale": 4,
        "warm_start": "/home/me/w.pth",
        "output": "/home/me/out",
    }
    data = {"hr": ["/home/me/hr"], "lr": ["/home/me/lr"]}
    return parse_settings(
        TrainSettings,
        {**values, "data": data, "validation": {"hr": "/home/me/val"}, "train": {"iterations": 9}, "keep": keep},
        source="test",
    )


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_row_is_written_at_once_and_columns_come_as_they_are_needed(tmp_path: Path) -> None:
    log = Log(tmp_path, settings(), done_step=0)
    log.add(step=100, loss=0.25, learning_rate=5e-4)
    assert rows(tmp_path) == [{"step": "100", "loss": "0.25", "learning_rate": "0.0005"}]
    log.add(step=100, psnr_y=30.5)
    log.add(step=200, loss=0.125)
    assert rows(tmp_path) == [
        {"step": "100", "loss": "0.25", "learning_rate": "0.0005", "psnr_y": ""},
        {"step": "100", "loss": "", "learning_rate": "", "psnr_y": "30.5"},
        {"step": "200", "loss": "0.125", "learning_rate": "", "psnr_y": ""},
    ]
    log.close()


def test_numbers_keep_every_digit(tmp_path: Path) -> None:
    Log(tmp_path, settings(), done_step=0).add(step=1, loss=1 / 3)
    assert float(rows(tmp_path)[0]["loss"]) == 1 / 3


def test_rows_of_steps_that_are_done_again_are_dropped(tmp_path: Path) -> None:
    log = Log(tmp_path, settings(), done_step=0)
    for step in (100, 200, 300):
        log.add(step=step, loss=1 / step)
    log.add(step=300, psnr_y=30.0)
    again = Log(tmp_path, settings(), done_step=200)
    assert [row["step"] for row in rows(tmp_path)] == ["100", "200"]
    again.add(step=300, loss=1 / 300)
    assert [row["step"] for row in rows(tmp_path)] == ["100", "200", "300"]
    assert list(rows(tmp_path)[0]) == ["step", "loss"]


def test_a_new_training_begins_with_no_rows(tmp_path: Path) -> None:
    Log(tmp_path, settings(), done_step=0).add(step=5, loss=0.5)
    Log(tmp_path, settings(), done_step=0)
    assert rows(tmp_path) == []


@pytest.mark.parametrize("cut", range(1, 11))
def test_a_row_that_was_cut_off_is_dropped(tmp_path: Path, cut: int) -> None:
    log = Log(tmp_path, settings(), done_step=0)
    log.add(step=100, loss=0.5)
    log.add(step=1200, loss=0.25)
    path = tmp_path / "metrics.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    Log(tmp_path, settings(), done_step=1000)
    assert rows(tmp_path) == [{"step": "100", "loss": "0.5"}]


@pytest.mark.parametrize("text", ["loss\n0.5\n", "step,loss\nmany,0.5\n", "step,loss\n1,0.5,7\n"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(CheckpointError, match=r"metrics\.csv: damaged; delete it"):
        Log(tmp_path, settings(), done_step=1)


# ---- the curve


def test_the_curve_is_drawn_of_what_there_is(tmp_path: Path) -> None:
    log = Log(tmp_path, settings(), done_step=0)
    with pytest.raises(DataError, match=r"metrics\.csv has no values to draw yet"):
        plot_curve(tmp_path)
    log.add(step=100, loss=0.5, learning_rate=1e-3)
    assert plot_curve(tmp_path) == tmp_path / "curve.png"
    alone = read_image(tmp_path / "curve.png").size
    log.add(step=200, psnr_y=30.0)
    plot_curve(tmp_path)
    assert read_image(tmp_path / "curve.png").size > alone


def test_there_is_nothing_to_draw_in_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no values to draw yet"):
        plot_curve(tmp_path)


# ---- TensorBoard and services


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """What TensorBoard shows."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder))
    events.Reload()
    return {name: {event.step: event.value for event in events.Scalars(name)} for name in events.Tags()["scalars"]}


def test_tensorboard_shows_each_step_once_also_after_a_resume(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    log = Log(tmp_path, settings(tensorboard=True), done_step=0)
    log.add(step=100, loss=0.5)
    log.add(step=200, loss=0.25, psnr_y=30.0)
    log.close()
    log = Log(tmp_path, settings(tensorboard=True), done_step=100)
    log.add(step=200, loss=0.125)
    log.close()
    assert scalars(tmp_path / "tensorboard") == {"loss": {100: 0.5, 200: 0.125}, "psnr_y": {}}


@pytest.mark.parametrize(
    ("keep", "module", "install"),
    [
        ({"tensorboard": True}, "torch.utils.tensorboard", r"pip install 'finescale\[train\]'"),
        ({"tracker": "wandb"}, "wandb", "keep.tracker needs the package wandb; .* pip install wandb"),
        ({"tracker": "trackio"}, "trackio", "pip install trackio"),
    ],
)
def test_what_is_asked_for_and_not_installed_is_told_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: dict[str, Any], module: str, install: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=install):
        Log(tmp_path, settings(**keep), done_step=0)
    assert not (tmp_path / "metrics.csv").exists()


class StandIn(ModuleType):
    """Notes what a tracking service is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.told: list[Any] = []

    def init(self, *, project: str, name: str, config: dict[str, Any], resume: str) -> None:
        self.told.append((project, name, config, resume))

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.told.append((step, values))

    def finish(self) -> None:
        self.told.append("finished")


@pytest.mark.parametrize("tracker", ["wandb", "trackio"])
def test_a_service_is_told_the_settings_without_places_and_every_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    service = StandIn(tracker)
    monkeypatch.setitem(sys.modules, tracker, service)
    log = Log(tmp_path, settings(tracker=tracker), done_step=0)
    log.add(step=100, loss=0.5)
    log.close()
    (project, name, config, resume), *rest = service.told
    assert (project, name, resume) == ("finescale", "mine", "allow")
    assert config["train"]["iterations"] == 9
    assert "/home/me" not in str(config)
    assert rest == [(100, {"loss": 0.5}), "finished"]
