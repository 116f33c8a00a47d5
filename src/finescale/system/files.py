"""Files and folders that are written completely or not at all, and the checksum of a file."""

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
    """Open a file that takes its name only when the block ends without an error; otherwise nothing is left of it.

    The file has a short temporary name in the same folder until then, so any name that the file system allows will do.
    Its content is on the disk before it replaces an existing file.

    Args:
        path: The name that the file takes.

    Raises:
        OSError: The file cannot be written there.
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
        temporary.unlink(missing_ok=True)  # already renamed if all went well


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Create a folder that takes its name only when the block ends without an error; otherwise nothing is left of it.

    An existing folder of that name is deleted with its content once the new one is complete, so callers check first
    what it holds.

    Args:
        path: The name that the folder takes; missing parent folders are created.

    Raises:
        OSError: The folder cannot be created there.
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
    """Return the SHA-256 of a file in hexadecimal digits; the file is read in blocks.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while block := content.read(2**20):
            digest.update(block)
    return digest.hexdigest()
