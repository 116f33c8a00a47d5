"""``finescale export``: a network as a file for other runtimes."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from finescale.cli import console, options
from finescale.cli.console import say

ENDINGS = {"onnx": ".onnx", "program": ".pt2"}
"""Formats, and how the names of their files end."""


def export(
    network: options.Network,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="A new .onnx file, or .pt2 for a program.")
    ],
    size: Annotated[
        str | None,
        typer.Option(metavar="WIDTHxHEIGHT", help="The only size of input images; default: every size."),
    ] = None,
    scale: options.Scale = None,
    file_format: Annotated[
        str, typer.Option("--format", help="onnx, or program: what torch.export writes for PyTorch.")
    ] = "onnx",
    half: Annotated[bool, typer.Option("--fp16", help="Store the weights of an ONNX file in half precision.")] = False,
    overrides: options.NetworkSettings = None,
    offline: options.Offline = False,
    overwrite: options.ReplaceFile = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a network for other runtimes, checked by them; a quantized network is written with integers."""
    from finescale import weights
    from finescale.export import export_onnx, export_program, onnx_runtime
    from finescale.settings import read_overrides
    from finescale.weights.header import stated_licence

    if file_format not in ENDINGS:
        raise typer.BadParameter(f"--format must be {' or '.join(ENDINGS)}, got {file_format!r}")
    if half and file_format != "onnx":
        raise typer.BadParameter(f"--fp16 is for --format onnx, got --format {file_format}")
    console.check_new_file(output, suffix=ENDINGS[file_format], overwrite=overwrite)
    sides = None if size is None else _sides(size)
    settings = read_overrides(overrides or [])
    if file_format == "onnx":
        onnx_runtime()
    with console.messages_of_the_library():
        loaded = weights.load_named(network, scale=scale, offline=offline, settings=settings)
        say(f"writing {output} for images of {'every size' if size is None else size.replace('x', ' x ') + ' pixels'}")
        facts: dict[str, str | None] = {
            "source": loaded.header.get("source", loaded.path.name),
            "licence": stated_licence(loaded.header),
        }
        if file_format == "onnx":
            parity = export_onnx(loaded.network, output, size=sides, half=half, **facts)
        else:
            parity = export_program(loaded.network, output, size=sides, **facts)
    report = {
        "output": str(output),
        "format": file_format,
        "family": loaded.family,
        "variant": loaded.variant,
        "scale": loaded.scale,
        "bits": None if loaded.quantization is None else loaded.quantization.bits,
        "half": half,
        "input": [None if sides is None else 1, loaded.network.in_channels, *(sides or (None, None))],
        "bytes": output.stat().st_size,
        "largest_difference": parity.largest,
        "psnr_db": None if math.isinf(parity.psnr) else parity.psnr,
    }
    if as_json:
        console.print_json(report)
    runtime = "ONNX Runtime" if file_format == "onnx" else "the program"
    apart = "" if math.isinf(parity.psnr) else f", {parity.psnr:.1f} dB"
    differs = f"{runtime} differs from the network by at most {parity.largest:.1e}{apart}"
    say(f"{output}: {report['bytes']:,} bytes; {differs}")


def _sides(size: str) -> tuple[int, int]:
    """Return height and width of what ``--size`` states as width and height."""
    sides = re.fullmatch(r"(\d+)x(\d+)", size)
    if sides is None or 0 in (width := int(sides[1]), height := int(sides[2])):
        raise typer.BadParameter(f"--size must be WIDTHxHEIGHT, such as 128x96, got {size!r}")
    return height, width
