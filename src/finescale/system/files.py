"""Files and folders that are written completely or not at all, and the checksum of a file."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from finescale.errors import printable_name

TEMPORARY_PREFIX = ".finescale-"
"""Beginning of the names of files and folders that are not complete yet."""

_TEMPORARY = re.compile(
    rf"{re.escape(TEMPORARY_PREFIX)}(?:([0-9a-f]{{8}})-([1-9]\d*)-)?[0-9a-f]{{12}}"
)  # earlier ones: no process
_ABANDONED = 7 * 24 * 3600
"""Seconds after which a temporary is taken for abandoned if it cannot be known whether its process runs."""

_OLD, _NEW, _NAME, _GONE = "old", "new", "name", "gone"  # what the temporary of a folder holds

_lock = Lock()
_in_use: set[str] = set()  # names of this process' temporaries
swept: set[str] = set()

logger = logging.getLogger("finescale")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes its name only when the block ends without an error; otherwise nothing is left of it.

    The file has a short temporary name in the same folder until then, so any name that the file system allows will do.
    Its content is on the disk before it replaces an existing file. What a killed process left is deleted, see
    `sweep_temporaries`.

    Args:
        path: The name that the file takes.

    Raises:
        OSError: The file cannot be written there.
    """
    with _temporary(path.parent) as temporary:
        file = temporary.open("xb")
        try:
            with file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)  # already renamed if all went well


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Create a folder that takes its name only when the block ends without an error; otherwise nothing is left of it.

    An existing folder of that name is deleted with its content once the new one is complete, so callers check first
    what it holds. A process that is killed between the two leaves the existing one as a temporary, which
    `sweep_temporaries` puts back.

    Args:
        path: The name that the folder takes; missing parent folders are created.

    Raises:
        OSError: The folder cannot be created there.
    """
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path.parent) as temporary:
        temporary.mkdir()
        try:
            (temporary / _NAME).write_bytes(os.fsencode(path.name))
            (temporary / _NEW).mkdir()
            yield temporary / _NEW
            if path.exists():
                path.rename(temporary / _OLD)
            (temporary / _NEW).rename(path)
        finally:
            _put_back(temporary)
            shutil.rmtree(temporary)


@contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a folder that only this user can enter and that is deleted with its content when the block ends.

    What a killed process left is deleted, see `sweep_temporaries`.

    Args:
        parent: An existing folder in which it is created.

    Raises:
        OSError: It cannot be created there.
    """
    with _temporary(parent) as temporary:
        temporary.mkdir(mode=0o700)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary)


def sweep_temporaries(folder: Path) -> None:
    """Delete what killed processes left half written in a folder; a folder that one was about to replace is put back.

    A temporary's name states its machine and process. It is left alone while that process runs, and for a week where
    that cannot be known. Each folder is looked at once by a process.
    """
    place = os.path.realpath(folder)
    with _lock:
        if place in swept:
            return
        swept.add(place)
    try:
        names = [name for name in os.listdir(place) if name.startswith(TEMPORARY_PREFIX)]  # noqa: PTH208 - of many files
    except OSError:
        return  # missing, or not to be read: whoever writes there reports it
    for name in names:
        path = Path(place, name)
        try:
            if is_abandoned(name, partial(_newest_change, path)):
                _delete(path)
        except FileNotFoundError:
            pass  # another process was faster
        except OSError as error:
            logger.warning("%s: left by a killed process, cannot be deleted (%s)", printable_name(path), error.strerror)


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """Reserve a name in a folder for the block."""
    sweep_temporaries(folder)
    with temporary_name() as name:
        yield folder / name


@contextmanager
def temporary_name() -> Iterator[str]:
    """Reserve a name for the block, which no sweep touches while it runs."""
    name = f"{TEMPORARY_PREFIX}{_machine()}-{os.getpid()}-{secrets.token_hex(6)}"
    with _lock:
        _in_use.add(name)
    try:
        yield name
    finally:
        with _lock:
            _in_use.discard(name)


@cache
def _machine() -> str:
    """Return eight digits that stand for the set of processes that this one's number belongs to, until a restart."""
    facts = [socket.gethostname()]
    for file in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            facts.append(os.readlink(file) if file.endswith("pid") else Path(file).read_text())  # noqa: PTH115
        except OSError:
            facts.append("")  # systems other than Linux have neither
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:8]


def is_abandoned(name: str, newest_change: Callable[[], float]) -> bool:
    """Return whether a file or folder is a temporary that a process has left behind.

    Args:
        name: Its name.
        newest_change: Returns when it was last changed, in seconds since 1970; called where nothing else can tell.
    """
    found = _TEMPORARY.fullmatch(name)
    if found is None:
        return False
    if found[1] != _machine() or os.name == "nt":  # Windows has no harmless question for a process
        return time.time() - newest_change() > _ABANDONED
    if int(found[2]) == os.getpid():
        with _lock:
            return name not in _in_use
    try:
        os.kill(int(found[2]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False  # it runs for another user
    return False


def _newest_change(path: Path) -> float:
    return max(one.lstat().st_mtime for one in (path, *path.rglob("*")))


def _delete(temporary: Path) -> None:
    if temporary.is_dir() and not temporary.is_symlink():
        _put_back(temporary)
        shutil.rmtree(temporary)
    else:
        temporary.unlink()


def _put_back(temporary: Path) -> None:
    """Give the old folder its name back where the new one has not taken it; else mark the old one as to be deleted."""
    old = temporary / _OLD
    if os.path.lexists(old):
        place = temporary.parent / os.fsdecode((temporary / _NAME).read_bytes())
        old.rename(temporary / _GONE if os.path.lexists(place) else place)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; the file is read in blocks.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(2**20):
            digest.update(block)
    return digest.hexdigest()
