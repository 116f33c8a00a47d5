"""Parts of error messages about weight files: the file's path, quoted keys, the words of other libraries."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finescale.errors import WeightsError, printable_name


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put a file's path before the message of every `WeightsError` that is raised in the block.

    One such block stands where a file is opened. Everything below it reads and checks tensors, and knows no path.
    """
    try:
        yield
    except WeightsError as error:
        error.args = (f"{printable_name(path)}: {error}",)
        raise


def quoted(key: str) -> str:
    """A key as a message shows it: printable, and no longer than a line."""
    return repr(key if len(key) <= 160 else key[:157] + "...")


def first_words(error: Exception) -> str:
    """The first words of another library's message."""
    return textwrap.shorten(str(error).partition("\n")[0], 140, placeholder=" ...")
