"""Result files: what was measured, when, on which machine, at which commit."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch


def write_results(theme: str, results: dict[str, Any], *, threads: int) -> None:
    """Write ``results/<theme>_<hardware>_<date>.json`` and say so."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    today = datetime.date.today().isoformat()
    stated = {
        "date": today,
        "commit": commit,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": threads,
    }
    path = Path(__file__).parent / "results" / f"{theme}_{platform.machine()}-{threads}-threads_{today}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**stated, **results}, indent=2) + "\n")
    print(f"\nwritten to {path}")
