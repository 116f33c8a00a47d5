"""A word with one dash is a flag as it stands: no verb reads it as a bundle of one-letter flags."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from finescale.cli import prepare
from finescale.cli.analyze import analyze
from finescale.cli.main import app, run


def verbs() -> Iterator[str]:
    """Every command of the command line, with its group."""
    for group, name in ((app, ""), (prepare.app, "prepare "), (analyze, "analyze ")):
        for command in group.registered_commands:
            assert command.callback is not None
            yield name + (command.name or command.callback.__name__)


@pytest.mark.parametrize("verb", list(verbs()))
def test_an_unknown_word_with_one_dash_is_refused_in_every_verb(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*verb.split(), "-xyz", "4"]) == 1
    assert "no such option: -xyz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["upscale", "a.png", "-opt", "x.yml"], "no such option: -opt; one-letter flags stand by themselves"),
        (["upscale", "a.png", "-scale", "4"], "no such option: -scale (did you mean --scale?)"),
        (["upscale", "a.png", "-nhit-srf"], "no such option: -nhit-srf"),
        (["upscale", "a.png", "-scale=4"], "no such option: -scale=4 (did you mean --scale?)"),
    ],
)
def test_bundles_are_refused_with_the_flag_that_was_meant(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == 1
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("words", [["-s4"], ["-o", "-xyz"], ["--output", "-xyz"], ["--output=-xyz"], ["--", "-xyz"]])
def test_numbers_and_values_are_left_alone(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["upscale", "nowhere.png", *words]) == 2
    assert "no such option" not in capsys.readouterr().err
