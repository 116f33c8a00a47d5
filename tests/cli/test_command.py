"""Command lines of every verb: flags stand as they are written, and options with one value are given once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.core import TyperOption

from finescale.cli.main import app, run


def verbs_below(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each verb with its name, such as "prepare downsample"."""
    if hasattr(command, "commands"):
        for word, below in command.commands.items():
            yield from verbs_below(below, f"{name} {word}".strip())
    else:
        yield name, command


VERBS = dict(verbs_below(typer.main.get_command(app)))


@pytest.mark.parametrize("verb", VERBS)
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


@pytest.mark.parametrize("name", VERBS)
def test_a_repeated_option_of_any_verb_is_refused_unless_it_is_a_list(name: str) -> None:
    verb = VERBS[name]
    options = [option for option in verb.params if isinstance(option, TyperOption)]
    choices = [one for one in options if not one.multiple and (not one.is_flag or one.secondary_opts)]
    for option in choices:
        flags = (*option.opts, *option.secondary_opts)
        words = [flags[0], flags[-1]] if option.is_flag else [flags[0], "1", flags[-1], "2"]
        with pytest.raises(typer.BadParameter) as refusal:
            verb.make_context(name, words)
        assert refusal.value.message == f"{' / '.join(flags)} takes one value, got 2; give it once"


def test_verbs_of_all_groups_are_read_this_way() -> None:
    assert {"upscale", "evaluate", "train", "prepare downsample", "analyze cost"} <= set(VERBS)


def test_a_list_may_be_repeated_and_so_may_a_flag_that_only_switches_on() -> None:
    context = VERBS["analyze cost"].make_context("cost", ["-n", "span", "--network", "hit-sir", "--json", "--json"])
    assert context.params["models"] == ["span", "hit-sir"]
    assert context.params["as_json"] is True


def test_a_repeated_option_is_one_sentence_and_words_after_two_dashes_are_no_options(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["upscale", "-s", "2", "-s", "4", "nowhere.png"]) == 1
    assert capsys.readouterr().err == "finescale: Invalid value: -s / --scale takes one value, got 2; give it once\n"
    assert run(["upscale", "-s", "2", "--", "-s", "-s"]) == 2
    assert "-s: no such file or folder" in capsys.readouterr().err
