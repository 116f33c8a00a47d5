"""``finescale convert``: a weight file in another form."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from finescale.cli import console, options
from finescale.cli.console import say

if TYPE_CHECKING:
    from finescale.networks.family import Key
    from finescale.weights import Conversion
    from finescale.weights.conversion import Reader

KEYS = ("params", "params_ema", "none")
READERS = ("spandrel",)


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A weight file: .safetensors or .pth.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="OUT", help="A new .safetensors file, or a .pth as published.")
    ],
    key: Annotated[
        str | None,
        typer.Option(
            help="Under which a .pth has the weights: params, params_ema or none; default: as the published code."
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option("--for", metavar="TOOL", help="spandrel: readable by it and by the tools built on it, checked."),
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=1, help="img_size of the published code that is to read OUT; default: the published one."),
    ] = None,
    overrides: options.NetworkSettings = None,
    unstated: Annotated[
        bool, typer.Option("--unstated", help="Write a .pth though it cannot state all settings of the network.")
    ] = False,
    overwrite: options.ReplaceFile = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a weight file in another form, which gives the same answers: with a header, as published, for spandrel."""
    from finescale import weights
    from finescale.settings import read_overrides
    from finescale.weights.conversion import SUFFIXES
    from finescale.weights.recognition import as_flags

    if key is not None and key not in KEYS:
        raise typer.BadParameter(f"--key must be {', '.join(KEYS)}, got {key!r}")
    if reader is not None and reader not in READERS:
        raise typer.BadParameter(f"--for must be {', '.join(READERS)}, got {reader!r}")
    console.check_new_file(output, suffix=SUFFIXES, overwrite=overwrite)
    with console.messages_of_the_library():
        done = weights.convert(
            file,
            output,
            key=cast("Key | None", key),
            reader=cast("Reader | None", reader),
            image_size=image_size,
            settings=read_overrides(overrides or []),
            allow_unstated=unstated,
        )
    for note in done.notes:
        say(f"note: {note}")
    if done.unstated:
        say(f"note: the file does not state {as_flags(done.unstated)}, which finescale must be given with it")
    if as_json:
        console.print_json(_report(done))
    say(f"{done.output}: {done.network}, {done.output.stat().st_size:,} bytes")


def _report(done: Conversion) -> dict[str, Any]:
    return {
        "input": str(done.source),
        "output": str(done.output),
        "network": done.network,
        "key": done.key,
        "derived_tensors": done.num_derived,
        "unstated": dict(done.unstated),
        "bytes": done.output.stat().st_size,
        "notes": list(done.notes),
    }
