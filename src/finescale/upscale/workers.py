"""A batch on several processes of one machine: one for each device, or several on its CPU.

Each process gets its share of the jobs at the start. One that is killed is replaced; the replacement does the rest of
the share one by one, so that a picture that kills its process is known, and reported as failed after its second time.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.synchronize import Event
from typing import Any

from finescale.errors import FinescaleError, printable_name
from finescale.system.allocation import reuse_memory
from finescale.system.cores import use_threads
from finescale.upscale.batch import run_jobs
from finescale.upscale.outputs import Job, OutputSettings
from finescale.upscale.report import UpscaleReport
from finescale.upscale.upscaler import Upscaler

_PATIENCE = 60.0
"""Seconds that a process may take to end."""

Build = Callable[[str], Upscaler]
"""Builds the upscaler of a device, in the process that uses it; a function that can be pickled."""


def run_on_workers(
    shares: Sequence[Sequence[Job]],
    build: Build,
    devices: Sequence[str],
    settings: OutputSettings,
    *,
    max_pixels: int | None = None,
    detect_flaws: bool = False,
    threads: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[UpscaleReport]:
    """Run shares of a batch, each in a process of its own, and yield a report for each job once its result is written.

    Args:
        shares: The jobs of each process.
        build: Builds the upscaler of each process.
        devices: The device of each process.
        settings: How results are written.
        max_pixels: As `run_jobs` takes it.
        detect_flaws: Look for visible compression and noise in each input.
        threads: Threads that compute in each process; None is the default of each.
        stop: Called at least twice a second; once it returns true, the pictures at work are given up.

    Raises:
        FinescaleError: An upscaler cannot be built.
    """
    context = get_context("spawn")
    has_stopped = context.Event()
    options = {"max_pixels": max_pixels, "detect_flaws": detect_flaws}

    def start(worker: _Worker) -> None:
        ours, theirs = context.Pipe()
        arguments = (theirs, has_stopped, worker.remaining, build, worker.device, settings, options, threads)
        worker.process = context.Process(
            target=_work, args=(*arguments, worker.is_careful), name=f"upscale on {worker.device}", daemon=True
        )
        worker.reports = ours
        worker.process.start()
        theirs.close()

    workers = [_Worker(device, list(share)) for device, share in zip(devices, shares, strict=True) if share]
    try:
        for worker in workers:
            start(worker)
        while workers:
            ready = wait([worker.reports for worker in workers], timeout=0.25)
            if stop():
                has_stopped.set()
            for worker in [worker for worker in workers if worker.reports in ready]:
                try:
                    message = worker.reports.recv()
                except EOFError:
                    yield from worker.end()
                    if worker.remaining and not has_stopped.is_set():
                        start(worker)
                    else:
                        workers.remove(worker)
                    continue
                if isinstance(message, BaseException):
                    raise message
                worker.remaining.remove(message[0])
                yield message[1]
    finally:
        has_stopped.set()
        for worker in workers:
            worker.process.join(_PATIENCE)  # results that are being written are finished
            worker.process.terminate()
            worker.process.join()


@dataclass(eq=False)
class _Worker:
    """A process and what it has to do."""

    device: str
    remaining: list[Job]
    """Jobs without a report."""
    is_careful: bool = False
    """Whether it does one job after the other, so that the first of ``remaining`` is the one at work."""
    process: SpawnProcess = field(init=False)
    reports: Connection[Any, Any] = field(init=False)

    def end(self) -> Iterator[UpscaleReport]:
        """Take note that the process has ended; report the job that has killed it for the second time."""
        self.process.join()
        self.reports.close()
        code = self.process.exitcode
        if code == 0:
            return
        if self.is_careful and self.remaining:
            job = self.remaining.pop(0)
            cause = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            reason = f"{printable_name(job.input)}: its process was killed twice ({cause}), perhaps for want of memory"
            yield UpscaleReport(job.input, "failed", reason=reason)
        self.is_careful = True


def _work(
    reports: Connection[Any, Any],
    has_stopped: Event,
    jobs: Sequence[Job],
    build: Build,
    device: str,
    settings: OutputSettings,
    options: dict[str, Any],
    threads: int | None,
    is_careful: bool,
) -> None:
    """Run jobs in a process of their own, and send each with its report."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it as well, and decides
    parent = parent_process()
    assert parent is not None
    reuse_memory()
    if threads is not None:
        use_threads(threads)

    def is_over() -> bool:
        return has_stopped.is_set() or not parent.is_alive()

    def on_tile(_job: Job, _done: int, _total: int) -> None:
        if is_over():
            raise KeyboardInterrupt

    try:
        upscaler = build(device)
        for batch in [[job] for job in jobs] if is_careful else [jobs]:
            told = run_jobs(batch, upscaler, settings, on_tile=on_tile, stop=is_over, **options)
            for job, report in zip(batch, told, strict=False):
                reports.send((job, report))
    except (FinescaleError, ValueError) as error:
        reports.send(error)
    except KeyboardInterrupt:
        pass
