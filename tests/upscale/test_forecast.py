"""What a batch will take is said before it starts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from finescale.cli.main import run
from finescale.images import write_image
from finescale.system.places import RemotePath
from finescale.upscale.batch import likely_pixels
from finescale.upscale.forecast import Forecast, forecast
from finescale.upscale.outputs import Job, OutputSettings


class Usage(NamedTuple):
    free: int


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    for name, size in {"a": (10, 20), "b": (30, 40), "kept": (50, 60)}.items():
        write_image(tmp_path / f"{name}.png", torch.rand(3, *size))
    (tmp_path / "damaged.png").write_bytes(b"no picture")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept.png").touch()
    made = [Job(tmp_path / f"{name}.png", tmp_path / "out" / f"{name}.png") for name in ("a", "b", "kept", "damaged")]
    return [*made, Job(tmp_path / "none.png", None, "no name is left")]


def test_pixels_and_disk_of_what_is_still_to_be_made(
    jobs: list[Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(free=12_000))
    found = forecast(jobs, OutputSettings(), scale=2)
    assert found.pixels == {tmp_path / "a.png": 200, tmp_path / "b.png": 1200}
    assert (found.input_pixels, found.output_pixels) == (1400, 5600)
    assert found.disks == ((11_200, 12_000),)  # two bytes for each pixel of a PNG
    assert found.fits
    halved = forecast(jobs, OutputSettings(outscale=1), scale=2)
    assert halved.output_pixels == 1400
    overwritten = forecast(jobs, OutputSettings(overwrite=True), scale=2)
    assert overwritten.input_pixels == 1400 + 3000
    assert not overwritten.fits


def test_the_time_left_follows_the_pace_of_pixels(tmp_path: Path) -> None:
    expected = Forecast(pixels={tmp_path / "a": 300, tmp_path / "b": 700}, output_pixels=0, disks=())
    assert expected.seconds_left(0, 5.0) is None
    assert expected.seconds_left(250, 5.0) == 15.0
    assert expected.seconds_left(1000, 20.0) == 0.0


def test_remote_pictures_are_counted_as_far_as_they_are_known(jobs: list[Job], tmp_path: Path) -> None:
    far, away = RemotePath("s3://nowhere/far.jpg", num_bytes=1000), RemotePath("s3://nowhere/out/a.png")
    few = [
        Job(far, tmp_path / "out" / "far.png"),
        Job(far, tmp_path / "out" / "kept.png"),
        Job(far, away),
        Job(jobs[0].input, away),
        Job(tmp_path / "damaged.png", away),
    ]
    found = forecast(few, OutputSettings(), scale=2)
    assert (found.pixels, found.output_pixels, found.disks) == ({tmp_path / "a.png": 200}, 800, ())
    assert (found.num_unknown, found.num_unasked) == (2, 2)
    assert found.fits
    assert found.seconds_left(100, 5.0) is None
    assert forecast(few, OutputSettings(overwrite=True), scale=2).num_unasked == 0
    assert [likely_pixels(job, (0, 0)) for job in (few[0], few[3])] == [4000, 0]


@pytest.mark.parametrize("force", [False, True])
def test_a_batch_without_room_is_refused_before_it_starts(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        write_image(tmp_path / "in" / f"{name}.png", torch.rand(3, 8, 10))
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: Usage(free=1000))
    words = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-s", "2", *(["--force"] if force else [])]
    assert run(words) == (0 if force else 1)
    told = capsys.readouterr().err
    assert "2 pictures to make, 0.0 megapixels in, 0.0 out; about 0.0 MB of disk, 0.0 MB free" in told
    refusal = "finescale: the results may not fit on the disk; free some, choose another folder, or give --force"
    assert (refusal in told) is not force
    assert len(list((tmp_path / "out").glob("*.png"))) == (2 if force else 0)
