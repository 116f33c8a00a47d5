"""Files that are complete or absent, never in between."""

from __future__ import annotations

import os
import secrets
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
