"""Every model on every picture: what is kept, what is measured anew, and what fails."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from finescale import Upscaler
from finescale.data import benchmark_pairs
from finescale.errors import DataError, ImageReadError, NumericalError
from finescale.evaluate import (
    PAPERS,
    PROTOCOLS,
    Case,
    Failure,
    Model,
    PerceptualMetric,
    ResultsFolder,
    Score,
    benchmark_cases,
    bicubic,
    cases_without_originals,
    evaluate,
    run,
)
from finescale.images import read_image, write_image
from finescale.metrics import psnr
from small_sets import write_set


class Counting:
    """A model that repeats pixels, and counts how often it is asked."""

    def __init__(self, *, sha: str = "a") -> None:
        self.calls = 0
        self.model = Model(name="repeat", upscale=self._upscale, conditions={"weights_sha256": sha})

    def _upscale(self, lr: Tensor, _on_tile: object) -> Tensor:
        self.calls += 1
        return lr.repeat_interleave(2, 1).repeat_interleave(2, 2)


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    return benchmark_cases(write_set(tmp_path / "data"), scale=2)


def folder(tmp_path: Path, **settings: bool) -> ResultsFolder:
    return ResultsFolder(tmp_path / "results", suffix="x2", **settings)


def test_every_model_is_measured_on_every_picture_as_its_file_shows(cases: list[Case], tmp_path: Path) -> None:
    models = [bicubic(scale=2), Counting().model]
    scores = list(run(models, cases, scale=2, results=folder(tmp_path)))
    assert [(score.model, score.image) for score in scores] == [
        ("bicubic", "one"),
        ("repeat", "one"),
        ("bicubic", "two"),
        ("repeat", "two"),
    ]
    for score, case in zip(scores, [case for case in cases for _ in models], strict=True):
        assert isinstance(score, Score)
        stored = read_image(tmp_path / "results" / "images" / score.model / "Set5" / f"{score.image}_x2.png").pixels
        original = case.read(scale=2)[1]
        assert original is not None
        assert score.psnr == psnr(stored, original, border=2)


def test_what_is_finished_is_not_done_again(cases: list[Case], tmp_path: Path) -> None:
    counting = Counting()
    first = list(run([counting.model], cases[:1], scale=2, results=folder(tmp_path)))
    second = list(run([counting.model], cases, scale=2, results=folder(tmp_path)))
    assert counting.calls == 2
    assert second[0] == first[0]
    assert [score.is_reused for score in second if isinstance(score, Score)] == [True, False]
    list(run([counting.model], cases, scale=2, results=folder(tmp_path, overwrite=True)))
    assert counting.calls == 4


def test_half_a_line_of_a_killed_run_is_forgotten(cases: list[Case], tmp_path: Path) -> None:
    counting = Counting()
    list(run([counting.model], cases, scale=2, results=folder(tmp_path)))
    log = tmp_path / "results" / "finished.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    assert len(list(run([counting.model], cases, scale=2, results=folder(tmp_path)))) == 2
    assert counting.calls == 3
    list(run([counting.model], cases, scale=2, results=folder(tmp_path)))
    assert counting.calls == 3


@pytest.mark.parametrize("change", ["weights", "protocol", "file", "picture", "conditions"])
def test_what_a_result_depends_on_makes_it_new_when_it_changes(change: str, cases: list[Case], tmp_path: Path) -> None:
    counting = Counting()
    list(run([counting.model], cases, scale=2, results=folder(tmp_path)))
    model, protocol, expected = counting.model, PAPERS, 4
    if change == "weights":
        other = Counting(sha="b")
        assert len(list(run([other.model], cases, scale=2, results=folder(tmp_path)))) == other.calls == 2
        return
    if change == "protocol":
        protocol = PROTOCOLS["rgb"]
    elif change == "conditions":
        model = dataclasses.replace(model, conditions={**model.conditions, "tiles": "chop"})
    else:
        expected = 3
        assert cases[0].hr is not None
        path = cases[0].hr if change == "file" else tmp_path / "results" / "images" / "repeat" / "Set5" / "one_x2.png"
        write_image(path, torch.zeros(3, 45, 50))
    list(run([model], cases, scale=2, protocol=protocol, results=folder(tmp_path)))
    assert counting.calls == expected


def test_pictures_that_were_not_kept_are_made_when_they_are_asked_for(cases: list[Case], tmp_path: Path) -> None:
    counting = Counting()
    list(run([counting.model], cases, scale=2, results=folder(tmp_path, keep_pictures=False)))
    assert not (tmp_path / "results" / "images").exists()
    list(run([counting.model], cases, scale=2, results=folder(tmp_path, keep_pictures=False)))
    assert counting.calls == 2
    list(run([counting.model], cases, scale=2, results=folder(tmp_path)))
    assert counting.calls == 4


def test_a_bad_pair_is_named_once_and_the_rest_is_measured(cases: list[Case]) -> None:
    assert cases[0].lr is not None
    cases[0].lr.unlink()
    found = list(run([bicubic(scale=2), Counting().model], cases, scale=2))
    assert isinstance(found[0], Failure)
    assert (found[0].image, found[0].model) == ("one", None)
    assert "onex2.png: cannot be read (No such file or directory)" in found[0].reason
    assert [(entry.model, entry.image) for entry in found[1:]] == [("bicubic", "two"), ("repeat", "two")]


def test_a_models_failure_is_its_own(cases: list[Case]) -> None:
    def fail(lr: Tensor, _on_tile: object) -> Tensor:
        raise NumericalError("the network's answer is not finite")

    found = list(run([Model(name="bad", upscale=fail), bicubic(scale=2)], cases[:1], scale=2))
    assert found[0] == Failure("Set5", "one", "bad", "Set5 one: the network's answer is not finite")
    assert isinstance(found[1], Score)


def test_pictures_without_originals_are_upscaled_and_not_measured(tmp_path: Path) -> None:
    (tmp_path / "lr").mkdir()
    write_image(tmp_path / "lr" / "a.png", torch.rand(3, 6, 7))
    judged = PerceptualMetric("niqe", False, True, lambda sr: sr.sum())
    compared = PerceptualMetric("lpips", True, True, lambda sr, hr: (sr - hr).sum())
    cases = cases_without_originals(tmp_path / "lr")
    (score,) = run([bicubic(scale=2)], cases, scale=2, metrics=[judged, compared], results=folder(tmp_path))
    assert isinstance(score, Score)
    assert (score.psnr, score.ssim, score.metrics["lpips"]) == (None, None, None)
    stored = read_image(tmp_path / "results" / "images" / "bicubic" / "lr" / "a_x2.png").pixels
    assert stored.shape == (3, 12, 14)
    assert score.metrics["niqe"] == pytest.approx(float(stored.sum()), rel=1e-6)


def test_equal_pictures_are_infinitely_near_also_when_read_again(tmp_path: Path) -> None:
    for name, size in (("HR", 30), ("LR_bicubic/X2", 15)):
        (tmp_path / "data" / "Flat" / name).mkdir(parents=True)
        stem = "a" if name == "HR" else "ax2"
        write_image(tmp_path / "data" / "Flat" / name / f"{stem}.png", torch.full((3, size, size), 0.2))
    cases = benchmark_cases(tmp_path / "data", scale=2)
    for _ in range(2):
        (score,) = run([Counting().model], cases, scale=2, results=folder(tmp_path))
        assert isinstance(score, Score)
        assert score.psnr == math.inf


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "report.md").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="contains files that are not results; name another folder"):
            folder(tmp_path, overwrite=overwrite)
    (tmp_path / "results" / "finished.jsonl").write_text("[]\n")
    with pytest.raises(DataError, match=r"finished\.jsonl: damaged; delete it or give --overwrite"):
        folder(tmp_path)


def test_a_network_can_be_measured_without_a_folder(tmp_path: Path) -> None:
    upscaler = Upscaler.from_pretrained("default", scale=2)
    pairs = benchmark_pairs(write_set(tmp_path), "Set5", scale=2)
    scores = evaluate(upscaler, pairs)
    assert [score.image for score in scores] == ["one", "two"]
    lr, hr = (read_image(path).pixels for path in (pairs[1].lr, pairs[1].hr) if path)
    assert scores[1].psnr == pytest.approx(psnr(upscaler(lr), hr, border=2))
    pairs[0].hr.unlink()
    with pytest.raises(ImageReadError, match=r"one\.png: cannot be read"):
        evaluate(upscaler, pairs)
