"""Worker process: decodes, upscales and encodes one picture after another, so that none of them can harm the server.

It is driven by lines of JSON on its standard input and answers by such lines on its standard output; it ends when its
input does. What upscales is `finescale.upscale.batch`, as on the command line, so that results are equal to the byte.
"""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from finescale.system.allocation import reuse_memory
from finescale.system.cores import configure_threads, use_threads

Answer = Callable[[dict[str, Any]], None]

_NETWORKS_KEPT = 3
_PROBE_SIDE = 64  # pixels
_THUMBNAIL_SIDE = 256  # pixels
_LISTED_PIXELS = 500_000  # of the largest result that is its own thumbnail
_VIEWED_PIXELS = 120_000_000  # of the largest result that browsers are to show
_VIEWABLE = ("PNG", "JPEG", "WebP", "GIF", "BMP", "AVIF")
"""Formats that browsers show."""


class _Cancelled(BaseException):
    """Raised between two tiles of a job that is no longer wanted."""


def main() -> None:
    """Serve commands until standard input ends."""
    configure_threads()
    reuse_memory()
    answers = os.fdopen(os.dup(1), "w", encoding="ascii")
    os.dup2(2, 1)  # what a library prints is no answer
    setup = json.loads(sys.stdin.readline())
    lock = threading.Lock()

    def answer(message: dict[str, Any]) -> None:
        with lock:
            try:
                answers.write(json.dumps(message) + "\n")
                answers.flush()
            except BrokenPipeError:  # the server was killed
                os._exit(0)

    if setup["threads"] is not None:
        use_threads(setup["threads"])
    import torch  # noqa: F401 - loaded before the limit, which counts what comes on top of it

    import finescale.upscale.batch  # noqa: F401

    if setup["max_memory"] is not None:
        _limit_memory(setup["max_memory"])
    answer({"ready": os.getpid()})
    _Worker(setup, answer).run()


def _limit_memory(num_bytes: int) -> None:
    """Let this process take so many bytes of address space more than it has now, where the system can limit them."""
    statistics = Path("/proc/self/statm")
    if not statistics.is_file():
        return
    import resource

    taken = int(statistics.read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + num_bytes, resource.RLIM_INFINITY))


class _Worker:
    def __init__(self, setup: dict[str, Any], answer: Answer) -> None:
        self._setup, self._answer = setup, answer
        self._upscalers: dict[tuple[str, int, bool], Any] = {}
        self._cancelled: set[str] = set()
        """Jobs that are no longer wanted."""
        self._jobs: list[dict[str, Any]] = []
        self._has_job = threading.Condition()

    def run(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()
        while True:
            with self._has_job:
                self._has_job.wait_for(lambda: self._jobs)
                job = self._jobs.pop(0)
            self._answer({"id": job["id"], **(self._probed(job) if "probe" in job else self._outcome(job))})

    def _listen(self) -> None:
        """Take commands; the end of the input is that of the server, which may have been killed."""
        for line in sys.stdin:
            command = json.loads(line)
            with self._has_job:
                if "cancel" in command:
                    self._cancelled.add(command["cancel"])
                else:
                    self._cancelled.discard(command["id"])  # of an earlier attempt
                    self._jobs.append(command)
                    self._has_job.notify()
        os._exit(0)

    def _probed(self, job: dict[str, Any]) -> dict[str, Any]:
        """Measure the seconds per input megapixel of a network, after a first pass, which is slower."""
        import torch

        upscaler = self._upscaler(job["network"], job["scale"], False)
        upscaler(torch.zeros(3, _PROBE_SIDE, _PROBE_SIDE))
        started = time.monotonic()
        upscaler(torch.zeros(3, _PROBE_SIDE, _PROBE_SIDE))
        return {"probed": (time.monotonic() - started) / (_PROBE_SIDE**2 / 1e6)}

    def _outcome(self, job: dict[str, Any]) -> dict[str, Any]:
        from finescale.errors import FinescaleError, ImageError
        from finescale.images import read_size
        from finescale.images.formats import SIGNATURE_LENGTH, identify_format
        from finescale.system.memory import is_out_of_memory

        source, max_pixels = Path(job["input"]), self._setup["max_pixels"]
        try:
            self._check_wanted(job)
            try:
                with source.open("rb") as file:
                    kind = identify_format(file.read(SIGNATURE_LENGTH))
                height, width = read_size(source)
            except ImageError as error:
                return _failure("not_a_picture", f"{error}")
            self._answer({"id": job["id"], "input_size": [height, width], "input_format": kind})
            if height * width > max_pixels:
                return _failure(
                    "too_many_pixels",
                    f"{source}: {width} x {height} pixels exceed the limit of {max_pixels / 1e6:g} megapixels",
                )
            return self._upscale(job, source, kind)
        except _Cancelled:
            return _failure("cancelled", "cancelled")
        except (FinescaleError, ValueError) as error:
            return _failure("cannot_upscale", str(error))
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            return _failure("cannot_upscale", f"{source}: too little memory for this picture and this network")

    def _upscale(self, job: dict[str, Any], source: Path, kind: str) -> dict[str, Any]:
        from finescale import weights
        from finescale.upscale.batch import run_jobs
        from finescale.upscale.outputs import Job, OutputSettings

        upscaler = self._upscaler(job["network"], job["scale"], job["ensemble"])
        photo_network = weights.for_photos(job["network"])
        result = Path(job["output"])
        started = time.monotonic()

        def on_tile(_job: Job, done: int, total: int) -> None:
            self._check_wanted(job)
            self._answer({"id": job["id"], "tiles": [done, total]})

        (report,) = run_jobs(
            [Job(source, result)],
            upscaler,
            OutputSettings(**job["settings"], overwrite=True),
            max_pixels=self._setup["max_pixels"],
            detect_flaws=photo_network is not None,
            on_tile=on_tile,
        )
        if report.status != "done":
            return _failure("cannot_upscale", report.reason or "the picture cannot be upscaled")
        seconds = time.monotonic() - started
        notes = [*upscaler.notes, *report.notes]
        if report.flaw is not None:
            told = f"{photo_network} is made for such pictures" if photo_network else f"{report.network} was taken"
            notes.append(f"looks {report.flaw.look}: {told}")
        assert report.output_size is not None
        return {
            "done": {
                "notes": notes,
                "output_size": list(report.output_size),
                "seconds": round(seconds, 3),
                "depth": report.depth,
                "profile": report.profile,
                "network": report.network,
                **_views(job, kind, report.output_size),
            }
        }

    def _check_wanted(self, job: dict[str, Any]) -> None:
        if job["id"] in self._cancelled:
            raise _Cancelled

    def _upscaler(self, network: str, scale: int, ensemble: bool) -> Any:
        from finescale.upscale.by_picture import load_upscaler

        key = (network, scale, ensemble)
        if key not in self._upscalers:
            while len(self._upscalers) >= _NETWORKS_KEPT:
                del self._upscalers[next(iter(self._upscalers))]
            self._upscalers[key] = load_upscaler(
                network,
                scale=scale,
                ensemble=ensemble,
                device=self._setup["device"],
                precision=self._setup["precision"],
                engine=self._setup["engine"],
                offline=True,
            )
        self._upscalers[key] = self._upscalers.pop(key)  # the last one to be dropped
        return self._upscalers[key]


def _views(job: dict[str, Any], kind: str, size: tuple[int, int]) -> dict[str, Any]:
    """Write copies for browsers of what they cannot show, and a small one for lists.

    A picture that is too large for that is finished nevertheless; there is nothing to see of it.
    """
    from finescale.images import read_image, write_image
    from finescale.resize import resize
    from finescale.system.memory import is_out_of_memory

    if job["views"] is None or math.prod(size) > _VIEWED_PIXELS:
        return {"viewable": False, "view_bytes": 0}
    views = {name: Path(path) for name, path in job["views"].items()}
    try:
        if math.prod(size) > _LISTED_PIXELS or kind not in _VIEWABLE:
            image = read_image(job["input"])
            if kind not in _VIEWABLE:
                write_image(views["input"], image)
            height, width = image.size
            factor = min(1, _THUMBNAIL_SIDE / max(height, width))
            thumbnail = resize(image.pixels, size=(max(1, round(height * factor)), max(1, round(width * factor))))
            write_image(views["thumbnail"], replace(image, pixels=thumbnail.clamp(0, 1), alpha=None, metadata={}))
        if Path(job["output"]).suffix == ".tif":
            write_image(views["result"], read_image(job["output"]))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        for path in views.values():
            path.unlink(missing_ok=True)
        return {"viewable": False, "view_bytes": 0}
    return {"viewable": True, "view_bytes": sum(path.stat().st_size for path in views.values() if path.is_file())}


def _failure(code: str, message: str) -> dict[str, Any]:
    return {"failed": {"code": code, "message": message}}


if __name__ == "__main__":
    main()
