"""The queue and the worker processes that empty it, picture by picture: one for each device."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from pathlib import Path
from typing import Any

from finescale.serve.catalogue import Catalogue, Offer
from finescale.serve.errors import ApiError
from finescale.serve.jobs import STOPPED, VIEWS, Job, JobStore
from finescale.serve.metrics import Metrics
from finescale.serve.settings import ServeSettings
from finescale.serve.worker_process import WorkerProcess

_RATED_PIXELS = 4096
"""Pixels of the smallest picture whose time says something about others."""
_CANCEL_SECONDS = 30
"""Seconds after which a worker that does not stop between two tiles is killed."""
_MOST_PARAMETERS = 2_000_000
"""Of a network that is measured while nothing waits; larger ones are measured by the first picture."""
_HINTS = {
    "not_a_picture": "Send a PNG, JPEG, WebP, TIFF, BMP, GIF, AVIF or HEIC file.",
    "too_many_pixels": "Send a smaller picture, or start the server with a larger --max-pixels.",
    "cannot_upscale": "Send another picture or other settings.",
    "too_slow": "Send a smaller picture, choose a smaller network, or start the server with a larger --max-seconds.",
    "cancelled": "Send it again if you need it after all.",
    "worker_died": "Send it again; if it happens again, the picture cannot be processed here.",
}


class EngineRoom:
    """Queue of bounded length in front of a worker process for each device.

    Args:
        settings: Of the server.
        store: The jobs.
        catalogue: The networks.
        metrics: What is counted.
    """

    def __init__(self, settings: ServeSettings, store: JobStore, catalogue: Catalogue, metrics: Metrics) -> None:
        self._settings, self._store, self._catalogue, self._metrics = settings, store, catalogue, metrics
        self._waiting: deque[Job] = deque()
        self._num_reserved = 0
        self._wake = asyncio.Event()
        self._workers = [WorkerProcess(settings, device) for device in settings.devices]
        self._tasks: list[asyncio.Task[None]] = []
        self.is_stopping = False
        self.rates: dict[str, float] = {}
        """Measured seconds per input megapixel, by ``id@scale``."""
        self._unprobed = [offer for offer in catalogue.offers() if offer.num_parameters <= _MOST_PARAMETERS]
        for job in store:
            self._note_rate(job)

    # ---- what requests call

    def reserve(self) -> None:
        """Take a place in the queue for a picture that is about to be received.

        Raises:
            ApiError: There is none, or the server is stopping.
        """
        if self.is_stopping:
            raise ApiError(503, "stopping", "the server is being stopped", "Send it again later.", retry_after=30)
        taken = len(self._waiting) + self._num_reserved
        if taken >= self._settings.max_queued:
            self._metrics.refused += 1
            raise ApiError(
                429,
                "queue_full",
                f"{taken} pictures are waiting already",
                "Send it again after the seconds in Retry-After.",
                retry_after=self._seconds_to_a_place(),
            )
        self._num_reserved += 1

    def release(self) -> None:
        """Give back a place that `reserve` took."""
        self._num_reserved -= 1

    def submit(self, job: Job) -> None:
        """Put a job into the queue, in a place that was reserved and is released later."""
        self._store.add(job)
        self._waiting.append(job)
        self._wake.set()

    @property
    def num_waiting(self) -> int:
        """Jobs in the queue."""
        return len(self._waiting)

    @property
    def num_ready(self) -> int:
        """Workers that wait for a picture or work on one."""
        return sum(worker.is_ready for worker in self._workers)

    def cancel(self, job: Job) -> None:
        """Stop a job: at once where it waits, after the present tile where it runs."""
        if job in self._waiting:
            self._waiting.remove(job)
            self._fail(job, "cancelled", "cancelled")
            return
        for worker in self._workers:
            if job in (worker.job, worker.ahead) and job.id not in worker.cancelled:
                worker.cancelled.add(job.id)
                worker.send({"cancel": job.id})
                asyncio.get_running_loop().call_later(_CANCEL_SECONDS, self._kill_if_at, worker, job)

    def _kill_if_at(self, worker: WorkerProcess, job: Job) -> None:
        if worker.job is job:
            worker.kill()

    def _seconds_to_a_place(self) -> int:
        left = [worker.job.seconds_left for worker in self._workers if worker.job is not None]
        return max(1, math.ceil(min((min(seconds, 600) for seconds in left if seconds is not None), default=1)))

    # ---- life of the workers

    def start(self) -> None:
        """Begin to work."""
        self._tasks = [asyncio.create_task(self._run(worker)) for worker in self._workers]

    async def stop(self) -> None:
        """Finish pictures at work within the stated time; what waits, and what takes longer, fails with a reason."""
        self.is_stopping = True
        for worker in self._workers:
            if worker.ahead is not None:
                worker.send({"cancel": worker.ahead.id})
            self._recall(worker)
        while self._waiting:
            self._fail(self._waiting.popleft(), "stopped", STOPPED["message"])
        self._store.tell()
        end = time.monotonic() + self._settings.stop_seconds
        while any(worker.job for worker in self._workers) and time.monotonic() < end:
            await asyncio.sleep(0.05)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self._workers:
            if worker.job is not None:
                self._fail(worker.job, "stopped", STOPPED["message"])
                worker.job = None
            await worker.end()
        self._store.tell()

    async def _run(self, worker: WorkerProcess) -> None:
        while True:
            if not worker.is_alive:
                await worker.start()
            while not self._waiting and worker.ahead is None:
                if self._unprobed:
                    await self._probe(worker, self._unprobed.pop(0))
                    continue
                self._wake.clear()
                exited = asyncio.ensure_future(worker.wait())
                woken = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait((exited, woken), return_when=asyncio.FIRST_COMPLETED)
                has_exited = exited.done()
                for task in (exited, woken):
                    task.cancel()
                if has_exited:
                    self._metrics.worker_restarts += 1
                    await worker.start()
            job = worker.job = worker.ahead or self._send_next(worker)
            worker.ahead = None
            worker.cancelled &= {job.id}
            try:
                await asyncio.wait_for(self._work(worker, job), self._settings.max_seconds)
            except asyncio.TimeoutError:
                self._fail(job, "too_slow", f"not done after {self._settings.max_seconds:g} seconds")
                await worker.end()
            worker.job = None
            if not worker.is_alive:
                self._recall(worker)
            self._store.expire()

    async def _probe(self, worker: WorkerProcess, offer: Offer) -> None:
        """Measure a network for the page's estimates."""
        worker.send({"id": "probe", "probe": True, "network": offer.name, "scale": offer.scale})
        answer = await worker.answer()
        if answer is None:
            await worker.end()
            await worker.start()
            return
        self.rates.setdefault(f"{offer.id}@{offer.scale}", answer["probed"])

    # ---- one job

    def _send_next(self, worker: WorkerProcess) -> Job:
        """Send a worker the first job that waits, to begin with when it has nothing else to do, and return the job."""
        job = self._waiting.popleft()
        offer = self._catalogue.choose(job.network, job.scale)
        worker.send(
            {
                "id": job.id,
                "input": str(self._store.input(job)),
                "output": str(self._store.result(job)),
                "views": None if job.is_direct else {v: str(self._store.view(job, v)) for v in VIEWS},
                "network": offer.name,
                "scale": offer.scale,
                "ensemble": job.ensemble,
                "settings": job.settings,
            }
        )
        return job

    def _recall(self, worker: WorkerProcess) -> None:
        """Put back what a worker has not begun."""
        job, worker.ahead = worker.ahead, None
        if job is not None and job.id in worker.cancelled:
            self._fail(job, "cancelled", "cancelled")
        elif job is not None:
            self._waiting.appendleft(job)
            self._wake.set()

    async def _work(self, worker: WorkerProcess, job: Job) -> None:
        job.status = "running"
        self._store.tell()
        first_tile: tuple[float, int] | None = None
        while True:
            answer = await worker.answer()
            if answer is None:
                if job.id in worker.cancelled:
                    self._fail(job, "cancelled", "cancelled")
                else:
                    self._metrics.worker_restarts += 1
                    self._fail(job, "worker_died", "the process that worked on this picture ended without an answer")
                await worker.end()
                return
            if answer["id"] != job.id:
                continue
            if "tiles" in answer:
                done, total = answer["tiles"]
                job.tiles = (done, total)
                if first_tile is None or done <= first_tile[1]:
                    first_tile = (time.monotonic(), done)
                elif done > first_tile[1]:
                    per_tile = (time.monotonic() - first_tile[0]) / (done - first_tile[1])
                    job.seconds_left = round(per_tile * (total - done), 1)
                if done == total and self._waiting and worker.ahead is None:
                    worker.ahead = self._send_next(worker)  # it is there when the present result is written
                self._store.tell()
            elif "input_size" in answer:
                job.input_size, job.input_format = answer["input_size"], answer["input_format"]
            elif "failed" in answer:
                self._fail(job, answer["failed"]["code"], answer["failed"]["message"])
                return
            else:
                self._finish(job, answer["done"])
                return

    def _finish(self, job: Job, facts: dict[str, Any]) -> None:
        job.notes = [self._without_paths(job, note) for note in facts["notes"]]
        job.output_size, job.seconds = facts["output_size"], facts["seconds"]
        job.depth, job.profile, job.computed_by = facts["depth"], facts["profile"], facts["network"]
        job.is_viewable, job.view_bytes = facts["viewable"], facts["view_bytes"]
        job.result_bytes = self._store.result(job).stat().st_size
        job.status, job.finished, job.seconds_left = "done", time.time(), 0.0
        self._note_rate(job)
        self._metrics.count(job)
        self._store.save(job)

    def _note_rate(self, job: Job) -> None:
        if job.seconds is not None and job.input_size is not None and not job.ensemble:
            pixels = math.prod(job.input_size)
            if pixels >= _RATED_PIXELS:
                self.rates[f"{job.network}@{job.scale}"] = job.seconds / (pixels / 1e6)

    def _fail(self, job: Job, code: str, message: str) -> None:
        job.status = "cancelled" if code == "cancelled" else "failed"
        hint = STOPPED["hint"] if code == "stopped" else _HINTS[code]
        job.error = {"code": code, "message": self._without_paths(job, message), "hint": hint}
        job.finished, job.seconds_left = time.time(), None
        self._store.result(job).unlink(missing_ok=True)
        self._metrics.count(job)
        self._store.save(job)

    def _without_paths(self, job: Job, text: str) -> str:
        """Replace paths of the server by the names that clients know."""
        source, result = self._store.input(job), self._store.result(job)
        names = [(str(source), job.name), (str(result), job.result_name), *self._catalogue.paths()]
        for path, name in sorted(names, key=lambda pair: -len(pair[0])):
            if "/" in path or "\\" in path:
                text = text.replace(path, name)
        return text.replace(str(source.parent), "").replace(str(Path.home()), "~")
