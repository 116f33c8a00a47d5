"""Which files are meant, where results go, that no file stops the others or waits in vain; the rest is in tests/cli."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from torch import Tensor

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


# ---- pictures on their way


def planned(folder: Path, *stems: str) -> list[Job]:
    jobs = [Job(folder / f"{stem}.png", folder / f"{stem}_x2.png") for stem in stems]
    for job in jobs:
        write_image(job.input, torch.zeros(3, 2, 2))
    return jobs


def noted(step: Callable[..., Any], name: str, note: Callable[[str], None]) -> Callable[..., Any]:
    """A step that notes the picture it was done for."""

    def run(path: Path, *args: Any, **kwargs: Any) -> Any:
        result = step(path, *args, **kwargs)
        note(f"{name} {path.stem}")
        return result

    return run


def test_the_next_picture_is_read_and_the_last_is_written_while_the_network_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = {name: Event() for name in ("read c", "write a_x2")}
    monkeypatch.setattr(
        batch, "read_image", noted(batch.read_image, "read", lambda name: done.get(name, Event()).set())
    )
    monkeypatch.setattr(
        batch, "write_image", noted(batch.write_image, "write", lambda name: done.get(name, Event()).set())
    )
    waited = []

    class Waiting(Nearest):
        """At the second picture, waits for what should go on meanwhile."""

        def forward(self, lr: Tensor) -> Tensor:
            waited.append([len(waited) != 1 or event.wait(60) for event in done.values()])
            return super().forward(lr)

    reports = list(run_jobs(planned(tmp_path, "a", "b", "c"), Upscaler(Waiting()), OutputSettings()))
    assert [(report.input.stem, report.status) for report in reports] == [("a", "done"), ("b", "done"), ("c", "done")]
    assert waited == [[True, True]] * 3


def test_where_memory_is_short_one_picture_is_done_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    monkeypatch.setattr(batch, "free_host_memory", lambda: 0)
    monkeypatch.setattr(batch, "read_image", noted(batch.read_image, "read", steps.append))
    monkeypatch.setattr(batch, "write_image", noted(batch.write_image, "write", steps.append))
    jobs = planned(tmp_path, "a", "b")
    upscaler = Upscaler(Nearest())
    list(run_jobs(jobs, upscaler, OutputSettings(), on_tile=lambda job, *_: steps.append(f"tile {job.input.stem}")))
    assert [step for step in steps if step.startswith(("tile", "write"))] == [
        "tile a",
        "write a_x2",
        "tile b",
        "write b_x2",
    ]
    assert steps.index("read b") > steps.index("tile a")


def test_what_was_finished_before_an_interrupt_is_written_and_reported(tmp_path: Path) -> None:
    def interrupt(job: Job, _done: int, _total: int) -> None:
        if job.input.stem == "b":
            raise KeyboardInterrupt

    reports = run_jobs(planned(tmp_path, "a", "b", "c"), Upscaler(Nearest()), OutputSettings(), on_tile=interrupt)
    assert next(reports).output == tmp_path / "a_x2.png"
    with pytest.raises(KeyboardInterrupt):
        next(reports)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "a_x2", "b", "c"]


def test_a_batch_that_is_told_to_stop_begins_no_further_picture(tmp_path: Path) -> None:
    tiles: list[str] = []
    reports = run_jobs(
        planned(tmp_path, "a", "b", "c", "d"),
        Upscaler(Nearest()),
        OutputSettings(),
        on_tile=lambda job, *_: tiles.append(job.input.stem),
        stop=lambda: "b" in tiles,
    )
    assert [report.input.stem for report in reports] == ["a", "b"]
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "a_x2", "b", "b_x2", "c", "d"]


def test_failed_and_kept_pictures_keep_their_places_among_the_reports(tmp_path: Path) -> None:
    jobs = planned(tmp_path, "a", "b", "c", "d")
    jobs[1].input.write_bytes(b"no picture")
    write_image(tmp_path / "c_x2.png", torch.zeros(3, 2, 2))
    reports = list(run_jobs(jobs, Upscaler(Nearest()), OutputSettings()))
    assert [report.status for report in reports] == ["done", "failed", "kept", "done"]
    assert [report.input for report in reports] == [job.input for job in jobs]
