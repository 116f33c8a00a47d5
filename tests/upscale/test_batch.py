"""Which files are meant, where results go, and that no file stops the others; the rest is in tests/cli."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale.images import write_image
from finescale.upscale import Upscaler, batch
from finescale.upscale.batch import Job, OutputSettings, Source, find_sources, plan_jobs, run_jobs
from upscale.stand_ins import Nearest


def outputs(*sources: Source, settings: OutputSettings | None = None) -> list[str | None]:
    jobs, _ = plan_jobs(sources, settings or OutputSettings(), scale=2, network="tiny")
    return [job.output and job.output.as_posix() for job in jobs]


def test_a_picture_named_twice_is_meant_once(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.zeros(3, 2, 2))
    sources, failures, _ = find_sources([str(tmp_path / "a.png"), str(tmp_path), str(tmp_path / "*.png")])
    assert [source.path.name for source in sources] == ["a.png"]
    assert failures == []


def test_the_folder_of_the_results_is_not_looked_into(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for path in (tmp_path / "a.png", out / "b.png"):
        write_image(path, torch.zeros(3, 2, 2))
    sources, _, _ = find_sources([str(tmp_path)], leave_out=out)
    assert [source.path.name for source in sources] == ["a.png"]


def test_folders_below_the_named_one_are_kept() -> None:
    settings = OutputSettings(folder=Path("out"))
    sources = (
        Source(Path("in/a.png"), Path()),
        Source(Path("in/deep/er/a.png"), Path("deep/er")),
        Source(Path("x/a.jpg")),
    )
    assert outputs(*sources, settings=settings) == ["out/a_x2.png", "out/deep/er/a_x2.png", "out/a.jpg_x2.png"]


def test_names_that_differ_only_in_case_or_composition_do_not_meet() -> None:
    settings = OutputSettings(folder=Path("out"), name="{stem}_{network}")
    assert outputs(Source(Path("e\u0301.png")), Source(Path("\u00c9.png")), settings=settings) == [
        "out/e\u0301_tiny.png",
        "out/\u00c9.png_tiny.png",
    ]


def test_results_of_an_earlier_run_are_left_out_of_a_folder_but_not_when_named() -> None:
    both = Path("a.png"), Path("a_x2.png")
    jobs, results = plan_jobs([Source(path, Path()) for path in both], OutputSettings(), scale=2, network="tiny")
    assert ([job.input for job in jobs], results) == ([both[0]], [both[1]])
    jobs, results = plan_jobs([Source(path) for path in both], OutputSettings(), scale=2, network="tiny")
    assert results == []
    assert jobs[0].reason == "a_x2.png: the result would replace an input"
    assert jobs[1].output == Path("a_x2_x2.png")


def test_a_picture_too_large_for_the_memory_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [Job(tmp_path / f"{stem}.png", tmp_path / f"{stem}_x2.png") for stem in ("huge", "small")]
    for job in jobs:
        write_image(job.input, torch.zeros(3, 2, 2))

    def read(path: Path, *, max_pixels: int) -> object:
        if path.stem == "huge":
            raise MemoryError
        return original(path, max_pixels=max_pixels)

    original = batch.read_image
    monkeypatch.setattr(batch, "read_image", read)
    reports = list(run_jobs(jobs, Upscaler(Nearest()), OutputSettings()))
    assert [report.status for report in reports] == ["failed", "done"]
    assert "too little memory" in str(reports[0].reason)
    assert not (tmp_path / "huge_x2.png").exists()
