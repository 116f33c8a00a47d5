"""A whole training at a tiny size: it learns, it resumes to the bit, it overwrites nothing."""

from __future__ import annotations

import csv
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale import weights
from finescale.errors import CheckpointError, DataError, SettingsError, WeightsError, WeightsMismatchError
from finescale.images import write_image
from finescale.settings import load_settings, parse_settings
from finescale.train import TrainSettings, loop, train
from finescale.train.average import WeightAverage

TINY = {"embed_dim": 16, "depths": [2, 1], "num_heads": [2, 1], "base_window": [4, 4], "window_ratios": [0.5, 2]}


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three smooth textures."""
    folder = tmp_path_factory.mktemp("pictures")
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(52.0), indexing="ij")
    for number in range(3):
        angles = [(0.2 + 0.1 * number) * x + 0.15 * channel * y for channel in range(1, 4)]
        write_image(folder / f"{number}.png", 0.5 + 0.4 * torch.stack(angles).sin())
    return folder


def tiny(pictures: Path, output: Path, name: str) -> TrainSettings:
    return TrainSettings(
        name=name, output=output, variant="hit-sir", network=TINY, scale=2, hr=(pictures,), lr_patch=8, batch=2,
        iterations=12, learning_rate=2e-3, milestones=(8,), checkpoint_every=5, log_every=2, validate_every=4,
        validation=pictures,
    )  # fmt: skip


@pytest.fixture
def settings(pictures: Path, tmp_path: Path) -> TrainSettings:
    return tiny(pictures, tmp_path, "tiny")


@pytest.fixture(scope="session")
def uninterrupted(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainSettings:
    """The same settings, already trained without an interruption."""
    train(settings := tiny(pictures, tmp_path_factory.mktemp("experiments"), "uninterrupted"))
    return settings


def changed(settings: TrainSettings, **fields: Any) -> TrainSettings:
    return TrainSettings.model_validate({**settings.model_dump(), **fields})


def state(file: Path) -> dict[str, Tensor]:
    return weights.load(file).network.state_dict()


def rows(settings: TrainSettings) -> list[dict[str, str]]:
    with (settings.output / settings.name / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def steps(settings: TrainSettings, field: str) -> list[int]:
    """The steps whose rows of ``metrics.csv`` have a value of this name."""
    return [int(row["step"]) for row in rows(settings) if row[field]]


def assert_same_training(one: TrainSettings, other: TrainSettings) -> None:
    """Both have written the same weights, checkpoint and metrics."""
    folders = [settings.output / settings.name for settings in (one, other)]
    first, second = (state(folder / "weights.safetensors") for folder in folders)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    first, second = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in folders)
    for part in ("weights", "average"):
        assert all(torch.equal(first[part][key], second[part][key]) for key in first[part])
    assert rows(one) == rows(other)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int) -> None:
    """Press Ctrl-C when a function is about to be called for the nth time."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = iter(range(1, 1000))

    def pressed(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, pressed)


# ---- what a training leaves


def test_a_training_writes_weights_settings_metrics_and_a_checkpoint(settings: TrainSettings) -> None:
    file = train(settings)
    folder = settings.output / "tiny"
    assert {path.name for path in folder.iterdir()} == {
        "weights.safetensors", "settings.yml", "metrics.csv", "checkpoint.pt",
    }  # fmt: skip
    assert file == folder / "weights.safetensors"
    loaded = weights.load(file)
    assert (loaded.scale, loaded.settings) == (2, settings.network_settings())
    assert load_settings(TrainSettings, folder / "settings.yml") == settings


def test_metrics_are_told_at_their_intervals_and_at_the_end(settings: TrainSettings) -> None:
    train(changed(settings, iterations=7))
    assert steps(settings, "loss") == [2, 4, 6, 7]
    assert steps(settings, "psnr_y") == [4, 7]
    assert all(float(row["loss"]) > 0 for row in rows(settings) if row["loss"])


def test_the_learning_rate_of_each_step_is_the_schedules(settings: TrainSettings) -> None:
    train(changed(settings, log_every=1))
    rates = [float(row["learning_rate"]) for row in rows(settings) if row["learning_rate"]]
    assert rates == [2e-3] * 8 + [1e-3] * 4


def test_the_saved_weights_are_the_average(settings: TrainSettings) -> None:
    saved = state(train(settings))
    checkpoint = torch.load(settings.output / "tiny" / "checkpoint.pt", weights_only=True)
    assert all(torch.equal(saved[key], checkpoint["average"][key]) for key in saved)
    assert not all(torch.equal(saved[key], checkpoint["weights"][key]) for key in saved)


def test_the_loss_falls_when_one_picture_is_learned_by_heart(settings: TrainSettings, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    ramp = torch.linspace(0, 1, 16).expand(3, 16, 16)
    write_image(folder / "ramp.png", (ramp + ramp.transpose(1, 2)) / 2)
    train(
        changed(settings, hr=[folder], iterations=80, learning_rate=5e-3, log_every=1, validation=None, milestones=[60])
    )
    losses = [float(row["loss"]) for row in rows(settings)]
    assert sum(losses[-10:]) < 0.4 * sum(losses[:10])


def test_two_trainings_of_the_same_settings_are_the_same(settings: TrainSettings, uninterrupted: TrainSettings) -> None:
    train(settings)
    assert_same_training(settings, uninterrupted)


def test_a_training_leaves_the_callers_random_numbers_alone(settings: TrainSettings) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(changed(settings, iterations=1))
    assert torch.equal(torch.rand(3), expected)


def test_the_header_says_how_it_was_made_without_telling_where(settings: TrainSettings) -> None:
    file = train(changed(settings, iterations=1, licence="mine"))
    header = weights.inspect(file).header
    assert header["licence"] == "mine"
    recipe = json.loads(header["training"])
    assert recipe["iterations"] == 1
    assert recipe["hr"] == [folder.name for folder in settings.hr]
    assert str(settings.output) not in header["training"]


# ---- resuming


@pytest.mark.parametrize("first", [1, 6, 9])
def test_a_resumed_training_equals_one_that_never_stopped(
    settings: TrainSettings, uninterrupted: TrainSettings, first: int
) -> None:
    train(changed(settings, iterations=first, log_every=100, validate_every=100))
    train(settings, resume=True)
    folders = [each.output / each.name for each in (settings, uninterrupted)]
    resumed, expected = (state(folder / "weights.safetensors") for folder in folders)
    assert all(torch.equal(resumed[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        pytest.param(loop, "multi_step", id="between two steps"),
        pytest.param(torch.optim.Adam, "step", id="before the update of the weights"),
        pytest.param(WeightAverage, "update", id="after the update of the weights"),
        pytest.param(loop, "validate", id="while validating"),
    ],
)
def test_a_training_interrupted_from_the_keyboard_resumes_to_the_same_end(
    settings: TrainSettings, uninterrupted: TrainSettings, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        interrupt_at(patch, owner, name, call=2)
        train(settings)
    train(settings, resume=True)
    assert_same_training(settings, uninterrupted)


def test_steps_done_again_have_one_row_in_the_metrics(settings: TrainSettings, uninterrupted: TrainSettings) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):  # noqa: PT012
        patch.setattr(loop, "validate", raise_power_cut)  # at step 4
        train(changed(settings, checkpoint_every=3))
    assert steps(settings, "loss") == [2, 4]
    train(changed(settings, checkpoint_every=3), resume=True)
    assert rows(settings) == rows(uninterrupted)


def raise_power_cut(*_: object) -> float:
    raise RuntimeError("power cut")


def test_resuming_a_finished_training_gives_its_weights_again(settings: TrainSettings) -> None:
    file = train(settings)
    before = file.read_bytes(), rows(settings)
    assert train(settings, resume=True) == file
    assert (file.read_bytes(), rows(settings)) == before


def test_an_existing_training_is_not_overwritten(settings: TrainSettings) -> None:
    train(changed(settings, iterations=2))
    folder = settings.output / "tiny"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(CheckpointError, match="tiny holds a training already; resume it, or choose another name"):
        train(settings)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_there_must_be_something_to_resume(settings: TrainSettings) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint.pt: there is no checkpoint to resume from"):
        train(settings, resume=True)
    assert not (settings.output / "tiny").exists()


def test_a_training_is_not_resumed_with_other_settings(settings: TrainSettings) -> None:
    train(changed(settings, iterations=1))
    with pytest.raises(CheckpointError, match=r"learning_rate was 0.002, is 0.1"):
        train(changed(settings, learning_rate=0.1), resume=True)


# ---- warm start


@pytest.mark.parametrize("scale", [2, 3])
def test_a_warm_start_takes_the_body_and_not_the_head(settings: TrainSettings, scale: int) -> None:
    start = train(changed(settings, name="start", scale=4, lr_patch=6))
    warm = changed(settings, scale=scale, lr_patch=6, warm_start=start)
    network, cold = loop._first_network(warm), loop._first_network(changed(warm, warm_start=None))
    given, fresh = state(start), cold.state_dict()
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, fresh[key] if key.startswith("upsample.") else given[key]), key


def test_a_warm_start_from_another_network_is_refused(settings: TrainSettings) -> None:
    start = train(changed(settings, name="start", iterations=1))
    other = changed(settings, network={**TINY, "mlp_ratio": 1.0}, warm_start=start)
    with pytest.raises(WeightsMismatchError, match=r"weights.safetensors: its network has other settings"):
        train(other)


def test_a_warm_start_from_nothing_is_refused(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none.pth"):
        train(changed(settings, warm_start=tmp_path / "none.pth"))


# ---- mistakes


def test_a_folder_without_pictures_is_told_before_anything_is_written(settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        train(changed(settings, hr=[tmp_path / "empty"]))
    assert not (settings.output / "tiny").exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variant": "hit-sirr"}, r"variant 'hit-sirr' is unknown \(did you mean 'hit-sir'\?\); known: hit-sir, "),
        ({"scale": 5}, "scale must be 2, 3 or 4, got 5"),
        ({"milestones": [5, 3]}, r"milestones must rise, got \(5, 3\)"),
        ({"network": {"embed": 16}}, r"network has no field 'embed' \(did you mean 'embed_dim'\?\)"),
        ({"network": {"embed_dim": 12}}, "network: embed_dim must be at least 16, got 12"),
        ({"network": {"mlp_ratio": "wide"}}, r"network: 'mlp_ratio': input should be a valid number.*got 'wide'"),
        ({"name": "a/b"}, "'name'"),
        ({"name": ""}, "'name'"),
        ({"hr": []}, "'hr'"),
        ({"itertions": 3}, r"unknown key 'itertions' \(did you mean 'iterations'\?\)"),
    ],
)
def test_settings_that_make_no_training_are_refused(
    settings: TrainSettings, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_settings(TrainSettings, {**settings.model_dump(), **wrong}, source="recipe.yml")
