"""Jobs of a server: each is a folder with its input, its result and a record, which a restart finds again."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from finescale.serve.settings import Status
from finescale.system.files import whole_file

_RECORD = "job.json"
_ID = re.compile(r"[0-9a-f]{32}")
_FINAL = ("done", "failed", "cancelled")

VIEWS = ("input", "result", "thumbnail")
"""What browsers show of a job."""

STOPPED = {
    "code": "stopped",
    "message": "the server was stopped before this picture was done",
    "hint": "Send it again.",
}


@dataclass
class Job:
    """One picture to upscale, from its arrival to its deletion."""

    id: str
    name: str
    """The picture's name, as the client states it; shown, never used as a path."""
    network: str
    scale: int
    settings: dict[str, Any]
    """Format, quality and size of the result."""
    ensemble: bool
    size_bytes: int
    created: float
    """Seconds since 1970."""
    status: Status = "queued"
    tiles: tuple[int, int] | None = None
    """Tiles done, and of all."""
    seconds_left: float | None = None
    finished: float | None = None
    seconds: float | None = None
    input_size: list[int] | None = None
    """Height and width."""
    input_format: str | None = None
    depth: int | None = None
    """Bits per channel of the input."""
    profile: str | None = None
    """Name of the input's colour profile."""
    computed_by: str | None = None
    """Name of the network that was taken; of "auto", what was chosen for the picture."""
    is_viewable: bool = False
    """Whether there is something for browsers to show."""
    view_bytes: int = 0
    """Size of the copies for browsers."""
    output_size: list[int] | None = None
    result_bytes: int | None = None
    notes: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None
    is_direct: bool = False
    """Whether a request waits for the result, after which the job is deleted."""

    @property
    def is_final(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in _FINAL

    @property
    def format(self) -> str:
        """Extension of the result."""
        return str(self.settings["format"])

    @property
    def result_name(self) -> str:
        """Name of the result, as on the command line."""
        stem = Path(self.name).stem or "picture"
        return f"{stem}_x{self.scale}.{self.format}"

    @property
    def stored_bytes(self) -> int:
        """Bytes on the disk, besides the record."""
        return self.size_bytes + (self.result_bytes or 0) + self.view_bytes

    def as_json(self) -> dict[str, Any]:
        """Return what clients see."""
        return {
            "id": self.id,
            "name": self.name,
            "status": self.status,
            "network": self.network,
            "scale": self.scale,
            "ensemble": self.ensemble,
            "format": self.format,
            "tiles_done": self.tiles[0] if self.tiles else 0,
            "tiles_total": self.tiles[1] if self.tiles else None,
            "seconds_left": self.seconds_left,
            "seconds": self.seconds,
            "created": self.created,
            "finished": self.finished,
            "input_size": self.input_size,
            "input_format": self.input_format,
            "input_bytes": self.size_bytes,
            "depth": self.depth,
            "profile": self.profile,
            "computed_by": self.computed_by,
            "viewable": self.is_viewable,
            "output_size": self.output_size,
            "result_bytes": self.result_bytes,
            "result_name": self.result_name,
            "notes": self.notes,
            "error": self.error,
        }


class JobStore:
    """All jobs, in memory and in a folder; changes wake those who wait for them.

    Args:
        folder: Folder of the jobs; it is created.
        max_age: Seconds after which finished jobs are deleted.
        max_stored: Bytes that all jobs may take on the disk before the oldest finished ones are deleted.
    """

    def __init__(self, folder: Path, *, max_age: float, max_stored: int) -> None:
        self._folder, self._max_age, self._max_stored = folder, max_age, max_stored
        self._jobs: dict[str, Job] = {}
        self._changed = asyncio.Event()
        self._ends: dict[str, asyncio.Event] = {}
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for found in sorted(folder.iterdir()):
            if _ID.fullmatch(found.name):
                self._restore(found)

    def _restore(self, folder: Path) -> None:
        """Take up the job of an earlier process; one that was not finished has failed."""
        try:
            job = Job(**json.loads((folder / _RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # of a direct request, or killed before its first record was written
            shutil.rmtree(folder, ignore_errors=True)
            return
        if not job.is_final:
            job.status, job.error, job.finished = "failed", STOPPED, time.time()
            self.result(job).unlink(missing_ok=True)
        self._jobs[job.id] = job
        self.save(job)

    def new_folder(self) -> tuple[str, Path]:
        """Create the folder of a job and return the job's id with it."""
        id = secrets.token_hex(16)
        folder = self._folder / id
        folder.mkdir(mode=0o700)
        return id, folder

    def add(self, job: Job) -> None:
        """Take up a job, whose folder has its input."""
        self._jobs[job.id] = job
        self.save(job)

    def save(self, job: Job) -> None:
        """Write the record of a job, where a restart is to find it, and wake those who wait for its changes."""
        if not job.is_direct:
            with whole_file(self._folder / job.id / _RECORD) as file:
                file.write(json.dumps(asdict(job)).encode())
        if job.is_final and job.id in self._ends:
            self._ends[job.id].set()
        self.tell()

    def tell(self) -> None:
        """Wake those who wait for changes."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def change(self, seconds: float) -> None:
        """Wait for the next change of any job, or so long."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except asyncio.TimeoutError:
            return

    async def end(self, job: Job) -> None:
        """Wait until a job is finished."""
        if not job.is_final:
            await self._ends.setdefault(job.id, asyncio.Event()).wait()

    def get(self, id: str) -> Job | None:
        """Return a job by its id."""
        return self._jobs.get(id)

    def __iter__(self) -> Iterator[Job]:
        return iter(list(self._jobs.values()))

    def delete(self, job: Job) -> None:
        """Delete a job with its files."""
        self._jobs.pop(job.id, None)
        self._ends.pop(job.id, None)
        shutil.rmtree(self._folder / job.id, ignore_errors=True)
        self.tell()

    def input(self, job: Job) -> Path:
        """Path of the picture that was sent."""
        return self._folder / job.id / "input"

    def result(self, job: Job) -> Path:
        """Path of the result."""
        return self._folder / job.id / f"result.{job.format}"

    def view(self, job: Job, which: str) -> Path:
        """Path of a copy for browsers of the "input", the "result" or, reduced, the "thumbnail"; where it is needed."""
        return self._folder / job.id / f"view_{which}.png"

    def stored_bytes(self) -> int:
        """Bytes of all inputs, results and copies for browsers."""
        return sum(job.stored_bytes for job in self._jobs.values())

    def expire(self) -> None:
        """Delete finished jobs that are too old, then the oldest ones while all together take too much."""
        finished = sorted((job for job in self if job.is_final), key=lambda job: job.finished or 0)
        too_old = time.time() - self._max_age
        stored = self.stored_bytes()
        for job in finished:
            if (job.finished or 0) < too_old or stored > self._max_stored:
                stored -= job.stored_bytes
                self.delete(job)
