"""A whole training at a tiny size: it learns, it resumes to the bit, it overwrites nothing."""

from __future__ import annotations

import csv
import errno
import json
import logging
import math
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale import Upscaler, weights
from finescale.data import find_pairs
from finescale.data.samples import as_gray
from finescale.errors import (
    CheckpointError,
    DataError,
    DeviceError,
    FinescaleError,
    NumericalError,
    SettingsError,
    WeightsMismatchError,
)
from finescale.evaluate import evaluate
from finescale.images import read_image, write_image
from finescale.networks import FAMILIES
from finescale.resize import downsample, round_half_up
from finescale.settings import load_settings, parse_settings
from finescale.train import TrainingProgress, TrainSettings, loop, train
from finescale.train.average import WeightAverage
from finescale.train.learner import Learner, StepResult
from finescale.train.validation import Validation
from training_run import TINY, changed, tiny_settings, write_textures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three smooth textures."""
    return write_textures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def settings(pictures: Path, tmp_path: Path) -> TrainSettings:
    return tiny_settings(pictures, tmp_path, "tiny")


@dataclass(frozen=True)
class Finished:
    """A training that has run to its end; tests look at it, and change copies of it."""

    settings: TrainSettings
    file: Path
    reports: list[TrainingProgress]

    def copied_to(self, output: Path) -> TrainSettings:
        shutil.copytree(folder_of(self.settings), output / self.settings.name)
        return changed(self.settings, output=output)


@pytest.fixture(scope="session")
def finished(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The tiny training, without an interruption."""
    settings = tiny_settings(pictures, tmp_path_factory.mktemp("experiments"), "uninterrupted")
    reports: list[TrainingProgress] = []
    return Finished(settings, train(settings, on_step=reports.append), reports)


@pytest.fixture
def uninterrupted(finished: Finished) -> TrainSettings:
    return finished.settings


def folder_of(settings: TrainSettings) -> Path:
    return settings.output / settings.name


def state(file: Path) -> dict[str, Tensor]:
    return weights.load(file).network.state_dict()


def final(settings: TrainSettings) -> dict[str, Tensor]:
    return state(folder_of(settings) / "weights.safetensors")


def checkpoints(settings: TrainSettings) -> list[Path]:
    return sorted((folder_of(settings) / "checkpoints").iterdir())


def rows(settings: TrainSettings) -> list[dict[str, str]]:
    with (folder_of(settings) / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def steps(settings: TrainSettings, field: str) -> list[int]:
    """The steps whose rows of ``metrics.csv`` have a value of this name."""
    return [int(row["step"]) for row in rows(settings) if row[field]]


def assert_same_tensors(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [key for key in one if not torch.equal(one[key], other[key])] == []


def assert_same_training(one: TrainSettings, other: TrainSettings) -> None:
    """Both have written the same weights, checkpoint and metrics."""
    assert_same_tensors(final(one), final(other))
    first, second = (torch.load(checkpoints(settings)[-1], weights_only=True) for settings in (one, other))
    for part in ("weights", "average"):
        assert_same_tensors(first["learner"][part], second["learner"][part])
    assert first["standing"] == second["standing"]
    assert rows(one) == rows(other)


def interrupt_at(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, call: int, number: int = signal.SIGINT
) -> None:
    """Send a signal when a function is about to be called for the nth time."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = iter(range(1, 1000))

    def pressed(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            signal.raise_signal(number)
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, pressed)


# ---- what a training leaves


def test_a_training_writes_weights_settings_metrics_and_checkpoints(finished: Finished) -> None:
    settings, file = finished.settings, finished.file
    folder = folder_of(settings)
    (log,) = folder.glob("train_*.log")
    assert {path.name for path in folder.iterdir()} == {
        "weights.safetensors", "best.safetensors", "settings.yml", "metrics.csv", "curve.png", "checkpoints", log.name,
    }  # fmt: skip
    assert re.search(
        r"^\d{4}-\d\d-\d\d [\d:]{8},\d{3} INFO: \[.*iter:      12, lr:\(.*l_pix: ", log.read_text(), re.MULTILINE
    )
    assert [path.name for path in checkpoints(settings)] == ["step_00000010.pt", "step_00000012.pt"]
    assert file == folder / "weights.safetensors"
    loaded = weights.load(file)
    assert (loaded.scale, loaded.settings) == (2, settings.network_settings())
    assert load_settings(TrainSettings, folder / "settings.yml") == settings


def test_metrics_are_told_at_their_intervals_and_at_the_end(settings: TrainSettings) -> None:
    train(changed(settings, train={"iterations": 7}))
    assert steps(settings, "loss") == [2, 4, 6, 7]
    assert steps(settings, "psnr_y") == [4, 7]
    assert all(float(row["loss"]) > 0 for row in rows(settings) if row["loss"])


def test_several_losses_are_told_one_by_one(settings: TrainSettings) -> None:
    train(changed(settings, train={"iterations": 2, "loss": {"l1": 2.0, "mse": 0.5}}))
    row = rows(settings)[0]
    assert float(row["loss"]) == pytest.approx(2 * float(row["l1"]) + 0.5 * float(row["mse"]))


def test_the_learning_rate_of_each_step_is_the_schedules(settings: TrainSettings) -> None:
    train(changed(settings, keep={"log_every": 1}))
    rates = [float(row["learning_rate"]) for row in rows(settings) if row["learning_rate"]]
    assert rates == [2e-3] * 8 + [1e-3] * 4


def test_the_saved_weights_are_the_average(finished: Finished) -> None:
    saved = state(finished.file)
    learner = torch.load(checkpoints(finished.settings)[-1], weights_only=True)["learner"]
    assert all(torch.equal(saved[key], learner["average"][key]) for key in saved)
    assert not all(torch.equal(saved[key], learner["weights"][key]) for key in saved)


def test_the_weights_that_validated_best_are_kept(settings: TrainSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([20.0, 30.0, 25.0])
    monkeypatch.setattr(Validation, "run", lambda *_, **__: {"psnr_y": next(scores), "ssim_y": 0.5, "images": 1})
    train(settings)
    shorter = changed(settings, name="shorter", train={"iterations": 8}, validation={"hr": None})
    assert_same_tensors(state(folder_of(settings) / "best.safetensors"), state(train(shorter)))
    assert torch.load(checkpoints(settings)[-1], weights_only=True)["standing"]["best"] == 30.0


def test_the_loss_falls_when_one_picture_is_learned_by_heart(settings: TrainSettings, tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    ramp = torch.linspace(0, 1, 16).expand(3, 16, 16)
    write_image(folder / "ramp.png", (ramp + ramp.transpose(1, 2)) / 2)
    fast = {"iterations": 50, "lr": 1e-2, "milestones": [40]}
    train(changed(settings, data={"hr": [folder]}, train=fast, keep={"log_every": 1}, validation={"hr": None}))
    losses = [float(row["loss"]) for row in rows(settings)]
    assert sum(losses[-10:]) < 0.4 * sum(losses[:10])


def test_two_trainings_of_the_same_settings_are_the_same(settings: TrainSettings, uninterrupted: TrainSettings) -> None:
    train(settings)
    assert_same_training(settings, uninterrupted)


def test_a_training_leaves_the_callers_random_numbers_alone(settings: TrainSettings) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train(changed(settings, train={"iterations": 1}))
    assert torch.equal(torch.rand(3), expected)


def test_the_header_says_how_it_was_made_without_telling_where(settings: TrainSettings, tmp_path: Path) -> None:
    file = train(changed(settings, train={"iterations": 1}, licence="mine"))
    header = weights.inspect(file).header
    assert header["licence"] == "mine"
    recipe = json.loads(header["training"])
    assert recipe["train"]["iterations"] == 1
    assert recipe["data"]["hr"] == [folder.name for folder in settings.data.hr]
    assert recipe["validation"]["hr"] == settings.data.hr[0].name
    assert str(tmp_path.parent) not in header["training"]


def test_each_step_is_reported(finished: Finished) -> None:
    settings, reports = finished.settings, finished.reports
    assert [report.step for report in reports] == list(range(1, 13))
    assert {report.iterations for report in reports} == {12}
    assert reports[2].psnr_y is None
    assert reports[3].psnr_y == float(next(row["psnr_y"] for row in rows(settings) if row["psnr_y"]))


def test_the_plan_is_told_before_the_first_step(
    settings: TrainSettings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Learner, "step", raise_power_cut)
    with caplog.at_level(logging.INFO, "finescale"), pytest.raises(RuntimeError, match="power cut"):
        train(changed(settings, train={"accumulate": 2}))
    assert caplog.messages == [
        "hit-sir x2, 8,788 parameters",
        "4 samples per step, in passes of 2 on each of 1 devices (cpu); lr patches of 8 x 8 pixels",
        "12 steps; each of 3 pictures is drawn about 16 times",
        caplog.messages[3],
    ]
    assert re.fullmatch(r"estimate: 0:00:\d\d to go, and \d MiB for .* on each device", caplog.messages[3])


def dropping(variant: str) -> dict[str, Any]:
    """Fields of a tiny network of a variant that leaves out half of its branches at random."""
    family = next(family for family in FAMILIES.values() if variant in family.variants)
    return {**family.tiny[variant].model_dump(), "drop_path_rate": 0.5}


def raise_power_cut(*_: object, **__: object) -> Any:
    raise RuntimeError("power cut")


# ---- resuming


@pytest.mark.parametrize("first", [1, 6, 9])
def test_a_resumed_training_equals_one_that_never_stopped(
    settings: TrainSettings, uninterrupted: TrainSettings, first: int
) -> None:
    train(changed(settings, train={"iterations": first}, keep={"log_every": 100}, validation={"every": 100}))
    train(settings)
    assert_same_tensors(final(settings), final(uninterrupted))


@pytest.mark.parametrize("variant", ["dat-s", "drct", "span"])
def test_a_resumed_training_has_its_statistics_and_random_numbers_again(settings: TrainSettings, variant: str) -> None:
    family = next(family for family in FAMILIES.values() if variant in family.variants)
    tiny = family.tiny[variant].model_dump()
    if "drop_path_rate" in tiny:
        tiny["drop_path_rate"] = 0.5
    whole = changed(
        settings, name="whole", variant=variant, network=tiny, train={"iterations": 4}, validation={"hr": None}
    )
    train(whole)
    parts = changed(whole, name="parts")
    train(changed(parts, train={"iterations": 2}))
    torch.rand(5)
    train(parts)
    assert_same_training(parts, whole)


def test_a_training_on_degraded_pictures_differs_and_resumes_to_the_same_end(
    settings: TrainSettings, uninterrupted: TrainSettings
) -> None:
    whole = changed(settings, name="whole", data={"degradation": {}}, validation={"hr": None})
    train(whole)
    parts = changed(whole, name="parts")
    train(changed(parts, train={"iterations": 6}))
    train(parts)
    assert_same_training(parts, whole)
    assert any(not torch.equal(value, final(uninterrupted)[key]) for key, value in final(whole).items())
    with pytest.raises(CheckpointError, match=r"data.degradation was {'clean': 0.15}, is {'clean': 0.5}"):
        train(changed(whole, data={"degradation": {"clean": 0.5}}))


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        pytest.param(loop, "learning_rate", id="between two steps"),
        pytest.param(torch.optim.Adam, "step", id="before the update of the weights"),
        pytest.param(WeightAverage, "update", id="after the update of the weights"),
        pytest.param(Validation, "run", id="while validating"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_training_that_is_asked_to_stop_resumes_to_the_same_end(
    settings: TrainSettings,
    uninterrupted: TrainSettings,
    monkeypatch: pytest.MonkeyPatch,
    owner: object,
    name: str,
    number: int,
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        interrupt_at(patch, owner, name, call=2, number=number)
        train(settings)
    assert checkpoints(settings)
    train(settings)
    assert_same_training(settings, uninterrupted)


def test_steps_done_again_have_one_row_in_the_metrics(settings: TrainSettings, uninterrupted: TrainSettings) -> None:
    often = changed(settings, keep={"every": 3})
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):  # noqa: PT012
        patch.setattr(Validation, "run", raise_power_cut)  # at step 4
        train(often)
    assert [int(row["step"]) for row in rows(settings)] == [2, 4]
    train(often)
    assert rows(settings) == rows(uninterrupted)


def test_resuming_a_finished_training_gives_its_weights_again(finished: Finished, tmp_path: Path) -> None:
    settings = finished.copied_to(tmp_path)
    file = folder_of(settings) / "weights.safetensors"
    before = file.read_bytes(), rows(settings)
    assert train(settings, resume=True) == file
    assert (file.read_bytes(), rows(settings)) == before


def test_an_existing_training_is_not_overwritten(finished: Finished, tmp_path: Path) -> None:
    settings = finished.copied_to(tmp_path)
    before = {path: path.read_bytes() for path in folder_of(settings).rglob("*") if path.is_file()}
    with pytest.raises(
        CheckpointError, match="uninterrupted holds a training already; resume it, or choose another name"
    ):
        train(settings, resume=False)
    assert {path: path.read_bytes() for path in folder_of(settings).rglob("*") if path.is_file()} == before


def test_there_must_be_something_to_resume(settings: TrainSettings) -> None:
    with pytest.raises(CheckpointError, match=r"tiny: there is no checkpoint to resume from"):
        train(settings, resume=True)
    assert not folder_of(settings).exists()


def test_a_training_is_not_resumed_with_other_settings(finished: Finished) -> None:
    with pytest.raises(CheckpointError, match=r"train.lr was 0.002, is 0.1"):
        train(changed(finished.settings, train={"lr": 0.1}))


def test_a_training_is_not_resumed_to_fewer_steps_than_it_has_done(finished: Finished, tmp_path: Path) -> None:
    settings = finished.copied_to(tmp_path)
    before = {path: path.read_bytes() for path in folder_of(settings).rglob("*") if path.is_file()}
    with pytest.raises(
        CheckpointError,
        match=r"12 steps are done already, more than train.iterations=11; set it to 12 or more, or choose",
    ):
        train(changed(settings, train={"iterations": 11}))
    assert {path: path.read_bytes() for path in folder_of(settings).rglob("*") if path.is_file()} == before


def test_a_damaged_checkpoint_is_told_before_anything_is_written(finished: Finished, tmp_path: Path) -> None:
    settings = finished.copied_to(tmp_path)
    older, newest = checkpoints(settings)
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    before = {path: path.read_bytes() for path in folder_of(settings).rglob("*") if path.is_file()}
    with pytest.raises(
        CheckpointError, match=f"{newest.name}: not a readable.*; delete it to resume from {older.name}"
    ):
        train(settings)
    assert {path: path.read_bytes() for path in folder_of(settings).rglob("*") if path.is_file()} == before
    newest.unlink()
    train(settings)
    assert_same_training(settings, finished.settings)


def test_stochastic_depth_is_not_resumed_on_another_number_of_devices(settings: TrainSettings) -> None:
    drawing = changed(
        settings, variant="dat-s", network=dropping("dat-s"), train={"iterations": 1}, validation={"hr": None}
    )
    train(drawing)
    with pytest.raises(CheckpointError, match=r"started with 1 devices and accumulate=1; resume with the same"):
        train(changed(drawing, train={"iterations": 2, "accumulate": 2}))


# ---- the folder


def test_a_second_training_of_the_same_name_is_refused_and_the_first_goes_on(
    settings: TrainSettings, uninterrupted: TrainSettings
) -> None:
    refusals = []

    def begin_another(progress: TrainingProgress) -> None:
        if progress.step in (1, 6):  # before and after the first checkpoint
            with pytest.raises(CheckpointError) as caught:
                train(settings)
            refusals.append(str(caught.value))

    train(settings, on_step=begin_another)
    name = folder_of(settings)
    assert (
        refusals
        == [f"{name}: another process is training in this folder; wait for its end, or choose another name"] * 2
    )
    assert_same_training(settings, uninterrupted)
    assert not (name / ".lock").exists()


def test_a_training_that_is_refused_leaves_no_folder(settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        train(changed(settings, output=tmp_path / "new" / "output", data={"hr": ["nowhere"]}))
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence_before_pictures_are_read(
    settings: TrainSettings, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for output, reason in ((tmp_path / "file", "Not a directory"), (tmp_path / ("x" * 300), "File name too long")):
        with pytest.raises(DataError, match=rf"tiny: cannot be written \({reason}\); choose another output or name"):
            train(changed(settings, output=output, data={"hr": ["nowhere"]}))


def test_too_little_space_is_told_before_the_first_step(
    settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage(tmp_path)._replace(free=2**16)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: full)
    monkeypatch.setattr(Learner, "step", raise_power_cut)
    with pytest.raises(
        DataError, match=r"a checkpoint and the weights take more than 0\.1 MiB, but 0\.1 MiB are free; free some space"
    ):
        train(settings)
    assert not folder_of(settings).exists()


@pytest.mark.parametrize("call", range(1, 12))
def test_a_disk_that_is_full_at_any_moment_is_one_sentence_and_the_training_resumes(
    settings: TrainSettings, uninterrupted: TrainSettings, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(1, 1000))
    write = os.fsync

    def refuse_once(file: int) -> None:
        if next(calls) == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(file)

    with monkeypatch.context() as patch, pytest.raises(FinescaleError, match="No space left on device") as caught:  # noqa: PT012
        patch.setattr(os, "fsync", refuse_once)
        train(settings)
    assert "\n" not in str(caught.value)
    train(settings)
    assert_same_training(settings, uninterrupted)
    assert not list(folder_of(settings).rglob(".*"))


# ---- gray networks


@pytest.mark.parametrize("pair", [False, True])
def test_a_gray_network_learns_from_gray_pictures_and_from_rgb_ones_alike(
    settings: TrainSettings, tmp_path: Path, pair: bool
) -> None:
    """The luma of RGB pictures, stored as gray pictures, gives the very weights that the RGB pictures give."""
    places: dict[str, list[Path]] = {"rgb": [], "gray": []}
    for number, path in enumerate(sorted(settings.data.hr[0].iterdir())):
        levels = round_half_up(read_image(path).pixels * 255)
        for kind, stored in (("rgb", levels), ("gray", as_gray(levels))):
            images = {f"{kind}_hr": stored, f"{kind}_lr": downsample(stored, scale=2)}
            for folder, image in images.items():
                (tmp_path / folder).mkdir(exist_ok=True)
                write_image(tmp_path / folder / f"{number}.png", image / 255)
            places[kind] = [tmp_path / name for name in images]
    results = {}
    for kind, (hr, lr) in places.items():
        data = {"hr": [hr], "lr": [lr] if pair else []}
        gray = {**TINY, "in_channels": 1}
        facts = {"network": gray, "data": data, "train": {"iterations": 4}, "validation": {"hr": hr, "lr": None}}
        results[kind] = changed(settings, name=kind, **facts)
        train(results[kind])
    loaded = weights.load(folder_of(results["gray"]) / "weights.safetensors")
    assert loaded.settings.in_channels == 1
    if not pair:  # the low-resolution pictures of RGB originals, made in RGB, are rounded before they become gray
        assert_same_tensors(final(results["rgb"]), final(results["gray"]))
    validated = next(float(row["psnr_y"]) for row in rows(results["gray"]) if row["psnr_y"])
    scores = evaluate(Upscaler(loaded.network), find_pairs(places["gray"][0]))
    assert validated == pytest.approx(mean(score.psnr for score in scores if score.psnr is not None), abs=1e-6)


def test_a_gray_network_learns_from_degraded_pictures_and_by_the_perceptual_loss(
    settings: TrainSettings, vgg19: Path
) -> None:
    gray = changed(
        settings,
        network={**TINY, "in_channels": 1},
        data={"degradation": {"clean": 0.0}},
        train={"iterations": 2, "loss": {"l1": 1.0, "perceptual": 0.1}, "perceptual": vgg19},
    )
    assert weights.load(train(gray)).settings.in_channels == 1


# ---- scales that no network is published at


@pytest.mark.parametrize(("head", "scale"), [("restoration", 1), ("pixelshuffle", 1), ("pixelshuffle", 8)])
def test_a_training_at_another_scale_writes_such_a_network(settings: TrainSettings, head: str, scale: int) -> None:
    network = {**TINY, "upsampler": head}
    data = {"degradation": {"clean": 0}, "patch": 16 // scale}
    other = changed(settings, scale=scale, network=network, data=data, train={"iterations": 2}, validation={"hr": None})
    loaded = weights.load(train(other))
    assert (loaded.scale, loaded.settings.upsampler) == (scale, head)


def test_a_training_at_scale_1_validates_on_pairs(settings: TrainSettings) -> None:
    hr = settings.data.hr[0]
    network = {**TINY, "upsampler": "restoration"}
    pairs = changed(
        settings, scale=1, network=network, data={"lr": [hr]}, train={"iterations": 2}, validation={"lr": hr}
    )
    assert weights.load(train(pairs)).scale == 1
    assert [row["psnr_y"] for row in rows(pairs) if row["psnr_y"]]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({}, "scale 1 needs pictures to restore: name them in data.lr, or degrade HR images by data.degradation"),
        ({"data": {"degradation": {}}}, "scale 1 needs pictures to restore: name those of validation.hr in validation"),
    ],
)
def test_a_training_at_scale_1_without_pictures_to_restore_is_refused(
    settings: TrainSettings, fields: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        changed(settings, scale=1, network={**TINY, "upsampler": "restoration"}, **fields)


# ---- steps that explode


class Poison:
    """Multiplies samples of some steps, told by their number in the sequence of batches."""

    def __init__(self, poisoned: Callable[[int], bool], *, by: float = math.nan) -> None:
        self.poisoned = poisoned
        self.by = by

    def __call__(self, *args: Any, first_step: int, **kwargs: Any) -> Poison:
        self.samples = original_batches(*args, first_step=first_step, **kwargs)
        self.number = first_step
        self.waited_s = 0.0
        return self

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for lr, hr in self.samples:
            self.number += 1
            yield (lr * self.by if self.poisoned(self.number) else lr), hr

    def close(self) -> None:
        self.samples.close()


original_batches = loop.batches


def test_single_bad_steps_are_left_out_and_told(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "batches", Poison(lambda number: number in (3, 4)))
    with caplog.at_level(logging.INFO, "finescale"):
        train(changed(settings, train={"bad_steps": 2}))
    assert "step 3: exploded and skipped: l1 nan, gradients nan" in caplog.messages
    assert torch.load(checkpoints(settings)[-1], weights_only=True)["standing"]["bad"] == 2
    assert all(tensor.isfinite().all() for tensor in final(settings).values())


def test_a_loss_far_above_the_usual_is_left_out_and_told(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "batches", Poison(lambda number: number == 4, by=1e4))
    with caplog.at_level(logging.INFO, "finescale"):
        train(settings)
    (told,) = (line for line in caplog.messages if "skipped:" in line)
    assert re.fullmatch(r"step 4: exploded and skipped: l1 \S+e\+03 \(usually 0\.\d+\)", told)
    standing = torch.load(checkpoints(settings)[-1], weights_only=True)["standing"]
    assert (standing["good"], standing["bad"]) == (11, 1)
    assert 0 < standing["usual"]["l1"] < 1
    with caplog.at_level(logging.INFO, "finescale"):
        train(changed(settings, name="patient", train={"explosion": 1e9}))
    assert caplog.text.count("skipped:") == 1


def test_a_training_whose_loss_stays_large_goes_back_and_ends(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "batches", Poison(lambda number: number > 6, by=1e4))
    with pytest.raises(NumericalError, match=r"exploded: l1 \S+ \(usually \S+\), 2 times in a row, and again"):
        train(changed(settings, train={"bad_steps": 1}, validation={"hr": None}))


def test_too_many_bad_steps_go_back_to_a_checkpoint_and_past_their_samples(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loop, "batches", Poison(lambda number: number in (6, 7, 8)))
    bearing = changed(settings, train={"bad_steps": 2}, validation={"hr": None}, keep={"log_every": 1})
    with caplog.at_level(logging.INFO, "finescale"):
        train(bearing)
    assert any("returning to the checkpoint of step 5 and skipping these samples" in line for line in caplog.messages)
    standing = torch.load(checkpoints(settings)[-1], weights_only=True)["standing"]
    assert (standing["step"], standing["passed_over"], standing["bad"]) == (12, 3, 3)
    assert steps(settings, "loss") == list(range(1, 13))
    assert all(math.isfinite(float(row["loss"])) for row in rows(settings))


@pytest.mark.parametrize("depth", ["whole", "stochastic"])
def test_a_training_that_goes_back_is_the_same_when_it_is_resumed(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch, depth: str
) -> None:
    monkeypatch.setattr(loop, "batches", Poison(lambda number: number in (6, 7, 8)))
    whole = changed(settings, name="whole", train={"bad_steps": 2}, validation={"hr": None})
    if depth == "stochastic":
        whole = changed(whole, variant="drct", network=dropping("drct"))
    train(whole)
    parts = changed(whole, name="parts")
    for call in (7, 5):  # at a bad step, and after going back
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):  # noqa: PT012
            interrupt_at(patch, loop, "learning_rate", call=call)
            train(parts)
    train(parts)
    assert_same_tensors(final(parts), final(whole))


def test_samples_draw_the_same_random_numbers_after_going_back_as_in_an_undisturbed_training(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawing = changed(settings, variant="drct", network=dropping("drct"), validation={"hr": None})
    drawn: dict[str, list[tuple[bytes, Tensor]]] = {"undisturbed": [], "disturbed": []}

    def train_and_record(name: str, iterations: int) -> None:
        def record(learner: Learner, lr: Tensor, hr: Tensor, **arguments: Any) -> StepResult:
            result = take_step(learner, lr, hr, **arguments)
            drawn[name].append((hr.numpy().tobytes(), torch.rand(4)))  # goes on from what the step drew
            return result

        with monkeypatch.context() as patch:
            patch.setattr(Learner, "step", record)
            train(changed(drawing, name=name, train={"iterations": iterations, "bad_steps": 2}))

    take_step = Learner.step
    train_and_record("undisturbed", 15)
    monkeypatch.setattr(loop, "batches", Poison(lambda number: number in (6, 7, 8)))
    train_and_record("disturbed", 12)
    assert len(drawn["disturbed"]) == len(drawn["undisturbed"]) == 15  # 8 before going back, 7 after it
    for (samples, numbers), (expected_samples, expected) in zip(*drawn.values(), strict=True):
        assert samples == expected_samples
        assert torch.equal(numbers, expected)


def test_a_training_that_stays_bad_is_ended_and_its_checkpoint_stays(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "batches", Poison(lambda number: number > 5))
    hopeless = changed(settings, train={"bad_steps": 1}, validation={"hr": None})
    with pytest.raises(
        NumericalError, match="step 7: exploded: l1 nan, gradients nan, 2 times in a row, and again after returning"
    ):
        train(hopeless)
    assert [path.name for path in checkpoints(settings)] == ["step_00000005.pt"]


def test_a_training_that_is_bad_from_the_start_is_ended(
    settings: TrainSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "batches", Poison(lambda number: True))
    with pytest.raises(NumericalError, match="there is no checkpoint yet to return to; restart with a smaller"):
        train(changed(settings, train={"bad_steps": 1}))


# ---- warm start


def test_a_training_begins_with_the_weights_it_is_given(settings: TrainSettings, finished: Finished) -> None:
    warm = changed(settings, warm_start=finished.file, train={"iterations": 1, "lr": 1e-12})
    given, found = state(finished.file), state(train(warm))
    assert all(torch.allclose(given[key], found[key], atol=1e-6) for key in given)


def test_a_warm_start_of_which_nothing_fits_is_refused(settings: TrainSettings, finished: Finished) -> None:
    tiny = FAMILIES["drct"].tiny["drct"].model_dump()
    other = changed(settings, variant="drct", network=tiny, warm_start=finished.file)
    with pytest.raises(WeightsMismatchError, match=r"weights.safetensors: none of .* its hit-sr network fits"):
        train(other)
    assert not (folder_of(settings) / "metrics.csv").exists()


def test_a_resumed_training_does_not_need_the_file_it_began_with(
    settings: TrainSettings, finished: Finished, tmp_path: Path
) -> None:
    start = Path(shutil.copy(finished.file, tmp_path))
    warm = changed(settings, warm_start=start)
    train(changed(warm, train={"iterations": 1}))
    start.unlink()
    train(changed(warm, train={"iterations": 2}))


# ---- mistakes


def test_a_folder_without_pictures_is_told_before_anything_is_written(settings: TrainSettings, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no picture"):
        train(changed(settings, data={"hr": [tmp_path / "empty"]}))
    assert not folder_of(settings).exists()


def test_a_batch_that_is_too_small_for_batch_norm_is_refused(settings: TrainSettings) -> None:
    tiny = FAMILIES["dat"].tiny["dat-s"].model_dump()
    with pytest.raises(ValueError, match=r"train.batch must be at least 8 for dat-s, whose BatchNorm.*got 4"):
        train(changed(settings, variant="dat-s", network=tiny, train={"accumulate": 4}))


def test_a_device_that_cannot_be_is_refused(settings: TrainSettings) -> None:
    with pytest.raises(ValueError, match="device must be 'cpu', 'cuda' or 'cuda:0', got 'gpu'"):
        train(settings, device="gpu")
    with pytest.raises(DeviceError, match="there is no device 'cuda:99'"):
        train(settings, device="cuda:99")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variant": "hit-sirr"}, r"variant 'hit-sirr' is unknown \(did you mean 'hit-sir'\?\); known: hit-sir, "),
        ({"scale": 17}, "scale must be 1 to 16 for the upsampler 'pixelshuffledirect', got 17"),
        ({"train": {"iterations": 1, "milestones": [5, 3]}}, r"milestones must rise, got \(5, 3\)"),
        ({"train": {"iterations": 1, "batch": 5, "accumulate": 2}}, "batch must be a multiple of accumulate=2, got 5"),
        (
            {"train": {"iterations": 1, "strategy": "fsdp", "precision": "fp16"}},
            "'fsdp' does not support .* 'fp16'",
        ),
        ({"network": {"embed": 16}}, r"network has no field 'embed' \(did you mean 'embed_dim'\?\)"),
        ({"network": {"embed_dim": 12}}, "network: embed_dim must be at least 16, got 12"),
        ({"network": {"mlp_ratio": "wide"}}, r"network: 'mlp_ratio': input should be a valid number.*got 'wide'"),
        ({"name": "a/b"}, "'name': must be a name without folders, got 'a/b'"),
        ({"name": ""}, "'name': must be a name without folders, got ''"),
        ({"name": "x" * 300}, "'name': must have at most 255 bytes, got 'xxx"),
        ({"name": ".a"}, "'name': must not begin with a dot, nor contain a backslash"),
        ({"name": "a\\b"}, "'name': must not begin with a dot, nor contain a backslash"),
        ({"network": {"in_channels": 4}}, "network.in_channels must be 3, for RGB .*, or 1, for gray ones, got 4"),
        ({"data": {"hr": []}}, "'data.hr'"),
        (
            {"data": {"hr": ["a"], "lr": ["b"], "degradation": {}}},
            "data.lr must be empty with data.degradation, which is for low-resolution pictures that are made, got b",
        ),
        (
            {"data": {"hr": ["a"], "degradation": {"blurr": 1}}},
            r"'data.degradation.blurr' \(did you mean 'data.degradation.blur'\?\)",
        ),
        ({"train": {"itertions": 3}}, r"unknown key 'train.itertions' \(did you mean 'train.iterations'\?\)"),
    ],
)
def test_settings_that_make_no_training_are_refused(
    settings: TrainSettings, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_settings(TrainSettings, {**settings.model_dump(), "network": TINY, **wrong}, source="recipe.yml")
