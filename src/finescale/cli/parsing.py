"""Reading of command lines, the same for all verbs: what click accepts silently but a user did not mean is refused."""

from __future__ import annotations

from collections import Counter
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption


class Verb(TyperCommand):
    """Command that refuses an option given several times where one value is taken; click takes the last value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of a command line.

        Raises:
            typer.BadParameter: An option that takes one value is repeated, or both forms of a switch are given.
        """
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(order).items():
            if times > 1 and isinstance(option, TyperOption) and takes_one_value(option):
                flag = " / ".join((*option.opts, *option.secondary_opts))
                raise typer.BadParameter(f"{flag} takes one value, got {times}; give it once")
        return super().parse_args(ctx, args)


def takes_one_value(option: TyperOption) -> bool:
    """Return whether an option makes a choice, which a second occurrence could contradict.

    A list may be repeated, and a flag without a counterpart says the same each time.
    """
    return not option.multiple and not option.count and (not option.is_flag or bool(option.secondary_opts))


def use_in(app: typer.Typer) -> None:
    """Let every command of an application, and of the groups in it, be a `Verb`."""
    for command in app.registered_commands:
        command.cls = Verb
    for group in app.registered_groups:
        if group.typer_instance is not None:
            use_in(group.typer_instance)
