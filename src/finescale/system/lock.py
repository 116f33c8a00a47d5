"""A lock that one process holds at a time, and that no process can leave behind."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


@contextmanager
def exclusive(path: Path) -> Iterator[bool]:
    """Hold a lock while the block runs, which no other block can meanwhile, in any process.

    The operating system takes the lock from a process that ends, however it ends, so that the file of a killed process
    does no harm. The file is empty; it is created where it does not exist, and deleted at the end (except on Windows,
    where an open file cannot be deleted).

    Args:
        path: File that stands for the lock; its folder must exist.

    Yields:
        True; False where the file system has no locks, so that nothing is held.

    Raises:
        BlockingIOError: Another block holds the lock.
        OSError: The file cannot be created there.
    """
    file = _open_and_lock(path)
    try:
        yield file is not None
    finally:
        if file is not None:
            if sys.platform != "win32":
                path.unlink(missing_ok=True)  # still locked: who opens it now finds that its name is gone
            file.close()


def _open_and_lock(path: Path) -> BinaryIO | None:
    """Open and lock the file, or return None where the file system has no locks."""
    while True:
        file = path.open("ab")
        try:
            lock_file(file)
        except BlockingIOError:
            file.close()
            raise
        except OSError as error:
            file.close()
            path.unlink(missing_ok=True)
            if error.errno in _NO_LOCKS:
                return None
            raise
        if _is_at(path, file):
            return file
        file.close()  # deleted between opening and locking, by the one who held it


_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)
"""What network file systems answer that are mounted without locks."""


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Return whether a path still leads to an open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def lock_file(file: BinaryIO) -> None:
    """Lock an open file; raise BlockingIOError where another process holds it, OSError where there are no locks."""
    if sys.platform == "win32":
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:  # what Windows answers where the lock is held
            raise BlockingIOError(errno.EAGAIN, "held by another process") from None
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
