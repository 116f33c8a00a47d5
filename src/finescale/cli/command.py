"""Command class of all verbs: an option that takes one value is given once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption


class Verb(TyperCommand):
    """A verb that refuses repeated options that take one value, of which click takes the last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Check the words of a command line, then parse them."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        _check_repeated(order)
        return super().parse_args(ctx, args)


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
