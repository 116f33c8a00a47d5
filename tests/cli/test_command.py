"""Options that take one value, in every verb: a second value is refused, never silently the last."""

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
