"""Free memory of the host, also inside a container, and the errors of allocations that fail."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

UNKNOWN_MEMORY = 2 * 2**30
"""Bytes to assume where the system does not report how much memory is free."""

_GROUPS = (  # files of a control group: limit, usage, statistics, and the entry of the cache that can be dropped
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),  # version 2
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


_FAILED_ALLOCATION = re.compile(
    r"out of memory|(?:can't|cannot) allocate memory|not enough memory|bad[_ ]alloc|ALLOC_FAILED"  # PyTorch, C++, CUDA
    r"|could not (?:create|execute) a (?:primitive(?! descriptor)|memory object)"  # oneDNN, which gives no reason
    r"|size calculation overflowed",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a failure to allocate memory, on the host or on a device.

    PyTorch, oneDNN, CUDA and OpenVINO raise plain RuntimeErrors, which only their texts tell apart.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _FAILED_ALLOCATION.search(str(error)) is not None


def free_host_memory(
    *, meminfo: Path = Path("/proc/meminfo"), control_group: Path = Path("/sys/fs/cgroup")
) -> int | None:
    """Return the bytes that could be allocated now, or None where the system does not report them.

    Where a container (a control group) has a limit, the smaller of what the machine and the limit leave.

    Args:
        meminfo: Linux's table of the machine's memory.
        control_group: Folder of the control group's files.
    """
    known = [free for free in (_free_in_machine(meminfo), _free_in_group(control_group)) if free is not None]
    return min(known, default=None)


def _free_in_machine(meminfo: Path) -> int | None:
    """Bytes that Linux can give without swapping; elsewhere a quarter of the machine's memory, where that is known."""
    if meminfo.is_file():
        return _entry(meminfo, "MemAvailable:") * 1024
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    return None


def _free_in_group(root: Path) -> int | None:
    """Bytes that the limit of a control group leaves; None without a limit."""
    for limit_file, usage_file, statistics, cache in _GROUPS:
        if (root / limit_file).is_file() and (root / usage_file).is_file():
            limit = (root / limit_file).read_text().strip()
            if limit == "max":
                return None
            usage = int((root / usage_file).read_text())
            return max(0, int(limit) - usage + _entry(root / statistics, cache))
    return None


def _entry(table: Path, name: str) -> int:
    """The number of an entry in a table of lines ``name number``."""
    return next(int(line.split()[1]) for line in table.read_text().splitlines() if line.split()[0] == name)
