"""Pools of threads that start completely or not at all; what they compute with is in test_jobs.py."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale.errors import DeviceError
from finescale.system.jobs import map_files
from finescale.system.threads import single_core_threads


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_a_thread_that_cannot_be_started_is_an_error_and_leaves_none_waiting(
    allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, cores = set(threading.enumerate()), torch.get_num_threads()
    original, started = threading.Thread.start, []

    def start(self: threading.Thread) -> None:
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(self)
        original(self)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(DeviceError, match=r"does not start 4 more threads \(can't start new thread\)"):
        single_core_threads(4, "files")
    with pytest.raises(DeviceError, match="raise its limit"):
        list(map_files(str, [Path("a")] * 9, workers=4))
    assert set(threading.enumerate()) <= before
    assert torch.get_num_threads() == cores


def test_a_thread_that_fails_at_its_start_is_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = set(threading.enumerate())

    def fail(_number: int) -> Any:
        if threading.current_thread() is not threading.main_thread():
            raise MemoryError

    monkeypatch.setattr(torch, "set_num_threads", fail)
    with pytest.raises(DeviceError, match=r"does not start 2 more threads \([^)]"):
        single_core_threads(2, "files")
    assert set(threading.enumerate()) <= before
    assert "Exception in initializer" in caplog.text
