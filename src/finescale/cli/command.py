"""Command class of all verbs: flags stand as they are written, and an option that takes one value is given once."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

from finescale.system.places import is_url, place_of

_TAKES_URLS = ("upscale", "merge", "serve")


class Verb(TyperCommand):
    """A verb that refuses what click would read silently as something else.

    These are unknown words with one dash, which it takes for bundles (``-opt`` for ``-o pt``), though a number may
    follow a one-letter flag directly, as in ``-s4``; and repeated options with one value, of which it takes the last.
    URLs are refused by verbs that would take them for paths.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check the words of a command line, then parse them."""
        flags = {
            name: not (parameter.is_flag or parameter.count)
            for parameter in self.get_params(ctx)
            if isinstance(parameter, TyperOption)
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        args = _with_values(args, self.get_params(ctx))
        _check_words(args, flags)
        values, _, order = self.make_parser(ctx).parse_args(args=list(args))
        _check_repeated(order)
        if self.name not in _TAKES_URLS:
            _check_paths(values.values(), verb=ctx.command_path)
        return super().parse_args(ctx, args)


def _with_values(words: Sequence[str], parameters: Sequence[Any]) -> list[str]:
    """Return a command line in which options whose value may be left out have their value ``auto``.

    Args:
        words: The command line; the word after such an option is its value, unless it begins with a dash.
        parameters: What the verb takes; the metavar of such an option stands in brackets.
    """
    names = {
        name
        for parameter in parameters
        if isinstance(parameter, TyperOption) and (parameter.metavar or "").startswith("[")
        for name in parameter.opts
    }
    filled: list[str] = []
    for word, following in zip(words, [*words[1:], "-"], strict=False):
        filled += [word, "auto"] if word in names and following.startswith("-") else [word]
    return filled


def _check_words(words: Sequence[str], flags: dict[str, bool]) -> None:
    """Refuse unknown words with one dash.

    Args:
        words: The command line.
        flags: Every flag, and whether a value follows it.

    Raises:
        typer.BadParameter: There is one.
    """
    rest = iter(words)
    for word in rest:
        if word == "--":
            return
        name, equals, _ = word.partition("=")
        if name in flags:
            if flags[name] and not equals:
                next(rest, None)
        elif re.fullmatch(r"-[^-].+", word) and not (word[:2] in flags and re.fullmatch(r"[\d.]+", word[2:])):
            long = [flag[2:] for flag in flags if flag.startswith("--")]
            near = [f" (did you mean --{flag}?)" for flag in difflib.get_close_matches(name[1:], long, n=1)]
            meant = "".join(near) or "; one-letter flags stand by themselves, as in -s 4"
            raise typer.BadParameter(f"no such option: {word}{meant}")


def _check_repeated(order: list[Any]) -> None:
    """Refuse repeated options, unless they are lists, or flags that mean the same each time.

    Args:
        order: The options and arguments of a command line, each as often as it is given.

    Raises:
        typer.BadParameter: There is one.
    """
    for option, times in Counter(order).items():
        if times == 1 or not isinstance(option, TyperOption) or option.multiple or option.count:
            continue
        if option.secondary_opts or not option.is_flag:
            flag = " / ".join((*option.opts, *option.secondary_opts))
            raise typer.BadParameter(f"{flag} takes one value, got {times}; give it once")


def _check_paths(values: Iterable[object], *, verb: str) -> None:
    """Refuse URLs among the values of a command line.

    Args:
        values: Texts and lists of texts; all else is left alone.
        verb: The verb in full.

    Raises:
        typer.BadParameter: There is one.
    """
    for value in values:
        for text in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(text, str) and is_url(text):
                raise typer.BadParameter(
                    f"{place_of(text)}: `{verb}` takes paths, not URLs; copy the files here first "
                    "(`finescale upscale` and `finescale report merge` take URLs)"
                )
