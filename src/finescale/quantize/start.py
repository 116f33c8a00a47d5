"""Start of a refinement from a network that is quantized already."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import torch
from torch import nn

from finescale.networks import Frame, WrappedNetwork
from finescale.quantize.modules import bounds_of, quantized_layers, quantizers, settings_of, switch
from finescale.quantize.settings import QuantSettings
from finescale.settings import parse_settings


def settings_from(start: nn.Module, changes: Mapping[str, Any]) -> QuantSettings:
    """Settings of a refinement that starts with the ranges of a quantized network.

    Args:
        start: The network, quantized, usually with ``epochs`` 0.
        changes: Fields and values; those that decide ranges must agree with the network's.

    Raises:
        ValueError: One does not.
        SettingsError: A field or value is unknown.
    """
    found = settings_of(start)
    settings = parse_settings(
        QuantSettings, {**found.model_dump(), "epochs": QuantSettings().epochs, **changes}, source="quantize"
    )
    if not settings.epochs:
        raise ValueError("epochs must be at least 1 to refine ranges that are found already, got 0")
    ranges = found.of_ranges()
    for name, value in settings.of_ranges().items():
        if value != ranges[name]:
            raise ValueError(f"{name} must be {ranges[name]!r}, by which the ranges were found, got {value!r}")
    return settings


def check_start(network: Frame | WrappedNetwork, start: Frame | WrappedNetwork, settings: QuantSettings) -> None:
    """Refuse a quantized network of another kind than the float one."""
    if not hasattr(network, "settings"):
        raise ValueError("start must be None for a module that states no settings")
    if settings_of(start).of_ranges() != settings.of_ranges():
        raise ValueError("the network to start from was quantized by other settings; see settings_from")
    if (type(network), network.scale, network.settings) != (
        type(start), start.scale, getattr(start, "settings", None)
    ):  # fmt: skip
        raise ValueError("the network to start from has another family, scale or settings than the float network")


def take_bounds(network: nn.Module, start: nn.Module) -> None:
    """Give a network the bounds of one that was quantized from it.

    Raises:
        ValueError: It was quantized from other weights.
    """
    places = quantizers(start)
    for path, one in quantizers(network).items():
        one.set_bounds(places[path].low, places[path].high)
    switch(network, on=True)
    theirs = quantized_layers(start)
    for path, layer in quantized_layers(network).items():
        if not torch.equal(layer.quantized_weight(), theirs[path].quantized_weight().to(layer.weight.device)):
            raise ValueError(f"the network to start from was quantized from other weights (first: {path})")


def digest_of_bounds(network: nn.Module) -> str:
    """SHA-256 of all bounds of a quantized network."""
    digest = sha256()
    for ends in bounds_of(network).values():
        for end in ends:
            digest.update(end.cpu().numpy().tobytes())
    return digest.hexdigest()
