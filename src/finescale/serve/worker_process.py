"""A worker process as the server sees it: its life, and lines of JSON to and from it."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from finescale.system.cores import threads_each
from finescale.system.memory import free_host_memory

if TYPE_CHECKING:
    from finescale.serve.jobs import Job
    from finescale.serve.settings import ServeSettings

_LONGEST_LINE = 2**20
_LONGEST_PAUSE = 30
"""Seconds between two attempts to start a worker that fails at once."""


class WorkerProcess:
    """Process that computes on one device.

    Args:
        settings: Of the server.
        device: Where networks compute.
    """

    def __init__(self, settings: ServeSettings, device: str) -> None:
        self._settings, self._device = settings, device
        self._process: asyncio.subprocess.Process | None = None
        self.is_ready = False
        self.job: Job | None = None
        """What it works on."""
        self.ahead: Job | None = None
        """What it was sent to begin with as soon as it has written its present result."""
        self.cancelled: set[str] = set()
        """Ids of those that it was told to stop."""

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process and wait until it is ready; one that fails at once is tried again more and more slowly."""
        self.is_ready = False
        pause = 0.5
        while True:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "finescale.serve.worker"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=_LONGEST_LINE,
                start_new_session=True,  # Ctrl+C is for the server, which ends it
            )
            settings = self._settings
            self.send(
                {
                    "threads": self._num_threads(),
                    "max_memory": self._memory(),
                    "max_pixels": settings.max_pixels,
                    "device": self._device,
                    "precision": settings.precision,
                    "engine": settings.engine,
                }
            )
            if await self.answer() is not None:
                self.is_ready = True
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _num_threads(self) -> int | None:
        """Return the threads that compute; workers on the CPU share its cores, and one alone takes what is usual."""
        devices = self._settings.devices
        return threads_each(devices) if len(devices) > 1 else None

    def _memory(self) -> int | None:
        """Return the memory for one picture; None on a GPU, where mapped memory says nothing about what is taken."""
        if self._device != "cpu":
            return None
        free = free_host_memory()
        return self._settings.max_memory or (None if free is None else free // len(self._settings.devices))

    async def end(self) -> None:
        """Kill the process."""
        self.is_ready = False
        self.kill()
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        """Kill the process without waiting for its end."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def wait(self) -> None:
        """Wait for the end of the process."""
        assert self._process is not None
        await self._process.wait()

    def send(self, message: dict[str, Any]) -> None:
        """Send a command."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def answer(self) -> dict[str, Any] | None:
        """Return the next answer; None where the process has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        return json.loads(line) if line.endswith(b"\n") else None
