"""Whole files and deferred interrupts."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from finescale.system import files
from finescale.system.files import sweep_temporaries, whole_file, whole_folder
from finescale.system.interrupt import deferred_interrupt, termination_as_interrupt


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    path.write_bytes(b"old")
    with whole_file(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_whatever_fails_nothing_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), whole_file(tmp_path / "never") as file:  # noqa: PT012
        file.write(b"half")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_takes_its_name_when_it_is_whole_and_replaces_the_one_that_had_it(tmp_path: Path) -> None:
    path = tmp_path / "above" / "folder"
    for name in ("first", "second"):
        with whole_folder(path) as folder:
            (folder / name).touch()
            assert (path / "first").exists() == (name == "second")
        assert [file.name for file in path.iterdir()] == [name]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_folder_that_fails_leaves_nothing_but_the_one_before(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    with pytest.raises(error), whole_folder(path) as folder:  # noqa: PT012
        (folder / "new").touch()
        raise error
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == ["folder", "folder/old"]


def test_a_folder_that_cannot_take_its_name_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    rename = Path.rename

    def refuse_the_new_one(self: Path, target: Path) -> Path:
        if target == path and (self / "new").exists():
            raise PermissionError(13, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(PermissionError), whole_folder(path) as folder:
        (folder / "new").touch()
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == ["folder", "folder/old"]


def test_a_first_interrupt_is_remembered_and_a_second_one_raised() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), deferred_interrupt() as is_interrupted:  # noqa: PT012
        assert not is_interrupted()
        signal.raise_signal(signal.SIGINT)
        assert is_interrupted()
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_termination_is_remembered_where_it_is_asked_for_and_never_raised() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with deferred_interrupt(termination=True) as is_interrupted:
        signal.raise_signal(signal.SIGTERM)
        assert is_interrupted()
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    with deferred_interrupt():
        assert signal.getsignal(signal.SIGTERM) is before[1]


def test_a_termination_is_an_interrupt_and_waits_for_a_safe_moment_as_one() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with termination_as_interrupt():
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        with deferred_interrupt() as is_interrupted:
            assert not is_interrupted()
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            assert is_interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_in_another_thread_interrupts_are_left_as_they_are() -> None:
    answers = []

    def ask() -> None:
        with deferred_interrupt() as is_interrupted:
            answers.append(is_interrupted())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [False]


# ---- killed processes

WRITER = """
import os, signal, sys, time
from pathlib import Path
from finescale.system import files

kind, folder, moment = sys.argv[1:]
if moment == "between":
    rename = Path.rename
    def killed(self, target):
        if self.name == "new":
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(self, target)
    Path.rename = killed
if moment == "deleting":
    files.shutil.rmtree = lambda path: os.kill(os.getpid(), signal.SIGKILL)
with (files.whole_folder if kind == "folder" else files.whole_file)(Path(folder, "result")) as made:
    if kind == "folder":
        (made / "fresh").write_bytes(b"fresh")
    else:
        made.write(b"half")
    if moment == "writing":
        print("ready", flush=True)
        time.sleep(600)
"""


@contextmanager
def writer(kind: str, folder: Path, moment: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, folder, moment], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            if moment == "writing":
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def _no_folder_was_swept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test stands for a new process."""
    monkeypatch.setattr(files, "swept", set())


def temporaries(folder: Path) -> list[Path]:
    return sorted(folder.glob(".finescale-*"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_swept_and_what_a_running_one_writes_is_not(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with writer(kind, tmp_path, "writing") as process:
        left = temporaries(tmp_path)
        assert len(left) == 1
        with whole_file(tmp_path / "other") as file:
            file.write(b"other")
            sweep_temporaries(tmp_path)
        assert temporaries(tmp_path) == left
        process.kill()
        process.wait()
    with whole_file(tmp_path / "other") as file:
        file.write(b"others of this process are in use")  # its folder was looked at already
    assert temporaries(tmp_path) == left
    monkeypatch.setattr(files, "swept", set())
    with whole_file(tmp_path / "again") as file, whole_file(tmp_path / "third") as third:
        file.write(b"again")
        third.write(b"third")
        assert set(temporaries(tmp_path)).isdisjoint(left)
        monkeypatch.setattr(files, "swept", set())
        sweep_temporaries(tmp_path)
        assert len(temporaries(tmp_path)) == 2  # the two being written
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "other", "third"]


@pytest.mark.parametrize(("moment", "content"), [("writing", "old"), ("between", "old"), ("deleting", "fresh")])
def test_a_folder_whose_replacement_is_killed_is_the_old_or_the_new_one(
    moment: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "old").touch()
    with writer("folder", tmp_path, moment) as process:
        if moment == "writing":
            process.kill()
        process.wait(60)
    assert (tmp_path / "result").exists() == (moment != "between")
    assert len(temporaries(tmp_path)) == 1
    sweep_temporaries(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*"))] == [
        "result",
        f"result/{content}",
    ]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupt_between_two_renamings_leaves_the_folder_before(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "old").touch()
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        result = rename(self, target)
        if self == path:
            raise error
        return result

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(error), whole_folder(path) as folder:
        (folder / "new").touch()
    assert [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")] == ["folder", "folder/old"]


def test_temporaries_of_unknown_processes_are_left_alone_for_a_week(tmp_path: Path) -> None:
    names = [".finescale-0123456789ab", ".finescale-00000000-1-0123456789ab"]
    others = [".finescale.json", ".finescale-notes", ".finescale-0123456789ab.png"]
    for name in (*names, *others):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, time.time() - 6 * 24 * 3600))
    sweep_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names, *others}
    for name in (*names, *others):
        os.utime(tmp_path / name, (0, time.time() - 8 * 24 * 3600))
    files.swept.clear()
    sweep_temporaries(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(others)
    sweep_temporaries(tmp_path / "missing")


def test_a_temporary_that_cannot_be_deleted_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".finescale-0123456789ab").touch()
    os.utime(tmp_path / ".finescale-0123456789ab", (0, 0))

    def refuse(self: Path, **_: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    sweep_temporaries(tmp_path)
    assert caplog.messages == [
        f"{tmp_path}/.finescale-0123456789ab: left by a killed process, cannot be deleted (Permission denied)"
    ]
