"""Integers of a few bits, packed without gaps, and the parts of a weight file that quantization adds.

A quantized file contains the float tensors of the network except the weights of quantized layers, under their own keys,
and two more: `CODES`, the packed integers of one layer after the other, each starting at a new byte, and `BOUNDS`, the
lower and upper bounds of all weights and then of all activations. A text in the header gives the order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finescale.networks import Frame, WrappedNetwork
from finescale.networks.placement import Placement
from finescale.quantize.modules import insert_quantizers, quantized_layers, quantizers, settings_of, switch
from finescale.quantize.quantizer import along_rows, codes_between, values_of
from finescale.quantize.settings import QuantSettings
from finescale.quantize.tracing import Trace, insert_products, trace_of
from finescale.settings import parse_settings

CODES, BOUNDS = "quantized.codes", "quantized.bounds"

SCHEMES = {"zero-point": "uniform-asymmetric", "anchored": "uniform-anchored"}
"""Names in files of the values of `QuantSettings.scheme`."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Quantized:
    """The quantization in a weight file, besides the network itself."""

    settings: QuantSettings
    """How the network was quantized."""
    bounds: Mapping[str, tuple[Tensor, Tensor]]
    """Path of each quantizer, or its name in third-party files, to its lower and upper bounds."""
    bits: Mapping[str, int]
    """Path or name of each quantizer to the width of its integers."""
    name_of: Callable[[str], str] = str
    """Map a path to the name used in ``bounds`` and ``bits``."""
    traced: Trace | None = None
    """What was found in a module that is no network of finescale's; else None."""

    def attach(self, network: Frame | WrappedNetwork, placement: Placement) -> None:
        """Insert the quantizers into a float network and switch them on.

        Raises:
            ValueError: The network has quantizers in other places, or of another width or shape.
        """
        if isinstance(network, WrappedNetwork) != (self.traced is not None):
            raise ValueError("it states places of quantizers in another kind of network")
        try:
            insert_quantizers(network, placement, self.settings)
            if isinstance(network, WrappedNetwork) and self.traced is not None:
                insert_products(network, self.traced, self.settings)
        except (AttributeError, StopIteration) as error:  # paths of another network
            raise ValueError(f"it states places that the network does not have ({error})") from None
        for path, quantizer in quantizers(network).items():
            name = self.name_of(path)
            if name not in self.bounds or self.bits[name] != quantizer.bits:
                stated = f"{self.bits[name]} bits" if name in self.bounds else "no quantizer"
                raise ValueError(f"it states {stated} at {name!r}, where the network has {quantizer.bits} bits")
            low, high = self.bounds[name]
            if low.shape != quantizer.low.shape or high.shape != quantizer.low.shape:
                raise ValueError(f"its bounds at {name!r} have the shape {tuple(low.shape)}")
            if not bool((low < high).all()):
                raise ValueError(f"its range at {name!r} is empty, or its lower bound is above its upper bound")
            quantizer.set_bounds(low, high)
        switch(network, on=True)


def pack(numbers: Tensor, *, bits: int) -> Tensor:
    """Pack integers from 0 to 2^bits - 1, of any shape, into bytes (n,), the highest bit of the first number first."""
    wide = numbers.flatten().cpu().numpy().astype(">u2").view(np.uint8).reshape(-1, 2)
    return torch.from_numpy(np.packbits(np.unpackbits(wide, axis=1)[:, 16 - bits :]))


def unpack(packed: Tensor, *, bits: int, count: int) -> Tensor:
    """Undo `pack`: (count,) int32."""
    each = np.unpackbits(packed.numpy(), count=count * bits).reshape(count, bits)
    wide = np.pad(each, ((0, 0), (16 - bits, 0)))
    return torch.from_numpy(np.packbits(wide, axis=1).view(">u2").astype(np.int32).reshape(count))


def packed_size(count: int, *, bits: int) -> int:
    """Return the number of bytes that ``count`` packed integers take."""
    return -(-count * bits // 8)


def to_file(network: nn.Module, state: Mapping[str, Tensor], *, traced: object = None) -> tuple[dict[str, Tensor], str]:
    """Return a quantized network's tensors with its weights as integers, and the text for the header.

    Args:
        network: Calibrated.
        state: Its state dict, float32 on the host.
        traced: The `Trace` of a module that is no network of finescale's.

    Raises:
        ValueError: Its quantizers have no bounds.
    """
    settings = settings_of(network)
    layers = quantized_layers(network)
    places = quantizers(network)
    if not all(bool((one.high > one.low).all()) for one in places.values()):
        raise ValueError("the network has quantizers without bounds; calibrate it before it is saved")
    of_weights = {f"{path}.weight_quantizer": path for path in layers}
    packed, bounds, weights = [], [], {}
    for place, path in of_weights.items():
        quantizer, weight = places[place], state[f"{path}.weight"]
        low, high = quantizer.low.cpu(), quantizer.high.cpu()
        parts = quantizer.parts(weight)
        ends = along_rows(low, parts), along_rows(high, parts)
        numbers = codes_between(parts, *ends, bits=quantizer.bits, anchored=quantizer.anchored)
        packed.append(pack(numbers, bits=quantizer.bits))
        bounds += [low, high]
        weights[path] = [quantizer.bits, list(weight.shape)]
        if len(low) != len(weight):  # several rows share a range
            weights[path].append(len(low))
    activations = {}
    for place, quantizer in places.items():
        if place not in of_weights:
            bounds += [quantizer.low.cpu().reshape(1), quantizer.high.cpu().reshape(1)]
            activations[place] = quantizer.bits
    text = {
        "scheme": SCHEMES[settings.scheme],
        "settings": settings.model_dump(mode="json"),
        "weights": weights,
        "activations": activations,
        **({"traced": asdict(traced)} if isinstance(traced, Trace) else {}),
    }
    left = {key: tensor for key, tensor in state.items() if key.removesuffix(".weight") not in layers}
    return {**left, CODES: torch.cat(packed), BOUNDS: torch.cat(bounds)}, json.dumps(text, separators=(",", ":"))


def from_file(state: Mapping[str, Tensor], text: str) -> tuple[dict[str, Tensor], Quantized]:
    """Undo `to_file`: return tensors in float32 with the values of the integers, and the quantization.

    Raises:
        ValueError: The text or the two tensors are not as `to_file` writes them.
        SettingsError: The settings in the text are unknown or wrong.
    """
    facts = _facts(text)
    settings = parse_settings(QuantSettings, facts["settings"], source="quantization in its header")
    packed, bounds = state.get(CODES), state.get(BOUNDS)
    if packed is None or bounds is None or packed.dtype != torch.uint8 or bounds.dtype != torch.float32:
        raise ValueError(f"{CODES} or {BOUNDS} is missing or of another type")
    if facts["scheme"] != SCHEMES[settings.scheme]:
        raise ValueError(f"its scheme is {facts['scheme']!r}, where its settings state {settings.scheme!r}")
    anchored = settings.scheme == "anchored"
    sizes = [packed_size(prod(shape), bits=bits) for bits, shape, *_ in facts["weights"].values()]
    rows = [(ranges or shape)[0] for _, shape, *ranges in facts["weights"].values()] + [1] * len(facts["activations"])
    if packed.shape != (sum(sizes),) or bounds.shape != (2 * sum(rows),):
        raise ValueError(f"{CODES} or {BOUNDS} does not have the size that the header states")
    if not bounds.isfinite().all():
        raise ValueError(f"{BOUNDS} contains NaN or infinity")
    widths = {f"{path}.weight_quantizer": entry[0] for path, entry in facts["weights"].items()} | facts["activations"]
    ends = torch.split(bounds, [row for row in rows for _ in range(2)])
    of_place = dict(zip(widths, zip(ends[::2], ends[1::2], strict=True), strict=True))
    floats = {key: tensor for key, tensor in state.items() if key not in (CODES, BOUNDS)}
    for (path, (bits, shape, *_)), part in zip(facts["weights"].items(), torch.split(packed, sizes), strict=True):
        low, high = (end[:, None] for end in of_place[f"{path}.weight_quantizer"])
        numbers = unpack(part, bits=bits, count=prod(shape)).reshape(len(low), -1)
        floats[f"{path}.weight"] = values_of(numbers, low, high, bits=bits, anchored=anchored).reshape(shape)
    scalars = {place: (low[0], high[0]) for place, (low, high) in of_place.items() if place in facts["activations"]}
    traced = None if "traced" not in facts else trace_of(facts["traced"])
    return floats, Quantized(settings=settings, bounds=of_place | scalars, bits=widths, traced=traced)


def _facts(text: str) -> dict[str, Any]:
    """Parse the header's text and check that it has the form written by `to_file`."""
    facts = json.loads(text)
    if not isinstance(facts, dict) or facts.get("scheme") not in SCHEMES.values():
        raise ValueError(f"its quantization is not {' or '.join(map(repr, SCHEMES.values()))}; update finescale")
    weights, activations = facts.get("weights"), facts.get("activations")
    if (
        not isinstance(weights, dict)
        or not isinstance(activations, dict)
        or not isinstance(facts.get("settings"), dict)
    ):
        raise ValueError("its quantization lacks settings, weights or activations")
    for entry in weights.values():
        if not isinstance(entry, list) or len(entry) < 2 or not _is_width(entry[0]) or not _is_shape(entry[1]):
            raise ValueError("its quantization states weights without width or shape")
        if len(entry) > 2 and (len(entry) > 3 or entry[2] not in (1, 3) or entry[1][0] % entry[2]):
            raise ValueError(f"its quantization states {entry[2:]} ranges of weights; known are 1 and 3")
    if not all(map(_is_width, activations.values())):
        raise ValueError("its quantization states activations without width")
    return facts


def _is_width(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 16


def _is_shape(value: Any) -> bool:
    return isinstance(value, list) and len(value) in (2, 4) and all(type(n) is int and 0 < n < 2**31 for n in value)
