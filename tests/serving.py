"""Server processes for tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

START_SECONDS = 120  # on a busy machine


@dataclass
class Running:
    """A server that listens."""

    process: subprocess.Popen[str]
    address: str
    """Without a slash at its end."""
    folder: Path
    errors: Path
    """What it has written to standard error."""

    def stop(self, seconds: float = 60) -> int:
        self.process.terminate()
        return self.process.wait(seconds)


def start(folder: Path, tiny_weights: Path, *more: str, wait: bool = True) -> Running:
    """Start ``finescale serve`` on a free port, and wait until its worker takes pictures."""
    httpx = pytest.importorskip("httpx")
    folder.mkdir(parents=True, exist_ok=True)
    errors = folder / "errors.txt"
    command = [sys.executable, "-m", "finescale", "serve", "--port", "0", "--folder", str(folder / "jobs")]
    environment = {**os.environ, "FINESCALE_CACHE": str(folder / "cache")}
    with errors.open("w") as file:
        process = subprocess.Popen(
            [*command, "-n", str(tiny_weights), *more], stderr=file, stdout=file, text=True, env=environment, cwd=folder
        )
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        said = errors.read_text()
        assert process.poll() is None, said
        if "serving http" in said:
            address = said.partition("serving ")[2].partition("/ on")[0].partition("/?")[0]
            while wait and httpx.get(f"{address}/readyz").status_code != 200:
                assert time.monotonic() < end, said
                time.sleep(0.1)
            return Running(process, address, folder, errors)
        time.sleep(0.1)
    process.kill()
    raise AssertionError(errors.read_text())
