"""libvips' error messages, in a form fit for our own."""

from __future__ import annotations

import re

import pyvips


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
