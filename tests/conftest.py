"""What all tests share: where external data lies, and how close the networks come to the golden cases."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

# Workers share the cores; threads of theirs would wait for one another. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of benchmark sets and hostile files, named by FINESCALE_DATA; skips where it is unset."""
    return require_data()


@pytest.fixture(scope="session")
def spandrel() -> ModuleType:
    """Others' code for others' networks; where torchvision is missing, a stand-in has the names that it imports."""
    if find_spec("torchvision") is None:
        sys.path.append(str(Path(__file__).parent / "stubs"))
    return pytest.importorskip("spandrel")  # type: ignore[no-any-return]


def require_data() -> Path:
    root = os.environ.get("FINESCALE_DATA")
    if not root:
        pytest.skip("FINESCALE_DATA is unset: the folder with benchmark/, train/ and hostile/")
    assert Path(root).is_dir(), f"FINESCALE_DATA={root} is not a folder"
    return Path(root).resolve()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the largest "golden difference" that tests recorded, and the one that comes nearest to what is allowed."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    found = [
        (*value, report.nodeid.partition("[")[2].rstrip("]"))
        for report in reports
        for name, value in getattr(report, "user_properties", [])
        if name == "golden difference"
    ]
    if not found:
        return
    for what, (difference, allowed, case) in {
        "largest difference": max(found),
        "nearest to its limit": max(found, key=lambda entry: entry[0] / entry[1]),
    }.items():
        terminalreporter.write_line(f"golden cases, {what}: {difference:.1e} of {allowed:.1e} allowed, in {case}")
