"""Weight files of quantized networks, ours and the authors' own, as tensors in float32 and bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finescale.errors import SettingsError, WeightsError
from finescale.networks import FAMILIES, Family
from finescale.quantize.packing import Quantized, from_file
from finescale.quantize.settings import QuantSettings
from finescale.settings import parse_settings
from finescale.weightfiles.pickled import ModuleFile, holds_module, read_module
from finescale.weightfiles.tensors import RawState, first_words, read_state

HEADER_KEY = "quantization"
"""Under which our header has what `finescale.quantize.packing` writes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Content:
    """What is in a weight file, quantized or not."""

    raw: RawState
    """Its tensors; those of quantized weights as the integers, or the authors, say them."""
    quantized: Quantized | None = None
    """Bounds and settings of a quantized network."""
    known: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the network's settings that a pickled network states."""


def read(path: Path) -> Content:
    """Read a weight file of any kind; nothing in it is run.

    Raises:
        WeightsError: The file is missing, damaged or not a weight file.
        UnsafeWeightsError: It contains code.
    """
    for family in FAMILIES.values():
        if family.quantization.files and holds_module(path, of_class=family.quantization.files.of_class):
            return _published(path, family)
    raw = read_state(path)
    if HEADER_KEY not in raw.header:
        return Content(raw=raw)
    try:
        state, quantized = from_file(raw.state, raw.header[HEADER_KEY])
    except (ValueError, SettingsError, KeyError, IndexError, RecursionError) as error:
        raise WeightsError(f"{path}: damaged quantization ({first_words(error)})") from None
    header = {key: text for key, text in raw.header.items() if key != HEADER_KEY}
    return Content(raw=replace(raw, state=state, header=header), quantized=quantized)


def _published(path: Path, family: Family) -> Content:
    """A network that the authors of a family quantized and pickled."""
    files = family.quantization.files
    assert files is not None
    module = read_module(path)
    ends = ".quantizer.min_val", ".quantizer.max_val"
    state = {files.key_of(key): tensor for key, tensor in module.state.items() if not key.endswith(ends)}
    lower, upper = (
        {key.removesuffix(end): tensor.float() for key, tensor in module.state.items() if key.endswith(end)}
        for end in ends
    )
    if not state or not lower or lower.keys() != upper.keys():
        raise WeightsError(f"{path}: a pickled network without weights, or without bounds of its quantizers")
    if not all(tensor.isfinite().all() for bounds in (lower, upper) for tensor in bounds.values()):
        raise WeightsError(f"{path}: the bounds of its quantizers contain NaN or infinity; the file is damaged")
    bits = {name: _bits(path, module, name) for name in lower}
    ends_of_network = {files.name_of(place) for place in ("conv_first.input_quantizer", "result")}
    inner = {width for name, width in bits.items() if name not in ends_of_network}
    outer = {width for name, width in bits.items() if name in ends_of_network}
    if len(inner) != 1 or len(outer) != 1:
        raise WeightsError(f"{path}: a pickled network of mixed bits, {sorted(inner)} and {sorted(outer)} at its ends")
    values = {"bits": inner.pop(), "edge_bits": outer.pop(), "include_zero": False}
    try:
        settings = parse_settings(QuantSettings, values, source=str(path))
    except SettingsError as error:
        raise WeightsError(str(error)) from None
    return Content(
        raw=RawState(format="torch (pickled network)", wrapper=None, prefix="", header={}, state=state),
        quantized=Quantized(
            settings=settings,
            bounds={name: (lower[name], upper[name]) for name in lower},
            bits=bits,
            name_of=files.name_of,
        ),
        known=files.settings_of(module.attributes[""]),
    )


def _bits(path: Path, module: ModuleFile, name: str) -> Any:
    """Width of the integers of a quantized layer."""
    kind = module.attributes.get(name, {}).get("bit_type")
    bits = getattr(kind, "bits", None)
    if type(bits) is not int:
        raise WeightsError(f"{path}: {name!r} in it does not state its bits")
    return bits
