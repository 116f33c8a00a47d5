"""Files that are complete or absent, never in between."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes its name when the block ends well; whatever fails, nothing is left.

    It is written under a short temporary name in the same folder, so that a name that the system allows is enough, and
    is on the disk before it replaces what had the name.

    Args:
        path: The name that the file takes.

    Raises:
        OSError: It cannot be written there.
    """
    temporary = path.with_name(f".finescale-{secrets.token_hex(6)}")
    file = temporary.open("xb")
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)  # gone by now if all went well


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill that takes its name when the block ends well; whatever fails, nothing is left.

    A folder that has the name is deleted with all that is in it, once the new one is whole: look first what it is.

    Args:
        path: The name that the folder takes; the folders above it are made.

    Raises:
        OSError: It cannot be made there.
    """
    path = path.absolute()
    temporary, previous = (path.with_name(f".finescale-{secrets.token_hex(6)}") for _ in range(2))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            path.rename(previous)
        try:
            temporary.rename(path)
        except OSError:
            if previous.exists():
                previous.rename(path)
            raise
    finally:
        for folder in (temporary, previous):
            if folder.exists():
                shutil.rmtree(folder)


def sha256(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits; no more than a part of it is in memory.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(2**20):
            digest.update(block)
    return digest.hexdigest()
