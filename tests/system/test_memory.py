from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from finescale.system.memory import free_host_memory, is_out_of_memory

MACHINE = 2**20 * 1024


def written(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def meminfo(tmp_path: Path) -> Path:
    """A machine with 1 GiB that is free."""
    table = "MemTotal:  4194304 kB\nMemFree:  9 kB\nMemAvailable:  1048576 kB\n"
    return written(tmp_path / "proc", {"meminfo": table}) / "meminfo"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, MACHINE),
        ({"memory.max": "max\n", "memory.current": "5\n"}, MACHINE),
        ({"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "anon 650\ninactive_file 50\n"}, 350),
        ({"memory.max": "1000\n", "memory.current": "1200\n", "memory.stat": "inactive_file 0\n"}, 0),
        (
            {
                "memory/memory.limit_in_bytes": "900\n",
                "memory/memory.usage_in_bytes": "400\n",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 30\n",
            },
            530,
        ),
        (
            {"memory.max": f"{MACHINE + 7}\n", "memory.current": "5\n", "memory.stat": "inactive_file 0\n"},
            MACHINE,
        ),
    ],
    ids=["none", "no limit", "version 2", "exceeded", "version 1", "more than the machine has"],
)
def test_the_smaller_of_machine_and_container_counts(
    files: dict[str, str], expected: int, meminfo: Path, tmp_path: Path
) -> None:
    assert free_host_memory(meminfo=meminfo, control_group=written(tmp_path / "group", files)) == expected


def test_where_the_machine_does_not_report_the_limit_of_the_container_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf_names", {})
    missing = tmp_path / "missing"
    assert free_host_memory(meminfo=missing, control_group=missing) is None
    files = {"memory.max": "1000\n", "memory.current": "700\n", "memory.stat": "inactive_file 0\n"}
    assert free_host_memory(meminfo=missing, control_group=written(tmp_path, files)) == 300


def test_without_the_table_of_linux_a_quarter_of_the_machine_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf_names", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 2})
    monkeypatch.setattr(os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.get)
    missing = tmp_path / "missing"
    assert free_host_memory(meminfo=missing, control_group=missing) == 250 * 4096


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("unable to mmap 8 bytes: Cannot allocate memory (12)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not execute a primitive"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("Storage size calculation overflowed with sizes=[9, 9]"), True),
        (RuntimeError("could not create a primitive descriptor for a convolution"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
    ids=str,
)
def test_failed_allocations_are_known_by_their_texts(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) == expected
