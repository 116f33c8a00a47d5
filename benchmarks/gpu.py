"""Everything that one CUDA device can prove about finescale, in under nine minutes: a JSON file and a table.

Usage: python benchmarks/gpu.py [--device cuda] [--tiny] [--sections golden planner ...] [--output out]

Needs this checkout with its packages, and no other data. Each section runs in a process of its own, with a limit of
time; what a section finds, what it had no time for, and why one failed stands in the files. Exit code 1 says that a
bound was missed or a section failed. ``--device cpu --tiny`` runs the same program in a minute.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu_sections import SECTIONS
from record import commit

SECONDS = {
    "golden": 60, "tests": 40, "planner": 75, "memory": 25, "training": 75, "speed": 185, "copies": 20, "folder": 40,
}  # fmt: skip
"""Limit of each section: 520 seconds in all."""

SLACK = 60  # a section looks at its limit between networks


def run_section(section: str, *, device: str, tiny: bool) -> dict[str, Any]:
    """Run a section in a process of its own; a failure is its result."""
    command = [sys.executable, str(Path(__file__).parent / "gpu_sections.py"), section, "--device", device]
    limit = SECONDS[section]
    start = time.monotonic()
    try:
        done = subprocess.run(
            [*command, "--seconds", str(limit), *(["--tiny"] if tiny else [])],
            capture_output=True, text=True, timeout=limit + SLACK, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        missed = f"{section} did not end within {limit + SLACK} seconds"
        return {"rows": [], "missed": [missed], "seconds": limit + SLACK}
    seconds = round(time.monotonic() - start, 1)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        missed = f"{section} failed: {last[0]}"
        return {"rows": [], "missed": [missed], "seconds": seconds, "stderr": done.stderr[-4000:]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**found, "seconds": seconds}


def card_of(device: str) -> str:
    """The device's name, as files can be called."""
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else f"{platform.machine()} cpu"
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def as_markdown(results: dict[str, Any]) -> str:
    """The results as tables, one for each section."""
    lines = [f"# {results['card']}, {results['date']}", "", f"PyTorch {results['torch']}, commit {results['commit']}."]
    for section, found in results["sections"].items():
        lines += ["", f"## {section}, {found['seconds']} s", "", *(f"- missed: {text}" for text in found["missed"]), ""]
        columns = list(dict.fromkeys(key for row in found["rows"] for key in row))
        if columns:
            lines += [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
        for row in found["rows"]:
            cells = (row.get(key) for key in columns)
            lines.append(f"| {' | '.join('' if cell is None else _cell(cell) for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def main() -> int:
    """Run the sections and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small networks and images, for a check of this program")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--output", type=Path, default=Path("out"))
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("there is no CUDA device here; --device cpu --tiny checks this program")
    results: dict[str, Any] = {
        "card": card_of(given.device),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
        "commit": commit(),
        "tiny": given.tiny,
        "sections": {},
    }
    for section in given.sections:
        found = results["sections"][section] = run_section(section, device=given.device, tiny=given.tiny)
        print(f"{section}: {len(found['rows'])} rows, {len(found['missed'])} bounds missed, {found['seconds']} s")
        for text in found["missed"]:
            print(f"  {text}")
    given.output.mkdir(parents=True, exist_ok=True)
    stem = given.output / f"gpu_{results['card']}_{results['date']}"
    stem.with_suffix(".json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(as_markdown(results), encoding="utf-8")
    print(f"written to {stem}.json and .md")
    return 1 if any(found["missed"] for found in results["sections"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
