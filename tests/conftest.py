"""What all tests share: where external data lies, a stand-in of the hub, how close networks come to golden cases."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest

import hub_stand_in

# Workers share the cores; threads of theirs would wait for one another. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A script's background job ignores Ctrl+C from its start; tests send it, to themselves and to processes they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Nothing is asked of the real hub; the fixture ``hub`` lifts this for its stand-in. Read when its client is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
if find_spec("torchvision") is None:  # a stand-in has the names that spandrel imports, whichever test loads it first
    sys.path.append(str(Path(__file__).parent / "stubs"))


@pytest.fixture(autouse=True)
def _signals_are_handled_as_before() -> Iterator[None]:
    """No test leaves behind a handler of its own, by which a later one would be interrupted differently."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    assert {number: signal.getsignal(number) for number in before} == before


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of benchmark sets and hostile files, named by FINESCALE_DATA; skips where it is unset."""
    return require_data()


@pytest.fixture(scope="session")
def spandrel() -> ModuleType:
    """Others' code for others' networks."""
    return pytest.importorskip("spandrel")  # type: ignore[no-any-return]


def require_data() -> Path:
    root = os.environ.get("FINESCALE_DATA")
    if not root:
        pytest.skip("FINESCALE_DATA is unset: the folder with benchmark/, train/, options/ and hostile/")
    assert Path(root).is_dir(), f"FINESCALE_DATA={root} is not a folder"
    return Path(root).resolve()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of fetched weights, and an empty working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("FINESCALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hub(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[hub_stand_in.HubStandIn]:
    """An empty hub on this machine, which the hub's real client asks in place of the real one."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with hub_stand_in.serving() as hub:
        # The client reads its settings from the environment when it is imported, and from here ever after.
        settings = {
            "ENDPOINT": hub.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": hub.address + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "DOWNLOAD_CHUNK_SIZE": 10_000,  # what breaks within a chunk is fetched again
            "HF_HUB_CACHE": str(tmp_path / "hub_cache"),
            "HF_TOKEN_PATH": str(tmp_path / "token"),
        }
        for name, value in settings.items():
            monkeypatch.setattr(constants, name, value)
        yield hub


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
