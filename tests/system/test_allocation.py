"""Freed memory is used again by the commands, where the C library can be told so."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource
from finescale.cli.main import main
try:
    main(["upscale", "missing.png"])
except SystemExit:
    pass
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
counts = []
for _ in range(9):
    before = faults()
    torch.ones(2**24)
    counts.append(faults() - before)
print(sorted(counts)[4])
"""


def faults_per_tensor(**variables: str) -> int:
    """Pages that the kernel prepares for one of nine equal tensors of 64 MiB, 16,384 pages of 4 KiB; the median."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, env={**kept, **variables}, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is not the GNU C library")
def test_a_command_takes_the_same_pages_again() -> None:
    assert faults_per_tensor() < 100


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this is not the GNU C library")
def test_what_the_environment_states_is_heeded() -> None:
    """Of transparent huge pages one fault prepares 512 pages."""
    assert faults_per_tensor(MALLOC_TRIM_THRESHOLD_="131072") >= 16384 // 512
