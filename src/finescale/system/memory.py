"""How much memory of this machine is free, in a container as well."""

from __future__ import annotations

import os
from pathlib import Path

_GROUPS = (  # limit, use, statistics and the cache that can be dropped: of control groups version 2, then version 1
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_inactive_file"),
)


def free_host_memory() -> int | None:
    """Bytes that could be allocated now; None where the system does not tell.

    The least of what the system and the control group (a container's limit) leave.
    """
    known = [free for free in (_free_in_system(), _free_in_group(Path("/sys/fs/cgroup"))) if free is not None]
    return min(known, default=None)


def _free_in_system() -> int | None:
    """What Linux can give without swapping; elsewhere a quarter of the machine's memory, where that is known."""
    table = Path("/proc/meminfo")
    if table.is_file():
        return _statistic(table, "MemAvailable:") * 1024
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    return None


def _free_in_group(root: Path) -> int | None:
    """What the limit of the control group leaves; None without a limit."""
    for limit_file, use_file, statistics, cache in _GROUPS:
        if (root / limit_file).is_file() and (root / use_file).is_file():
            limit = (root / limit_file).read_text().strip()
            if limit == "max":
                return None
            use = int((root / use_file).read_text())
            return max(0, int(limit) - use + _statistic(root / statistics, cache))
    return None


def _statistic(table: Path, name: str) -> int:
    """The number behind a name in a table of lines ``name number``."""
    return next(int(line.split()[1]) for line in table.read_text().splitlines() if line.split()[0] == name)
