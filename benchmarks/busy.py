"""``finescale upscale`` beside busy processes, by how its threads wait, written as a result of the theme "busy".

Usage: python benchmarks/busy.py [--neighbours 0,1,2] [--rounds 3] [--threads 2]

Each way is a process of its own, timed from its start to its end; in each round the ways take turns, and the minimum of
the rounds counts. "spinning" is OpenMP's own default, under which waiting threads spin for a while.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyvips
from record import write_row

EXAMPLE = Path(__file__).parents[1] / "examples" / "still_life.png"
SIZE = (360, 270)  # width and height of the picture, the example repeated
TILES = (64, 256)
WAYS: dict[str, tuple[dict[str, str], list[str]]] = {  # environment, further arguments
    "plain": ({}, []),
    "spinning": ({"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "300000"}, []),  # what libgomp does by itself
    "one_thread": ({}, ["--threads", "1"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2, help="cores that the machine has; default: 2")
    parser.add_argument("--neighbours", default="0,1,2", help="numbers of busy processes, with commas")
    given = parser.parse_args()
    conditions = {"input": [1, 3, *SIZE[::-1]], "scale": 4, "network": "default"}
    for neighbours in map(int, given.neighbours.split(",")):
        for tile in TILES:
            measured = row(neighbours, tile, rounds=given.rounds, threads=given.threads)
            path = write_row("busy", measured, conditions=conditions, threads=given.threads)
    print(f"\nwritten to {path}")


def row(neighbours: int, tile: int, *, rounds: int, threads: int) -> dict[str, Any]:
    """Seconds of every way beside so many busy processes, and how plain use compares."""
    seconds = dict.fromkeys(WAYS, float("inf"))
    with busy_processes(neighbours):
        for _ in range(rounds):
            for way in WAYS:
                seconds[way] = min(seconds[way], timed(way, tile=tile, threads=threads))
    measured = {
        "subject": f"{neighbours} busy processes, tiles of {tile}",
        **{way: round(taken, 2) for way, taken in seconds.items()},
        "times_faster": round(seconds["spinning"] / seconds["plain"], 2),
        "against_best": round(seconds["plain"] / min(seconds.values()), 2),
    }
    print(measured, flush=True)
    return measured


def timed(way: str, *, tile: int, threads: int) -> float:
    """Seconds of one call."""
    variables, arguments = WAYS[way]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "VIPS_"))}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        pyvips.Image.new_from_file(str(EXAMPLE)).replicate(2, 2).crop(0, 0, *SIZE).write_to_file(str(picture))
        command = [sys.executable, "-m", "finescale", "upscale", str(picture), "-o", folder, "-t", str(tile)]
        start = time.perf_counter()
        subprocess.run(
            [*command, *(arguments or ["--threads", str(threads)])],
            env={**kept, **variables},
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - start


@contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep so many processes busy meanwhile."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
