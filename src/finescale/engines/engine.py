"""Interface of all engines, and their construction by name."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from finescale.engines.pytorch import PyTorchEngine
from finescale.networks import Frame, WrappedNetwork
from finescale.weights.third_party import ThirdPartyNetwork

RuntimeName = Literal["torch", "compile", "openvino"]
"""Engines that can be built."""

EngineName = Literal["auto", "torch", "compile", "openvino"]
"""Engines that can be asked for; "auto" is "torch" or "openvino", see `finescale.engines.choose_engine`."""


class Engine(Protocol):
    """Runtime that computes one network."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precisions in which it can compute this network on this machine, "float32" first."""

    @property
    def multiplies_integers(self) -> bool:
        """Whether it multiplies the integers of a quantized network; otherwise it computes in floats what they give."""

    def __call__(self, images: Tensor, *, precision: str) -> Tensor:
        """Upscale images (N, in_channels, H, W); returns float32 on the same device, ``scale`` times as large."""


def build_engine(name: RuntimeName, network: nn.Module, *, device: torch.device) -> Engine:
    """Build an engine for a network that is on its device and in evaluation mode.

    Args:
        name: "torch" calls the network itself, "compile" compiles it with `torch.compile`, "openvino" translates it for
            OpenVINO, once for all sizes of image; the first call of the last two takes a while.
        network: That of a weight file for "openvino"; any for "torch" and "compile".
        device: Device of the network; "openvino" requires the CPU.

    Raises:
        ValueError: There is no such engine, or it does not support this network or device.
        MissingExtraError: OpenVINO is not installed.
    """
    check_engine(name)
    if name != "openvino":
        precisions = network.precisions if isinstance(network, WrappedNetwork) else None
        return PyTorchEngine(network, device=device, precisions=precisions, compiled=name == "compile")
    if device.type != "cpu":
        raise ValueError(f"engine 'openvino' computes on device 'cpu', got {str(device)!r}; use engine 'torch' there")
    if not isinstance(network, Frame | ThirdPartyNetwork):
        raise ValueError("engine 'openvino' supports networks of weight files, got another module; use engine 'torch'")
    from finescale.engines.openvino import OpenVINOEngine

    return OpenVINOEngine(network)


def check_engine(name: str) -> None:
    """Refuse an unknown engine, before a network is loaded for it.

    Raises:
        ValueError: There is no such engine.
    """
    if name not in get_args(EngineName):
        raise ValueError(f"engine must be {', '.join(map(repr, get_args(EngineName)))}, got {name!r}")
