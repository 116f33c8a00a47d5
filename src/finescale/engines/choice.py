"""Rule by which engine "auto" becomes PyTorch or OpenVINO, from what a run has to compute.

OpenVINO must first translate the network and compile it for each size of tile. The rule compares that with what it
saves afterwards, all by constants: the same run gets the same engine everywhere and every time, whatever a cache holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from typing import Literal, NamedTuple

import torch
from torch import nn

from finescale.networks import FAMILIES, Frame
from finescale.networks.swin import SwinFrame
from finescale.quantize import is_quantized

TRANSLATION_SECONDS = 90.0
"""Time for which a translation must be repaid: 50 to 85 s were measured of the families that gain by it."""

SHAPE_SECONDS = 3.0
"""The same for a network that is compiled for one more size of tile."""

PARAMETER_PIXELS_PER_SECOND = 40e9
"""Lr pixels times parameters of the network that PyTorch computes on a few cores; 8e9 to 49e9 were measured on two."""

MAX_SHAPES = 4
"""Sizes of the tiles of one image: up to two along each side."""

Size = tuple[int, int]


class EngineChoice(NamedTuple):
    """An engine, and why it was chosen."""

    engine: Literal["torch", "openvino"]
    reason: str


def choose_engine(
    network: nn.Module, *, device: torch.device, sizes: Iterable[Size], whole: int, passes: int = 1
) -> EngineChoice:
    """Return the engine that computes a run in less time, OpenVINO's translation included.

    Args:
        network: The network.
        device: Where it is computed.
        sizes: Height and width of each image of the run, in lr pixels; read only where the answer depends on it.
        whole: Longest side of an image that is not cut into tiles, in lr pixels.
        passes: How many times the network sees each pixel.
    """
    if device.type != "cpu":
        return EngineChoice("torch", "OpenVINO computes on CPUs only")
    if any(find_spec(package) is None for package in ("openvino", "onnx", "onnxscript")):
        return EngineChoice("torch", "OpenVINO is not installed")
    faster = openvino_speed(network)
    if faster <= 1:
        return EngineChoice("torch", "OpenVINO is not known to be faster for this network")
    listed = list(sizes)
    shapes = sum(1 if max(size) <= whole else MAX_SHAPES for size in set(listed)) * (1 if passes == 1 else 2)
    pixels = passes * sum(height * width for height, width in listed)
    seconds = pixels * sum(parameter.numel() for parameter in network.parameters()) / PARAMETER_PIXELS_PER_SECOND
    if seconds * (1 - 1 / faster) <= TRANSLATION_SECONDS + SHAPE_SECONDS * shapes:
        return EngineChoice("torch", "the run is too short to repay OpenVINO's translation")
    return EngineChoice("openvino", "the run is long enough to repay its translation")


def openvino_speed(network: nn.Module) -> float:
    """Return how many times as fast as PyTorch OpenVINO computes a network, by `Family.openvino_speed`.

    It is 1 for third-party networks, for quantized ones, whose results would differ by more than rounding, and for
    those that take images of one size alone.
    """
    if not isinstance(network, Frame) or is_quantized(network):
        return 1.0
    if isinstance(network, SwinFrame) and network.settings.positions is not None:
        return 1.0
    return next((family.openvino_speed for family in FAMILIES.values() if family.includes(network)), 1.0)
