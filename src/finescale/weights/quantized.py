"""Reader of weight files that may be quantized, by us or by the authors: float32 tensors and the quantizers' bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from finescale.errors import SettingsError, WeightsError
from finescale.networks import FAMILIES
from finescale.networks.family import QuantizedFiles
from finescale.quantize.packing import Quantized, from_file
from finescale.quantize.settings import RECIPES, QuantSettings
from finescale.settings import mistakes_of
from finescale.weightfiles.messages import first_words
from finescale.weightfiles.pickled import PickledNetwork, is_pickled_network, read_pickled_network
from finescale.weightfiles.tensors import StoredTensors, read_tensors
from finescale.weights.header import states_third_party
from finescale.weights.third_party import MODULE

HEADER_KEY = "quantization"
"""Under which our header has what `finescale.quantize.packing` writes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Content:
    """What is in a weight file, quantized or not."""

    stored: StoredTensors
    """Its tensors; quantized weights are converted to float32."""
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
        files = family.quantization.files
        if files and is_pickled_network(path, of_class=files.of_class):
            return _from_authors(read_pickled_network(path), files)
    return _from_us(read_tensors(path))


def _from_us(stored: StoredTensors) -> Content:
    """The content of a file with a state dict; its header may state a quantization."""
    stored = _without_shared_prefix(stored)
    if HEADER_KEY not in stored.header:
        return Content(stored=stored)
    try:
        tensors, quantized = from_file(stored.tensors, stored.header[HEADER_KEY])
    except (ValueError, SettingsError, KeyError, IndexError, RecursionError) as error:
        raise WeightsError(f"damaged quantization ({first_words(error)})") from None
    if states_third_party(stored.header):
        quantized = replace(quantized, name_of=lambda path: path.removeprefix(MODULE))
    header = {key: text for key, text in stored.header.items() if key != HEADER_KEY}
    return Content(stored=replace(stored, tensors=tensors, header=header), quantized=quantized)


def _without_shared_prefix(stored: StoredTensors) -> StoredTensors:
    """Take off the names that all keys of a network of ours begin with: no such network has one module alone."""
    if not any(family.files.recognises(stored.tensors) for family in FAMILIES.values()):
        return stored
    tensors, prefix = stored.tensors, stored.prefix
    while len(shared := {key.partition(".")[0] for key in tensors}) == 1 and all("." in key for key in tensors):
        name = f"{shared.pop()}."
        tensors, prefix = {key.removeprefix(name): tensor for key, tensor in tensors.items()}, prefix + name
    return replace(stored, tensors=tensors, prefix=prefix)


_LOWER, _UPPER = ".quantizer.min_val", ".quantizer.max_val"


def _from_authors(network: PickledNetwork, files: QuantizedFiles) -> Content:
    """The content of a network that the authors of a family quantized and pickled."""
    weights = {files.key_of(key): one for key, one in network.tensors.items() if not key.endswith((_LOWER, _UPPER))}
    bounds = _bounds(network.tensors)
    if not weights or not bounds:
        raise WeightsError("a pickled network without weights, or without bounds of its quantizers")
    bits = {name: _bits(network, name) for name in bounds}
    return Content(
        stored=StoredTensors(format="torch (pickled network)", wrapper=None, prefix="", header={}, tensors=weights),
        quantized=Quantized(settings=_settings(bits, files), bounds=bounds, bits=bits, name_of=files.name_of),
        known=files.settings_of(network.attributes[""]),
    )


def _bounds(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Lower and upper bounds by the names of the quantizers; empty where one of them lacks an end."""
    lower, upper = (
        {key.removesuffix(end): tensor.float() for key, tensor in tensors.items() if key.endswith(end)}
        for end in (_LOWER, _UPPER)
    )
    if lower.keys() != upper.keys():
        return {}
    if not all(tensor.isfinite().all() for ends in (lower, upper) for tensor in ends.values()):
        raise WeightsError("the bounds of its quantizers contain NaN or infinity; the file is damaged")
    return {name: (lower[name], upper[name]) for name in lower}


def _bits(network: PickledNetwork, name: str) -> Any:
    """Width of the integers of a quantized layer."""
    kind = network.attributes.get(name, {}).get("bit_type")
    bits = getattr(kind, "bits", None)
    if type(bits) is not int:
        raise WeightsError(f"{name!r} in it does not state its bits")
    return bits


def _settings(bits: Mapping[str, Any], files: QuantizedFiles) -> QuantSettings:
    """The settings that give all quantizers these widths."""
    at_ends = {files.name_of(place) for place in ("conv_first.input_quantizer", "result")}
    inner = {width for name, width in bits.items() if name not in at_ends}
    outer = {width for name, width in bits.items() if name in at_ends}
    if len(inner) != 1 or len(outer) != 1:
        raise WeightsError(f"a pickled network of mixed bits, {sorted(inner)} and {sorted(outer)} at its ends")
    values = {**RECIPES["published"], "bits": inner.pop(), "edge_bits": outer.pop()}
    try:
        return QuantSettings.model_validate(values)
    except ValidationError as error:
        raise WeightsError(mistakes_of(QuantSettings, error)) from None
