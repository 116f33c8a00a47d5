"""No file of a batch stops the others or waits in vain; the rest is in tests/cli."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread, current_thread
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale.images import Image, write_image
from finescale.upscale import Upscaler, batch
from finescale.upscale.batch import run_jobs
from finescale.upscale.outputs import Job, OutputSettings
from upscale.stand_ins import Limited, Nearest


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


def planned(folder: Path, *stems: str, side: int = 2) -> list[Job]:
    jobs = [Job(folder / f"{stem}.png", folder / f"{stem}_x2.png") for stem in stems]
    for job in jobs:
        write_image(job.input, torch.zeros(3, side, side))
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


RESULT_BYTES = 4 * 3 * 4 * 4
"""What the result of a picture of 2 x 2 pixels takes as float32 RGB."""

DECODING_BYTES = 24
"""What a pixel may take while it is decoded."""


@pytest.mark.parametrize(
    ("side", "free", "is_read_ahead"),
    [
        pytest.param(2, 4 * RESULT_BYTES, True, id="the result takes a quarter"),
        pytest.param(2, 4 * RESULT_BYTES - 1, False, id="the result takes more"),
        pytest.param(3, 4 * 9 * DECODING_BYTES, True, id="the next picture takes a quarter"),
        pytest.param(3, 4 * 9 * DECODING_BYTES - 1, False, id="the next picture takes more"),
    ],
)
def test_a_picture_is_read_ahead_where_it_and_the_result_take_a_quarter_of_the_free_memory(
    side: int, free: int, is_read_ahead: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers: dict[str, Thread] = {}
    read = batch.read_image

    def noting_the_thread(path: Path, *, max_pixels: int) -> Image:
        image = read(path, max_pixels=max_pixels)
        readers[path.stem] = current_thread()
        return image

    monkeypatch.setattr(batch, "free_host_memory", lambda: free)
    monkeypatch.setattr(batch, "read_image", noting_the_thread)
    jobs = [*planned(tmp_path, "a"), *planned(tmp_path, "b", side=side)]
    assert [report.status for report in run_jobs(jobs, Upscaler(Nearest()), OutputSettings())] == ["done", "done"]
    assert readers["a"] is current_thread()
    assert (readers["b"] is not current_thread()) == is_read_ahead


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


# ---- memory and sizes

FAILED_ALLOCATIONS = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you tried"),
    RuntimeError("could not create a primitive"),
    RuntimeError("std::bad_alloc"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
]


@pytest.mark.parametrize("place", ["read_image", "network", "resize", "write_image"])
@pytest.mark.parametrize("error", FAILED_ALLOCATIONS, ids=str)
def test_a_failed_allocation_fails_one_picture_wherever_it_happens(
    error: Exception, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Short(Nearest):
        def forward(self, lr: Tensor) -> Tensor:
            if place == "network" and lr.mean() > 0.5:
                raise error
            return super().forward(lr)

    def short(step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            image = next(
                (one.pixels if isinstance(one, Image) else one for one in args if not isinstance(one, Path)), 0
            )
            if "b" in [getattr(one, "stem", "")[:1] for one in args] or (
                isinstance(image, Tensor) and image.mean() > 0.5
            ):
                raise error
            return step(*args, **kwargs)

        return run

    if place != "network":
        monkeypatch.setattr(batch, place, short(getattr(batch, place)))
    jobs = planned(tmp_path, "a", "b", "c")
    write_image(jobs[1].input, torch.ones(3, 2, 2))
    reports = list(run_jobs(jobs, Upscaler(Short()), OutputSettings(outscale=3)))
    assert [report.status for report in reports] == ["done", "failed", "done"]
    assert "too little" in str(reports[1].reason)
    assert "\n" not in str(reports[1].reason)
    assert sorted(path.name for path in tmp_path.glob("*_x2*")) == ["a_x2.png", "c_x2.png"]


def test_another_error_of_the_network_is_raised(tmp_path: Path) -> None:
    class Broken(Nearest):
        def forward(self, lr: Tensor) -> Tensor:
            raise RuntimeError("could not create a primitive descriptor for a convolution")

    with pytest.raises(RuntimeError, match="descriptor"):
        list(run_jobs(planned(tmp_path, "a"), Upscaler(Broken()), OutputSettings()))


@pytest.mark.parametrize(
    ("asked", "suffix", "free", "reason"),
    [
        ({"outscale": 1e8}, ".png", None, r"exceeds the limit of 0\.0004 megapixels; choose a smaller one"),
        ({"outscale": 11.0}, ".png", None, "a result of 22 x 22 pixels exceeds the limit"),
        ({"outscale": 9.0}, ".png", 10_000, r"a result of 18 x 18 pixels takes 0\.0 GiB of memory, but only"),
        ({"width": 2**31 - 1}, ".png", None, "a result of 2147483647 x 2147483647 pixels exceeds the limit"),
        ({"height": 65501, "width": 1}, ".jpg", None, "1 x 65501 pixels exceed the 65500 per side that JPEG holds"),
        ({"long_side": 16384}, ".webp", None, "16384 x 16384 pixels exceed the 16383 per side that WebP holds"),
    ],
)
def test_a_result_out_of_reach_fails_before_the_network_runs(
    asked: dict[str, float], suffix: str, free: int | None, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "a.png", torch.zeros(3, 2, 2))
    network = Limited(pixels=10**9)
    settings = OutputSettings(**asked)  # type: ignore[arg-type]
    monkeypatch.setattr(batch, "free_host_memory", lambda: free)
    job = Job(tmp_path / "a.png", tmp_path / f"out{suffix}")
    (report,) = run_jobs([job], Upscaler(network), settings, max_pixels=100)
    assert report.status == "failed"
    assert re.search(reason, str(report.reason))
    assert network.asked == []


def test_sizes_that_no_format_holds_are_refused_as_settings() -> None:
    for asked in (
        {"outscale": 1e300},
        {"outscale": float("inf")},
        {"outscale": float("nan")},
        {"width": 2**31},
        {"long_side": 10**30},
    ):
        with pytest.raises(ValueError, match=next(iter(asked))):
            OutputSettings(**asked)  # type: ignore[arg-type]
