"""The number of cores heeds affinity and control groups; waiting threads sleep; PyTorch gets the number of threads."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from finescale.system import cores


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree of control groups, on a machine with eight cores."""
    (tmp_path / "cgroup").mkdir()
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("proc", "files", "expected"),
    [
        (None, {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/docker/f00\n", {"cpu.max": "400000 100000\n"}, 4),  # named as the host sees it
        (
            "4:cpu,cpuacct:/x\n2:memory:/x\n",
            {"cpu/x/cpu.cfs_quota_us": "250000", "cpu/x/cpu.cfs_period_us": "50000"},
            5,
        ),
        ("4:cpu,cpuacct:/x\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("5:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_cores_heed_the_quota_of_the_container(
    proc: str | None, files: dict[str, str], expected: int, groups: Path
) -> None:
    if proc is not None:
        write(groups / "proc", proc)
    for name, text in files.items():
        write(groups / "cgroup" / name, text)
    found = cores.available_cores(membership=groups / "proc", control_groups=groups / "cgroup")
    assert found == expected


def test_cores_heed_the_affinity(groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1, 5, 6})
    assert cores.available_cores(membership=groups / "proc", control_groups=groups / "cgroup") == 3


def test_settings_of_the_environment_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 8)
    monkeypatch.setattr(os, "environ", {"OMP_WAIT_POLICY": "ACTIVE", "VIPS_CONCURRENCY": "3"})
    cores.configure_threads()
    assert os.environ == {"OMP_WAIT_POLICY": "ACTIVE", "VIPS_CONCURRENCY": "3", "OMP_NUM_THREADS": "8"}


def test_a_loaded_pytorch_gets_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before = torch.get_num_threads()
    monkeypatch.setattr(os, "environ", {})
    try:
        cores.use_threads(3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_the_command_line_waits_passively_and_passes_the_number_of_threads() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")}
    script = (
        "import os, sys\n"
        "from finescale.cli.main import main\n"
        "try:\n"
        "    main(['upscale', 'missing.png', '--threads', '1'])\n"
        "except SystemExit as exit:\n"
        "    import torch\n"
        "    print(exit.code, os.environ['OMP_WAIT_POLICY'], torch.get_num_threads())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["2", "PASSIVE", "1"]
