"""Processor cores that this process may use, and the number of threads that compute on them.

Nothing here imports PyTorch: its OpenMP library reads the environment once, when PyTorch is loaded.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Variables that fix a number of threads: of OpenMP (PyTorch, OpenBLAS) and of libvips.
_NUM_THREADS = ("OMP_NUM_THREADS", "VIPS_CONCURRENCY")


def available_cores(
    *, membership: Path = Path("/proc/self/cgroup"), control_groups: Path = Path("/sys/fs/cgroup")
) -> int:
    """Return the number of cores that this process may use: those of its affinity, within the quota of its container.

    A quota of 1.5 cores counts as two, since two threads use it up and one cannot.

    Args:
        membership: Linux's list of the control groups that the process belongs to.
        control_groups: Folder of all control groups.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(membership, control_groups))))


def threads_each(devices: Sequence[str]) -> int | None:
    """Return the number of threads of each of several processes: those on the CPU share its cores.

    Args:
        devices: That of each process.

    Returns:
        The number; None is what is usual, where a process computes elsewhere.
    """
    return max(1, available_cores() // len(devices)) if set(devices) == {"cpu"} else None


def configure_threads() -> None:
    """Let the threads of PyTorch and libvips use the cores of this process, and sleep while they wait.

    Waiting threads of OpenMP spin by default and take the core of a thread that has work, where other programs run.
    What the environment sets already is kept. It takes effect only before PyTorch and libvips are loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in _NUM_THREADS:
        os.environ.setdefault(name, str(available_cores()))


def use_threads(count: int) -> None:
    """Compute with so many threads from now on, whatever the environment says.

    Args:
        count: Number of threads, at least 1; more than `available_cores` compete for cores.
    """
    for name in _NUM_THREADS:
        os.environ[name] = str(count)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(count)


def _quota(membership: Path, control_groups: Path) -> float:
    """Return the number of cores of the tightest quota of the control groups (version 1 or 2), else infinity."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # no Linux
        return math.inf
    quotas = [math.inf]
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":  # version 2
            root, read = control_groups, _quota_v2
        elif "cpu" in controllers.split(","):
            root, read = control_groups / "cpu", _quota_v1
        else:
            continue
        # In a container the group may be named as the host sees it, while its own folder is mounted at the root.
        below = Path(group.lstrip("/"))
        quotas += [read(root / folder) for folder in (below, *below.parents)]
    return min(quotas)


def _quota_v1(folder: Path) -> float:
    return _ratio(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))


def _quota_v2(folder: Path) -> float:
    return _ratio(_words(folder / "cpu.max"))


def _ratio(quota_and_period: list[str]) -> float:
    """Return the share of a core; a quota of "max" or -1, or none at all, is no limit."""
    if len(quota_and_period) != 2 or quota_and_period[0] in ("max", "-1"):
        return math.inf
    quota, period = quota_and_period
    return int(quota) / int(period)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
