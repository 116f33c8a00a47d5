"""A weight file is named once in a message, whatever raised it below."""

from __future__ import annotations

from pathlib import Path

import pytest

from finescale.errors import DeviceError, UnknownNetworkError, WeightsError
from finescale.weightfiles.messages import naming, quoted


def test_the_path_stands_once_before_the_message_and_the_kind_of_error_stays() -> None:
    with pytest.raises(UnknownNetworkError, match=r"^net\.pth: no known family$"), naming(Path("net.pth")):
        raise UnknownNetworkError("no known family")


def test_a_path_cannot_move_the_cursor() -> None:
    with pytest.raises(WeightsError, match=r"^a\\x1bb: damaged$"), naming(Path("a\x1bb")):
        raise WeightsError("damaged")


@pytest.mark.parametrize("error", [DeviceError("no such device"), ValueError("scale must be 2")])
def test_errors_that_are_not_of_the_file_stay_as_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, naming(Path("net.pth")):
        raise error
    assert raised.value is error
    assert "net.pth" not in str(error)


def test_a_key_is_quoted_on_one_line_and_cut() -> None:
    assert quoted("a\nb") == r"'a\nb'"
    assert quoted("k" * 160) == repr("k" * 160)
    assert quoted("k" * 161) == repr("k" * 157 + "...")
