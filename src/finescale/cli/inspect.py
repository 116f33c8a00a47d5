"""``finescale inspect``: family, variant, scale and settings of a weight file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli import console, options

if TYPE_CHECKING:
    from finescale.weights import Inspection
    from finescale.weights.third_party import ThirdPartyNetwork


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A weight file: .safetensors or .pth.")],
    settings: options.NetworkSettings = None,
    as_json: options.AsJson = False,
) -> None:
    """Show family, variant, scale and settings of a weight file, after all checks of loading it."""
    from rich.console import Console

    from finescale import weights
    from finescale.errors import UnknownNetworkError
    from finescale.settings import read_overrides
    from finescale.weights import third_party

    try:
        facts = weights.inspect(file, settings=read_overrides(settings or ()))
    except UnknownNetworkError as refusal:
        network = third_party.retry_with_spandrel(file, refusal)
        report, rows = _third_party_report(network), _third_party_rows(network)
    else:
        report, rows = _report(facts), _rows(facts)
    if as_json:
        console.print_json(report)
    else:
        Console().print(console.table_of_facts(rows))


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
        "quantization": None if facts.quantization is None else facts.quantization.model_dump(mode="json"),
        "header": dict(facts.header),
        "notes": list(facts.notes),
        "doubts": list(facts.doubts),
    }


def _third_party_report(network: ThirdPartyNetwork) -> dict[str, Any]:
    return {
        "file": str(network.path),
        "format": network.format,
        "wrapper": network.wrapper,
        "prefix": network.prefix,
        "family": None,
        "read_by": "spandrel",
        "architecture": network.architecture,
        "scale": network.scale,
        "channels": network.in_channels,
        "parameters": network.num_parameters,
        "precisions": list(network.precisions),
        "licence": network.licence,
        "header": dict(network.header),
        "notes": list(network.notes),
    }


def _rows(facts: Inspection) -> dict[str, str]:
    differences = f"none; nearest is {facts.nearest}, which differs in {', '.join(facts.differs_in)}"
    return {
        "file": _printable(str(facts.path)),
        "format": _format(facts),
        "family": facts.family,
        "variant": facts.variant or differences,
        "scale": str(facts.scale),
        "parameters": f"{facts.num_parameters:,} ({facts.dtype})",
        "settings": "\n".join(f"{field} = {value}" for field, value in facts.settings),
        "quantization": "\n".join(f"{field} = {value}" for field, value in facts.quantization or ()),
        "header": _header(facts),
        "notes": "\n".join((*facts.notes, *map(_printable, facts.doubts))),
    }


def _third_party_rows(network: ThirdPartyNetwork) -> dict[str, str]:
    return {
        "file": _printable(str(network.path)),
        "format": _format(network),
        "network": f"{network.architecture}, by spandrel",
        "scale": str(network.scale),
        "channels": str(network.in_channels),
        "parameters": f"{network.num_parameters:,}",
        "precisions": ", ".join(network.precisions),
        "header": _header(network),
        "notes": "\n".join(map(_printable, network.notes)),
    }


def _format(file: Inspection | ThirdPartyNetwork) -> str:
    wrapper = f"state dict under {file.wrapper!r}" if file.wrapper else "bare state dict"
    return f"{file.format}, {wrapper}" + (f", prefix {file.prefix!r}" if file.prefix else "")


def _header(file: Inspection | ThirdPartyNetwork) -> str:
    return "\n".join(_printable(f"{key} = {text}") for key, text in file.header.items() if key != "settings")


def _printable(text: str) -> str:
    """Escape a text from a file where it contains control characters."""
    return text if text.isprintable() else repr(text)
