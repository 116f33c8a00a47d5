"""``finescale``: its verbs, its exit codes, and errors as one sentence.

Exit codes: 0 all done; 1 wrong usage or settings, nothing was started, or standard output cannot be written; 2 some
inputs failed; 130 interrupted, by Ctrl+C or SIGTERM.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from finescale.cli import console, options, prepare, report
from finescale.cli.analyze import analyze
from finescale.cli.command import Verb
from finescale.cli.convert import convert
from finescale.cli.evaluate import evaluate
from finescale.cli.export import export
from finescale.cli.inspect import inspect
from finescale.cli.models import models
from finescale.cli.quantize import quantize
from finescale.cli.serve import serve
from finescale.cli.train import train
from finescale.cli.upscale import upscale
from finescale.errors import FinescaleError
from finescale.system.allocation import reuse_memory
from finescale.system.cores import configure_threads
from finescale.system.interrupt import termination_as_interrupt

WRONG_USAGE, INTERRUPTED = 1, 130

# Click's base class of usage errors; typer has no other public name for it where it bundles its own click.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="finescale",
    help="Upscale pictures with efficient transformer networks; train, evaluate, quantize and export networks.",
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)
for verb in (upscale, models, inspect, convert, evaluate, train, quantize, export, serve):
    app.command()(verb)
app.add_typer(prepare.app, name="prepare")
app.add_typer(analyze, name="analyze")
app.add_typer(report.app, name="report")
for group in (app, prepare.app, analyze, report.app):
    for command in group.registered_commands:
        command.cls = Verb


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("finescale"))
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _finescale(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    local_rank: Annotated[
        int | None, typer.Option("--local_rank", "--local-rank", hidden=True)  # where PyTorch's old launcher puts it
    ] = None,
) -> None:
    if local_rank is not None and options.is_first_process():
        for note in options.notes_on_launch(None, auto_resume=False, local_rank=local_rank):
            console.say(f"note: {note}")
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(WRONG_USAGE)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit with its code."""
    _open_closed_streams()
    configure_threads()
    reuse_memory()
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error is one sentence on standard error. SIGTERM interrupts it as Ctrl+C does.

    Returns:
        The exit code.
    """
    try:
        with termination_as_interrupt():
            code = app(
                args=None if arguments is None else list(arguments), prog_name="finescale", standalone_mode=False
            )
            console.write()
    except _UsageError as error:
        console.say(f"finescale: {error.format_message()}")  # type: ignore[attr-defined]
        return WRONG_USAGE
    except (FinescaleError, ValueError) as error:
        console.say(f"finescale: {error}")
        return WRONG_USAGE
    except OSError as error:
        console.say(f"finescale: {error.filename or 'a file'}: cannot be used ({error.strerror})")
        return WRONG_USAGE
    except (MemoryError, RuntimeError) as error:
        from finescale.system.memory import is_out_of_memory

        if not is_out_of_memory(error):
            raise
        console.say(f"finescale: too little memory ({str(error) or 'nothing more could be allocated'})")
        return WRONG_USAGE
    except (KeyboardInterrupt, typer.Abort):
        console.say("finescale: interrupted")
        return INTERRUPTED
    if code == INTERRUPTED:  # typer's code for a KeyboardInterrupt
        console.say("finescale: interrupted")
    return code if isinstance(code, int) else 0


def _open_closed_streams() -> None:
    """Open what the caller has closed of the three standard streams, whose numbers our files would get otherwise.

    Standard output is opened such that writing to it fails, since a report that nobody gets is an error.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)  # the lowest number that is free
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - until the end
