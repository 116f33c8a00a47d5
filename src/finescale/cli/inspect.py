"""``finescale inspect``: what a weight file is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli import console

if TYPE_CHECKING:
    from finescale.weights import Inspection


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A weight file: .safetensors or .pth.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a report on standard output.")] = False,
) -> None:
    """Tell what a weight file is: family, variant, scale, settings. It is checked as if it were to be used."""
    from finescale import weights

    facts = weights.inspect(file)
    if as_json:
        console.print_json(_report(facts))
    else:
        _print_table(facts)


def _report(facts: Inspection) -> dict[str, Any]:
    return {
        "file": str(facts.path),
        "format": facts.format,
        "wrapper": facts.wrapper,
        "prefix": facts.prefix,
        "family": facts.family,
        "variant": facts.variant,
        "nearest_variant": facts.nearest,
        "differs_in": list(facts.differs_in),
        "scale": facts.scale,
        "settings": facts.settings.model_dump(mode="json"),
        "parameters": facts.num_parameters,
        "dtype": facts.dtype,
        "header": dict(facts.header),
        "notes": list(facts.notes),
    }


def _print_table(facts: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    differences = f"none; nearest is {facts.nearest}, which differs in {', '.join(facts.differs_in)}"
    wrapper = f"state dict under {facts.wrapper!r}" if facts.wrapper else "bare state dict"
    rows = {
        "file": _printable(str(facts.path)),
        "format": f"{facts.format}, {wrapper}" + (f", prefix {facts.prefix!r}" if facts.prefix else ""),
        "family": facts.family,
        "variant": facts.variant or differences,
        "scale": str(facts.scale),
        "parameters": f"{facts.num_parameters:,} ({facts.dtype})",
        "settings": "\n".join(f"{field} = {value}" for field, value in facts.settings),
        "header": "\n".join(_printable(f"{key} = {text}") for key, text in facts.header.items() if key != "settings"),
        "notes": "\n".join(facts.notes),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(value))
    Console().print(table)


def _printable(text: str) -> str:
    """A text of the file's author: what could move the cursor is escaped."""
    return text if text.isprintable() else repr(text)
