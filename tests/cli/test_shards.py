"""``--shard`` in ``finescale prepare`` and ``evaluate``: shares are together what one process does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finescale.cli.main import run
from finescale.data import open_cache
from pictures import draw
from small_sets import write_set


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    """Four originals."""
    for number, name in enumerate(("a.png", "b.png", "c.png", "d.png")):
        draw(tmp_path / "hr" / name, width=24 + 2 * number, height=24, seed=number)
    return tmp_path / "hr"


def call(*arguments: object) -> int:
    return run([*map(str, arguments)])


def pictures_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")}


@pytest.mark.parametrize("flags", [("downsample", "-s", "2"), ("crops", "--size", "16", "--step", "8")])
def test_shards_prepare_what_one_process_does(
    flags: tuple[str, ...], hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *settings = flags
    assert call("prepare", verb, hr, "-o", tmp_path / "whole", *settings) == 0
    for shard in ("1/3", "2/3", "3/3"):
        assert call("prepare", verb, hr, "-o", tmp_path / "out", *settings, "--shard", shard) == 0
    assert pictures_below(tmp_path / "out") == pictures_below(tmp_path / "whole") != {}
    capsys.readouterr()
    assert call("report", "merge", tmp_path / "out", "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert sorted(file["input"] for file in files) == [str(hr / f"{stem}.png") for stem in "abcd"]


def test_namesakes_are_in_one_shard_which_refuses_the_second(
    hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "more" / "a.png", width=24, height=24, seed=9)
    codes = [
        call("prepare", "downsample", hr, tmp_path / "more", "-s", "2", "-o", tmp_path / "out", "--shard", shard)
        for shard in ("1/2", "2/2")
    ]
    assert sorted(codes) == [0, 2]
    capsys.readouterr()
    assert call("report", "merge", tmp_path / "out") == 2
    assert capsys.readouterr().err == "4 done, 1 failed\n"


def test_missing_originals_are_reported_by_the_first_shard(
    hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("prepare", "downsample", hr, "-o", tmp_path / "lr", "-s", "2") == 0
    (hr / "d.png").unlink()
    flags = ["--size", 16, "--step", 8, "--lr", tmp_path / "lr" / "X2", "--lr-output", tmp_path / "lr_out", "-s", 2]
    codes = [call("prepare", "crops", hr, "-o", tmp_path / "out", *flags, "--shard", shard) for shard in ("1/2", "2/2")]
    assert codes == [2, 0]
    capsys.readouterr()
    assert call("report", "merge", tmp_path / "out") == 2
    assert capsys.readouterr().err == "3 done, 1 failed\n"


def test_each_shard_makes_a_cache_of_its_own(hr: Path, tmp_path: Path) -> None:
    for shard in ("1/2", "2/2"):
        assert call("prepare", "cache", hr, "-o", tmp_path / "caches" / "hr", "--shard", shard) == 0
    caches = [open_cache(tmp_path / "caches" / f"hr.{number}-of-2") for number in (1, 2)]
    assert sum(len(cache) for cache in caches) == 4
    assert call("report", "merge", tmp_path / "caches") == 0


def test_shards_of_an_evaluation_leave_only_the_tables(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_set(write_set(tmp_path / "data", "Set14"), "Set5")
    flags = ["evaluate", "-n", tiny_weights, "-s", 2, "--data", data, "-o"]
    assert call(*flags, tmp_path / "whole") == 0
    for shard in ("1/2", "2/2"):
        assert call(*flags, tmp_path / "out", "--shard", shard) == 0
    assert not (tmp_path / "out" / "report.json").exists()
    capsys.readouterr()
    assert call("report", "merge", tmp_path / "out", "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert {file["input"] for file in files} == {
        f"{name}/{image}" for name in ("Set5", "Set14") for image in ("one", "two")
    }
    assert call(*flags, tmp_path / "out") == 0
    assert "done: " not in capsys.readouterr().err  # all results are kept
    assert json.loads((tmp_path / "out" / "report.json").read_text()) == json.loads(
        (tmp_path / "whole" / "report.json").read_text()
    )
    assert pictures_below(tmp_path / "out") == pictures_below(tmp_path / "whole")


def test_shards_of_two_folders_are_measured_on_luma_and_in_rgb_once(
    tiny_weights: Path, hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["evaluate", "-n", tiny_weights, "-s", 2, "--hr", hr, "-o"]
    assert call(*flags, tmp_path / "whole") == 0
    for shard in ("1/2", "2/2"):
        assert call(*flags, tmp_path / "out", "--shard", shard) == 0
    capsys.readouterr()
    assert call(*flags, tmp_path / "out") == 0
    assert "done: " not in capsys.readouterr().err  # all results are kept
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == json.loads((tmp_path / "whole" / "report.json").read_text())
    assert all({"psnr_rgb", "ssim_rgb"} <= image["metrics"].keys() for image in report["images"])


def test_a_picture_that_cannot_be_measured_fails_its_shard(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_set(tmp_path / "data", "Set5")
    for path in data.rglob("one*.png"):
        path.write_bytes(b"no picture")
    flags = ["evaluate", "-n", tiny_weights, "-s", 2, "--data", data, "-o", tmp_path / "out", "--shard"]
    assert sorted(call(*flags, shard) for shard in ("1/2", "2/2")) == [0, 2]
    capsys.readouterr()
    assert call("report", "merge", tmp_path / "out") == 2
    assert capsys.readouterr().err == "1 done, 1 failed\n"
