"""libvips in this process, and its error messages in a form fit for our own."""

from __future__ import annotations

import os
import re

import pyvips

from finescale.errors import ImageError

_used_by: int | None = None  # the process in which libvips has started its threads


def check_process() -> None:
    """Refuse to use libvips in a process that was forked from one that has used it: it would wait for ever.

    The threads of libvips do not exist in the forked process.

    Raises:
        ImageError: This is such a process.
    """
    global _used_by
    if _used_by is None:
        _used_by = os.getpid()
    if _used_by != os.getpid():
        raise ImageError(
            "images cannot be read or written in a process that was forked after its parent had done so; start "
            "processes with multiprocessing.get_context('spawn')"
        )


def forget_errors() -> None:
    """Empty libvips' global error log, whose earlier warnings would otherwise appear in the next error."""
    pyvips.vips_lib.vips_error_clear()


def messages(error: pyvips.Error) -> list[str]:
    """Return the messages of the decoder or encoder, without the names of the operations that passed them on."""
    return [re.sub(r"^\w+: ", "", line.strip()) for line in error.detail.split("\n") if line.strip()]


def bracketed_message(error: pyvips.Error) -> str:
    """Return the longest message in brackets after a space, or an empty string if there is none."""
    found = messages(error)
    return f" ({max(found, key=len)})" if found else ""


def ran_out_of_memory(error: pyvips.Error) -> bool:
    """Return whether libvips could not allocate memory; a decoder's own words may be about sizes in a damaged file."""
    return "vips_tracked: out of memory" in error.detail
