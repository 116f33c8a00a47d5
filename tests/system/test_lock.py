"""A lock excludes other blocks and processes, and does not outlive its holder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import finescale.system.lock
from finescale.system.lock import exclusive

HOLDER = """
import sys
from pathlib import Path
from finescale.system.lock import exclusive
with exclusive(Path(sys.argv[1])) as is_held:
    print(is_held, flush=True)
    sys.stdin.read()
"""


def test_a_second_block_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(2):
        with exclusive(path) as is_held:
            assert is_held
            with pytest.raises(BlockingIOError), exclusive(path):
                pass
        assert list(tmp_path.iterdir()) == []


def test_a_block_that_raises_lets_go(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), exclusive(tmp_path / "lock"):
        raise RuntimeError
    with exclusive(tmp_path / "lock") as is_held:
        assert is_held


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        with pytest.raises(BlockingIOError), exclusive(path):
            pass
        holder.kill()
    assert path.exists()
    with exclusive(path) as is_held:
        assert is_held
    assert not path.exists()


def test_no_two_threads_hold_it_while_many_come_and_go(tmp_path: Path) -> None:
    path, inside, most, held = tmp_path / "lock", 0, 0, 0

    def come_and_go() -> None:
        nonlocal inside, most, held
        for _ in range(200):
            try:
                with exclusive(path):
                    inside += 1
                    most = max(most, inside)
                    held += 1
                    inside -= 1
            except BlockingIOError:
                pass

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert held > 0
    assert not path.exists()


def test_a_file_that_was_deleted_between_opening_and_locking_is_not_taken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    lock = finescale.system.lock.lock_file
    calls = []

    def delete_first(file: object) -> None:
        lock(file)
        calls.append(file)
        if len(calls) == 1:
            path.unlink()

    monkeypatch.setattr(finescale.system.lock, "lock_file", delete_first)
    with exclusive(path):
        assert len(calls) == 2
        assert path.exists()


def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_file: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(finescale.system.lock, "lock_file", refuse)
    with exclusive(tmp_path / "lock") as is_held:
        assert not is_held
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), exclusive(tmp_path / "none" / "lock"):
        pass
