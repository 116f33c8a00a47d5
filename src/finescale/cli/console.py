"""Output of all verbs: messages on standard error, results on standard output."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import typer

from finescale.errors import FinescaleError, printable_name

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

PIPE_WIDTH = 160
"""Columns of output that goes to a file or another program; every row of our tables fits."""

SOME_FAILED = 2
"""Exit code where some inputs failed and the rest is done."""


LONGEST_MESSAGE = 2000
"""Characters of the longest message; of a longer one the middle is left out."""


@cache
def errors() -> Console:
    """Return the console on standard error; it prints text verbatim, brackets included."""
    from rich.console import Console

    class Messages(Console):
        def on_broken_pipe(self) -> None:
            self.quiet = True  # nobody reads them any more, which is no reason to end the work

    return Messages(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(text: str) -> None:
    """Print a message on one line of standard error, with control characters escaped, and of bounded length.

    Where standard error cannot be written, there is nowhere to report that, and the work goes on.
    """
    try:
        errors().print(_bounded(printable_name(_bounded(text))))
    except OSError:
        errors().quiet = True


def _bounded(text: str) -> str:
    if len(text) <= LONGEST_MESSAGE:
        return text
    half = LONGEST_MESSAGE // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


class _Say(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


@contextmanager
def messages_of_the_library(*, timed: bool = False) -> Iterator[None]:
    """Print what the library logs while the block runs, on request with the time of day."""
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
    """Return a table of names in bold and their texts, printed verbatim; empty texts are left out."""
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
    """Print tables on standard output, a blank line between them, at the width of the terminal or of `PIPE_WIDTH`."""
    from rich.console import Console

    output = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
    with output.capture() as captured:
        for number, table in enumerate(tables):
            if number:
                output.print()
            output.print(table)
    write(captured.get())


def check_new_file(path: Path, *, suffix: str | tuple[str, ...], overwrite: bool) -> None:
    """Refuse an output file that cannot be written, before anything is computed.

    Raises:
        typer.BadParameter: The suffix is wrong, the file exists and ``--overwrite`` is not given, or its folder does
            not exist.
    """
    suffixes = (suffix,) if isinstance(suffix, str) else suffix
    if path.suffix not in suffixes:
        raise typer.BadParameter(f"-o must name a file that ends in {' or '.join(suffixes)}, got {path.name!r}")
    if path.exists() and not overwrite:
        raise typer.BadParameter(f"{path} exists; name another file or give --overwrite")
    if not path.parent.is_dir():
        raise typer.BadParameter(f"-o: there is no folder {path.parent}; create it first")


def print_json(report: dict[str, Any]) -> None:
    """Print the report of a command as JSON on standard output, invalid bytes in names escaped."""
    write(json.dumps(report, indent=2) + "\n")


def write(text: str = "") -> None:
    """Write text, and what was written before, to standard output at once.

    Raises:
        FinescaleError: It is closed, or its disk is full; what could not be written is dropped.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        _drop_output()
        raise FinescaleError(f"standard output cannot be written ({error.strerror})") from None


def _drop_output() -> None:
    """Lead standard output nowhere, or Python would try once more at its end, and print a traceback."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        return  # a stand-in that is no file
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, number)
    os.close(nowhere)


def summary_of(statuses: Iterable[str], *, planned: int, interrupted: int = 0) -> str:
    """Return the counts of what became of files, such as "3 done, 1 failed, 1 interrupted, 2 not started"."""
    counts = Counter(statuses)
    told = ", ".join(f"{counts[one]} {one}" for one in ("done", "kept", "left out", "failed") if counts[one])
    missing = planned - counts.total() - interrupted
    parts = [told or "nothing done"]
    parts += [f"{number} {what}" for number, what in ((interrupted, "interrupted"), (missing, "not started")) if number]
    return ", ".join(parts)
