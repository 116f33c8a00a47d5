"""Time and memory of upscaling many pictures, by their number, their size and the number of processes.

The network is the one that `finescale upscale` takes by default, at x2. Each row is one run of the command line, from
its start to its end, with the largest sum of what was resident of all its processes at a time; pages that processes
share are counted in each. ``--ray`` measures the actors of a Ray instance on this machine in place of processes.

    python benchmarks/many_pictures.py 50x64x1 100x64x1 100x64x2 25x128x2 --folder /tmp/many

A row is PICTURESxSIDExPROCESSES.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from finescale.images import write_image


def main() -> None:
    """Measure each row and print a line of JSON for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="PICTURESxSIDExPROCESSES")
    parser.add_argument("--ray", action="store_true", help="actors of Ray in place of processes")
    parser.add_argument("--folder", type=Path, required=True, help="where inputs and results are made, and deleted")
    arguments = parser.parse_args()
    for row in arguments.rows:
        pictures, side, processes = map(int, row.split("x"))
        facts = {"pictures": pictures, "side": side, "processes": processes, "ray": arguments.ray}
        write_pictures(arguments.folder / "in", pictures, side)
        flags = ["--ray=local"] if arguments.ray else []
        if arguments.ray or processes > 1:
            flags += ["--workers", str(processes)]
        command = [sys.executable, "-m", "finescale", "upscale", "in", "-s", "2", "-o", "out", *flags]
        print(json.dumps(facts | measure(command, arguments.folder)), flush=True)
        shutil.rmtree(arguments.folder)


def write_pictures(folder: Path, count: int, side: int) -> None:
    """Write square pictures of noise."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(1)
    for number in range(count):
        write_image(folder / f"{number}.png", torch.rand(3, side, side, generator=generator))


def measure(command: list[str], folder: Path) -> dict[str, float]:
    """Run a command in a folder; return its seconds and the most that was resident of it and its descendants."""
    started = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(resident, descendants(process.pid))))
        time.sleep(0.1)
    assert process.returncode == 0, command
    return {"seconds": round(time.monotonic() - started, 1), "peak_mb": round(peak / 1e6)}


def descendants(pid: int) -> list[int]:
    """Return a process and all that it has started, directly or not."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has ended
        parents.setdefault(int(words[1]), []).append(int(path.parent.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def resident(pid: int) -> int:
    """Return the bytes that are resident of a process, 0 where it has ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 4096 * pages


if __name__ == "__main__":
    main()
