"""``finescale export``: a network as a file for other runtimes."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated

import typer

from finescale.cli import console, options
from finescale.cli.console import say

FORMATS = ("onnx",)


def export(
    network: options.Network,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="A new .onnx file.")],
    size: Annotated[
        str, typer.Option(metavar="WIDTHxHEIGHT", help="Size of the input images; the file takes no other size.")
    ],
    scale: options.Scale = None,
    file_format: Annotated[str, typer.Option("--format", help="onnx, the only format.")] = "onnx",
    overrides: options.NetworkSettings = None,
    offline: options.Offline = False,
    overwrite: options.ReplaceFile = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a network as ONNX, checked with ONNX Runtime; a quantized network is written with integers."""
    from finescale import weights
    from finescale.export import export_onnx, onnx_runtime
    from finescale.settings import read_overrides

    if file_format not in FORMATS:
        raise typer.BadParameter(f"--format must be {', '.join(FORMATS)}, got {file_format!r}")
    console.check_new_file(output, suffix=".onnx", overwrite=overwrite)
    width, height = _sides(size)
    settings = read_overrides(overrides or [])
    onnx_runtime()
    with console.messages_of_the_library():
        loaded = weights.load_named(network, scale=scale, offline=offline, settings=settings)
        say(f"writing {output} for images of {width} x {height} pixels")
        parity = export_onnx(loaded.network, output, size=(height, width))
    report = {
        "output": str(output),
        "family": loaded.family,
        "variant": loaded.variant,
        "scale": loaded.scale,
        "bits": None if loaded.quantization is None else loaded.quantization.bits,
        "input": [1, loaded.network.in_channels, height, width],
        "bytes": output.stat().st_size,
        "largest_difference": parity.largest,
        "psnr_db": None if math.isinf(parity.psnr) else parity.psnr,
    }
    if as_json:
        console.print_json(report)
    say(
        f"{output}: {report['bytes']:,} bytes; ONNX Runtime differs from the network by at most {parity.largest:.1e}, "
        f"{parity.psnr:.1f} dB"
    )


def _sides(size: str) -> tuple[int, int]:
    sides = re.fullmatch(r"(\d+)x(\d+)", size)
    if sides is None or 0 in (width := int(sides[1]), height := int(sides[2])):
        raise typer.BadParameter(f"--size must be WIDTHxHEIGHT, such as 128x96, got {size!r}")
    return width, height
