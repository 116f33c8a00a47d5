"""Result files: what was measured, when, on which machine, at which commit."""

from __future__ import annotations

import datetime
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch
from tables import RESULTS, Row, merged


def write_results(theme: str, results: dict[str, Any], *, threads: int) -> None:
    """Write ``results/<theme>_<hardware>_<date>.json`` and say so."""
    print(f"\nwritten to {_write(theme, results, threads=threads)}")


def _write(theme: str, results: dict[str, Any], *, threads: int) -> Path:
    stated = {
        "date": datetime.date.today().isoformat(),
        "commit": commit(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": threads,
    }
    path = result_path(theme, threads=threads)
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({**stated, **results}, indent=2) + "\n")
    return path


def write_row(theme: str, row: Row, *, conditions: dict[str, Any], threads: int) -> Path:
    """Write a row with its commit into today's file of its theme, beside what that has of other subjects."""
    results: dict[str, Any] = {"theme": theme, "threads": threads, "conditions": conditions}
    rows: list[Row] = [{**row, "commit": commit()}]
    path = result_path(theme, threads=threads)
    if path.exists():
        rows = merged(rows, json.loads(path.read_text()), results)
    return _write(theme, {**results, "rows": rows}, threads=threads)


def result_path(theme: str, *, threads: int) -> Path:
    """Where today's result of a theme goes."""
    today = datetime.date.today().isoformat()
    return RESULTS / f"{theme}_{platform.machine()}-{threads}-threads_{today}.json"


def commit() -> str:
    """The commit that is measured; with "+" where files differ from it."""
    described = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
    return subprocess.run(described, capture_output=True, text=True, check=True).stdout.strip()
