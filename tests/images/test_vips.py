"""libvips' messages as they appear in ours."""

from __future__ import annotations

import pytest
import pyvips

from finescale.images.vips import bracketed_message, messages


@pytest.mark.parametrize(
    ("detail", "expected", "bracketed"),
    [
        ("VipsJpeg: premature end\nvips2png: bad\n", ["premature end", "bad"], " (premature end)"),
        ("no prefix: here\n", ["no prefix: here"], " (no prefix: here)"),  # a prefix is one word
        ("\n \n", [], ""),
    ],
    ids=["two", "no prefix", "none"],
)
def test_messages_are_freed_of_the_operations_that_passed_them_on(
    detail: str, expected: list[str], bracketed: str
) -> None:
    error = pyvips.Error("unable to call", detail)
    assert messages(error) == expected
    assert bracketed_message(error) == bracketed
