"""Several processes do what one does; one that is killed is replaced, and a picture that kills it is named."""

from __future__ import annotations

import os
import signal
from multiprocessing import active_children
from pathlib import Path

import pytest
import torch
from torch import Tensor

from finescale.errors import DeviceError
from finescale.images import read_image, write_image
from finescale.upscale import Upscaler
from finescale.upscale.outputs import Job, OutputSettings
from finescale.upscale.workers import run_on_workers
from upscale.stand_ins import Nearest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
POISON = 13 / 255


class Deadly(Nearest):
    """Kills its process at a picture whose first pixel is poison."""

    def forward(self, lr: Tensor) -> Tensor:
        if abs(float(lr[0, 0, 0, 0]) - POISON) < 1e-4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(lr)


def build(device: str) -> Upscaler:
    return Upscaler(Deadly(), device=device)


def refuse(device: str) -> Upscaler:
    raise DeviceError(f"there is no device {device!r}")


def jobs_of(folder: Path, count: int, *, poison: tuple[int, ...] = ()) -> list[Job]:
    jobs = [Job(folder / f"{number}.png", folder / "out" / f"{number}_x2.png") for number in range(count)]
    for number, job in enumerate(jobs):
        write_image(job.input, torch.full((3, 8, 8), POISON if number in poison else number / 255))
    return jobs


def test_killed_processes_are_replaced_and_the_picture_that_kills_is_named(tmp_path: Path) -> None:
    """Of the first process, one picture kills; the second is killed from outside, after its first picture."""
    jobs = jobs_of(tmp_path, 10, poison=(2,))
    reports = []
    has_killed = False
    for report in run_on_workers([jobs[:5], jobs[5:]], build, ["cpu", "cpu:0"], OutputSettings(), threads=1):
        reports.append(report)
        if report.input == jobs[5].input and not has_killed:
            has_killed = True
            for process in active_children():
                if process.pid is not None and process.name == "upscale on cpu:0":
                    os.kill(process.pid, signal.SIGKILL)
    assert has_killed
    assert {report.input for report in reports} == {job.input for job in jobs}
    assert len(reports) == 10
    failed = [report for report in reports if report.status == "failed"]
    assert [report.input for report in failed] == [jobs[2].input]
    expected = f"{jobs[2].input}: its process was killed twice (SIGKILL), perhaps for want of memory"
    assert failed[0].reason == expected
    for number, job in enumerate(jobs):
        assert job.output is not None
        if number != 2:
            assert torch.equal(read_image(job.output).pixels, torch.full((3, 16, 16), number / 255))
    assert not active_children()


def test_what_prevents_the_first_picture_is_raised(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, 2)
    with pytest.raises(DeviceError, match="there is no device 'cpu'"):
        list(run_on_workers([jobs], refuse, ["cpu"], OutputSettings()))
    assert not active_children()


def test_a_batch_that_is_stopped_begins_no_further_picture(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path, 3)
    assert list(run_on_workers([jobs], build, ["cpu"], OutputSettings(), stop=lambda: True)) == []
    assert not active_children()
