"""What every verb says to a person: on standard error, standard output being for results."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import typer

from finescale.errors import printable_name

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 160
"""Columns of output that goes to a file or another program; every row of our tables fits."""


@cache
def errors() -> Console:
    """Where messages and progress go; they are told as they are, names in brackets included."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(text: str) -> None:
    """One message, on one line: what a name has of control characters is escaped."""
    errors().print(printable_name(text))


def engine_of(named: str | None, *, compile: bool) -> str:
    """The engine that ``--engine`` and ``--compile`` ask for together.

    Raises:
        typer.BadParameter: They ask for two.
    """
    if compile and named not in (None, "compile"):
        raise typer.BadParameter(f"--compile and --engine {named} exclude one another")
    return "compile" if compile else named or "torch"


class _Say(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


@contextmanager
def messages_of_the_library(*, timed: bool = False) -> Iterator[None]:
    """While the block runs, a person is told what the library logs, with the time of day if that is asked for."""
    log = logging.getLogger("finescale")
    level, handler = log.level, _Say(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s" if timed else None, "%H:%M:%S"))
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def table_of_facts(rows: Mapping[str, str]) -> Table:
    """Names in bold and their texts beside them, told as they are; empty texts are left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        if text:
            table.add_row(name, Text(text))
    return table


def print_tables(*tables: Table) -> None:
    """Tables on standard output with a blank line between them; as wide as the terminal, or as they need in a pipe."""
    from rich.console import Console

    output = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for number, table in enumerate(tables):
        if number:
            output.print()
        output.print(table)


def check_new_file(path: Path, *, suffix: str, overwrite: bool) -> None:
    """Refuse a name that ``-o`` cannot give, before anything is computed.

    Raises:
        typer.BadParameter: The suffix is another, the file exists and shall stay, or there is no such folder.
    """
    if path.suffix != suffix:
        raise typer.BadParameter(f"-o must name a file that ends in {suffix}, got {path.name!r}")
    if path.exists() and not overwrite:
        raise typer.BadParameter(f"{path} exists; name another file, or say --overwrite")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"-o: there is no folder {path.parent}; make it first")


def print_json(report: dict[str, Any]) -> None:
    """The one machine-readable report of a command, on standard output; broken bytes in names are escaped."""
    sys.stdout.write(json.dumps(report, indent=2) + "\n")
