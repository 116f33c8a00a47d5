"""A whole evaluation as one call of Python: what it measures, writes, reuses and refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale import weights
from finescale.errors import DataError
from finescale.evaluate import (
    PROTOCOLS,
    Execution,
    Failure,
    ResultsFolder,
    Score,
    carry_out,
    evaluate_networks,
    plan_evaluation,
    tiling_of,
)
from finescale.networks import FAMILIES
from finescale.upscale import Tiling
from heads import one_block
from small_sets import write_set


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_set(tmp_path / "data")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    family = FAMILIES["hit-sr"]
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    weights.save(family.network(settings=family.tiny["hit-sir"], scale=2), path, source="a test")
    return str(path)


def test_networks_are_measured_at_their_scale_beside_the_bicubic(data: Path, tiny: str, tmp_path: Path) -> None:
    report = evaluate_networks([tiny], data, results=tmp_path / "results")
    assert [(row.model, row.scale, row.set, row.images) for row in report.rows()] == [
        ("bicubic", 2, "Set5", 2),
        ("tiny", 2, "Set5", 2),
    ]
    assert json.loads((tmp_path / "results" / "report.json").read_text()) == report.as_json()
    again = evaluate_networks([tiny], data, results=tmp_path / "results")
    assert all(score.is_reused for score in again.scores)
    assert again.scores == report.scores


@pytest.mark.parametrize(("head", "scale"), [("restoration", 1), ("pixelshuffledirect", 8)])
def test_networks_are_measured_at_other_scales_which_their_files_tell(head: str, scale: int, tmp_path: Path) -> None:
    data = write_set(tmp_path / "data", scale=scale, sizes={"one": (96, 104)})
    weights.save(one_block(head, scale), tmp_path / "net.safetensors", source="a test")
    report = evaluate_networks([str(tmp_path / "net.safetensors")], data, results=tmp_path / "results")
    baseline, row = report.rows()
    assert (row.model, row.scale, row.images) == ("net", scale, 1)
    assert (tmp_path / "results" / "images" / "net" / "Set5" / f"one_x{scale}.png").is_file()
    assert (baseline.psnr == math.inf) == (scale == 1)  # what is to be restored is the original itself here
    assert row.psnr is not None
    assert 5 < row.psnr < 60


def test_without_a_folder_nothing_is_written(data: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    report = evaluate_networks(["bicubic"], data, scale=2, protocol=PROTOCOLS["rgb"])
    assert [row.model for row in report.rows()] == ["bicubic"]
    assert set(tmp_path.rglob("*")) == before


def test_what_a_callback_raises_ends_an_evaluation_that_is_resumed_later(data: Path, tiny: str, tmp_path: Path) -> None:
    plan = plan_evaluation([tiny], data=data, sets=["set5"], execution=Execution(ensemble=True))

    def stop(result: Score | Failure) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carry_out(plan, results=ResultsFolder(tmp_path / "results", suffix=plan.suffix), on_result=stop)
    assert not (tmp_path / "results" / "report.json").exists()
    report = carry_out(plan, results=ResultsFolder(tmp_path / "results", suffix=plan.suffix))
    assert [score.is_reused for score in report.scores] == [True, False, False, False]
    assert report.models[1].conditions["ensemble"] is True


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"names": [], "scale": None}, ValueError, "bicubic has no scale of its own"),
        ({"scale": 0}, ValueError, "scale must be a whole number from 1 to 16, got 0"),
        ({"scale": 3}, ValueError, "scale must be 2 for .*tiny.safetensors, got 3"),
        ({"data": None}, ValueError, "either a folder of test sets or one of pictures without originals"),
        ({"lr": Path("small")}, ValueError, "either a folder of test sets or one of pictures without originals"),
        ({"sets": ["Set14"]}, DataError, "holds no test set 'Set14'"),
        ({"execution": Execution(device="toaster")}, ValueError, "device must be"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    changes: dict[str, Any], error: type[Exception], sentence: str, data: Path, tiny: str
) -> None:
    with pytest.raises(error, match=sentence):
        plan_evaluation(**{"names": [tiny], "data": data, **changes})


def test_a_report_names_the_file_of_a_network_that_was_named_by_it(data: Path, tiny: str) -> None:
    plan = plan_evaluation([tiny, "default"], data=data, scale=2)
    assert [model.weights_file for model in plan.models] == [None, tiny, None]


def test_a_scale_that_only_the_network_knows_selects_the_test_sets(tmp_path: Path, tiny: str) -> None:
    root = tmp_path / "published"
    write_set(tmp_path / "data")
    (root / "HR" / "Set5").mkdir(parents=True)
    (tmp_path / "data" / "Set5" / "HR").rename(root / "HR" / "Set5" / "x2")
    assert [case.name for case in plan_evaluation([tiny], data=root).cases] == ["one", "two"]
    (root / "HR" / "Set5" / "x2").rename(root / "HR" / "Set5" / "x3")
    with pytest.raises(DataError, match="holds no test set"):
        plan_evaluation([tiny], data=root)


def test_pictures_are_upscaled_whole_unless_something_else_is_stated() -> None:
    assert tiling_of() == tiling_of(rule="blend") == Tiling(tile=0)
    assert tiling_of(overlap=8) == Tiling(tile="auto", overlap=8)
    assert tiling_of(tile=64) == Tiling(tile=64)
    assert tiling_of(rule="chop") == Tiling(rule="chop")
