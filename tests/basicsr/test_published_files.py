"""Every published option file runs as it is: a plan and two steps of each training, a report of each test."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import finescale
from finescale import networks
from finescale.cli.main import run
from finescale.settings import load_settings, read_values
from finescale.train import TrainSettings
from published_options import local, published, write_stand_ins

TRAININGS, TESTS = published("train"), published("test")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stand-ins for everything that the files name."""
    root = tmp_path_factory.mktemp("published")
    write_stand_ins(root, [case.values[0] for case in (*TRAININGS, *TESTS)])
    return root


@pytest.fixture
def here(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder that holds the stand-ins."""
    for place in data.iterdir():
        (tmp_path / place.name).symlink_to(place)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path


def test_all_94_files_are_there(data_root: Path) -> None:
    assert (len(TRAININGS), len(TESTS)) == (51, 43)


def stand_in(place: Path | None) -> str:
    """Where the stand-in of a place lies: there, unless it is in an author's own folder."""
    return str(place) if place is None or place.exists() else local(str(place))


def small(settings: TrainSettings) -> list[str]:
    """Flags that cut a training to two steps of a tiny network, on the stand-ins."""
    family = networks.variants()[settings.variant]
    tiny = family.tiny.get(settings.variant, next(iter(family.tiny.values())))
    values: dict[str, Any] = {
        "network": tiny.model_dump(mode="json"),
        "data.patch": 8,
        "data.hr": [stand_in(place) for place in settings.data.hr],
        "data.lr": [stand_in(place) for place in settings.data.lr],
        "validation.sets": {
            name: {"hr": stand_in(one.hr), "lr": stand_in(one.lr)} for name, one in settings.validation.sets.items()
        },
        "train.batch": 2,
        "train.iterations": 2,
        "train.bad_steps": 0,
    }
    return [word for name, value in values.items() for word in ("--set", f"{name}={json.dumps(value)}")]


@pytest.mark.parametrize("path", TRAININGS)
def test_a_training_file_gives_a_plan_and_takes_two_steps(
    path: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = read_values(path)
    if "GAN" in asked["model_type"] or asked["datasets"]["train"]["type"] == "RealESRGANDataset":
        assert run(["train", str(path), "--plan"]) == 1
        assert f"{path}: this is a GAN training" in capsys.readouterr().err
        return
    assert run(["train", str(path), "--plan"]) == 0
    told = capsys.readouterr()
    Path("plan.yml").write_text(told.out)
    plan = load_settings(TrainSettings, Path("plan.yml"))
    data, steps = asked["datasets"]["train"], asked["train"]
    assert (plan.name, plan.scale, plan.network) == (asked["name"], asked["scale"], {})
    assert (plan.data.patch, plan.data.augmentation) == (data["gt_size"] // plan.scale, "flips-and-transpose")
    assert (plan.train.batch, plan.train.lr) == (data["batch_size_per_gpu"], steps["optim_g"]["lr"])
    assert f"note: {plan.train.batch} samples per step: batch_size_per_gpu {plan.train.batch} times 1" in told.err
    rules = next(iter(asked["val"]["metrics"].values()))
    channel = "y" if rules["test_y_channel"] else "rgb"
    assert (plan.validation.border, plan.validation.channel) == (rules["crop_border"], channel)
    names = [block["name"] for key, block in asked["datasets"].items() if key != "train"]
    assert list(plan.validation.sets) == names

    assert run(["train", "-opt", str(path), "--start", "none", *small(plan), "--device", "cpu"]) == 0
    folder = here / "experiments" / plan.name
    assert finescale.load(folder / "weights.safetensors").scale == plan.scale
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "2"]
    assert 0 < float(rows[0]["loss"]) < 2
    assert math.isfinite(float(rows[1][f"psnr_{channel}"]))
    assert rows[1]["images"] == str(len(names))
    (log,) = folder.glob("train_*.log")
    assert "iter:       2, lr:(" in log.read_text()
    assert log.read_text().count("\t # psnr: ") == len(names)


def random_state(options: Mapping[str, Any]) -> dict[str, Tensor]:
    """Small random weights of a published network; what it multiplies or divides features by is near 1."""
    with torch.device("meta"):
        state = networks.from_options(options).state_dict()
    torch.manual_seed(0)
    near_one = {key for key, value in state.items() if value.dim() == 1 and key.endswith((".weight", ".running_var"))}
    return {key: (0.02 * torch.randn(value.shape) + (key in near_one)).to(value.dtype) for key, value in state.items()}


@pytest.mark.filterwarnings("ignore:.*no network reads")  # where the test itself builds the network
@pytest.mark.parametrize("path", TESTS)
def test_a_test_file_runs(path: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = read_values(path)
    weights = Path(values["path"]["pretrain_network_g"])
    weights.parent.mkdir(parents=True, exist_ok=True)
    torch.save({values["path"].get("param_key_g", "params"): random_state(values["network_g"])}, weights)

    assert run(["evaluate", "-opt", str(path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    folder = here / "results" / values["name"]
    sets = [block["name"] for block in values["datasets"].values()]
    assert [row["set"] for row in report["rows"] if row["model"] == weights.stem] == sets
    assert report["failed"] == []
    for name, block in zip(sets, values["datasets"].values(), strict=True):
        is_pair = "dataroot_gt" in block
        scores = [image["psnr"] for image in report["images"] if image["set"] == name]
        assert all(0 < score < 50 if is_pair else score is None for score in scores)
        suffix = values["val"]["suffix"] if values["val"]["suffix"] not in (None, "None") else values["name"]
        assert [found.name for found in (folder / "visualization" / name).iterdir()] == [f"one_{suffix}.png"]
    assert len(list(folder.glob("test_*.log"))) == 1
    if "tile" in values:
        assert report["rows"][-1]["tiles"] == "pad 512, overlap 32"
