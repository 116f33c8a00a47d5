"""Whole files and deferred interrupts."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from finescale.system.files import whole_file, whole_folder
from finescale.system.interrupt import deferred_interrupt


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


def test_in_another_thread_interrupts_are_left_as_they_are() -> None:
    answers = []

    def ask() -> None:
        with deferred_interrupt() as is_interrupted:
            answers.append(is_interrupted())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [False]
