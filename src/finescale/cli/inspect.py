"""``finescale inspect``: family, variant, scale and settings of a weight file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli import console, options

if TYPE_CHECKING:
    from finescale.weights import Inspection, Loaded


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A weight file: .safetensors or .pth.")],
    settings: options.NetworkSettings = None,
    as_json: options.AsJson = False,
) -> None:
    """Show family, variant, scale and settings of a weight file, after all checks of loading it."""
    from rich.console import Console

    from finescale import weights
    from finescale.settings import read_overrides
    from finescale.weights.third_party import THIRD_PARTY

    facts = weights.inspect(file, settings=read_overrides(settings or ()))
    if facts.family == THIRD_PARTY:
        loaded = weights.load(file)
        report, rows = _third_party_report(loaded), _third_party_rows(loaded)
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


def _third_party_report(loaded: Loaded) -> dict[str, Any]:
    from finescale.weights.header import stated_licence

    return {
        "file": str(loaded.path),
        "format": loaded.format,
        "wrapper": loaded.wrapper,
        "prefix": loaded.prefix,
        "family": None,
        "read_by": "spandrel",
        "architecture": loaded.nearest,
        "scale": loaded.scale,
        "channels": loaded.network.in_channels,
        "settings": loaded.settings.model_dump(mode="json"),
        "parameters": loaded.num_parameters,
        "precisions": _precisions(loaded),
        "quantization": None if loaded.quantization is None else loaded.quantization.model_dump(mode="json"),
        "licence": stated_licence(loaded.header),
        "header": dict(loaded.header),
        "notes": [*loaded.doubts, *loaded.notes],
    }


def _precisions(loaded: Loaded) -> list[str]:
    from finescale.networks import WrappedNetwork

    assert isinstance(loaded.network, WrappedNetwork)
    return list(loaded.network.precisions)


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


def _third_party_rows(loaded: Loaded) -> dict[str, str]:
    return {
        "file": _printable(str(loaded.path)),
        "format": _format(loaded),
        "network": f"{loaded.nearest}, by spandrel",
        "scale": str(loaded.scale),
        "channels": str(loaded.network.in_channels),
        "parameters": f"{loaded.num_parameters:,} ({loaded.dtype})",
        "settings": "\n".join(f"{field} = {value}" for field, value in loaded.settings),
        "precisions": ", ".join(_precisions(loaded)),
        "quantization": "\n".join(f"{field} = {value}" for field, value in loaded.quantization or ()),
        "header": _header(loaded),
        "notes": "\n".join(map(_printable, (*loaded.doubts, *loaded.notes))),
    }


def _format(file: Inspection) -> str:
    wrapper = f"state dict under {file.wrapper!r}" if file.wrapper else "bare state dict"
    return f"{file.format}, {wrapper}" + (f", prefix {file.prefix!r}" if file.prefix else "")


def _header(file: Inspection) -> str:
    return "\n".join(_printable(f"{key} = {text}") for key, text in file.header.items() if key != "settings")


def _printable(text: str) -> str:
    """Escape a text from a file where it contains control characters."""
    return text if text.isprintable() else repr(text)
