"""What every engine is, and the choice among them by name."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

import torch
from torch import Tensor, nn

from finescale.engines.pytorch import PyTorchEngine
from finescale.networks import Frame
from finescale.weights.third_party import ThirdPartyNetwork

EngineName = Literal["torch", "compile", "openvino"]


class Engine(Protocol):
    """Computes a network."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """What it can compute this network in here, "float32" first."""

    def __call__(self, images: Tensor, *, precision: str) -> Tensor:
        """Images (N, in_channels, H, W) to (N, in_channels, scale * H, scale * W), float32, on the same device."""


def build_engine(name: EngineName, network: nn.Module, *, device: torch.device) -> Engine:
    """An engine for a network that is on its device already, in evaluation.

    Args:
        name: "torch" calls the network as it is, "compile" what `torch.compile` makes of it, "openvino" what OpenVINO
            does; both take a while for each new size.
        network: Ours; "torch" and "compile" take any.
        device: Where it is; "openvino" computes on the CPU alone.

    Raises:
        ValueError: There is no such engine, or it takes neither this network nor this device.
        MissingExtraError: OpenVINO is asked for and not installed.
    """
    check_engine(name)
    if name != "openvino":
        precisions = network.precisions if isinstance(network, ThirdPartyNetwork) else None
        return PyTorchEngine(network, device=device, precisions=precisions, compiled=name == "compile")
    if device.type != "cpu":
        raise ValueError(f"engine 'openvino' computes on device 'cpu', got {str(device)!r}; take engine 'torch' there")
    if not isinstance(network, Frame):
        raise ValueError("engine 'openvino' takes finescale's own networks, got one of others; take engine 'torch'")
    from finescale.engines.openvino import OpenVINOEngine

    return OpenVINOEngine(network)


def check_engine(name: str) -> None:
    """Refuse an unknown engine, before a network is loaded for it.

    Raises:
        ValueError: There is no such engine.
    """
    if name not in get_args(EngineName):
        raise ValueError(f"engine must be {', '.join(map(repr, get_args(EngineName)))}, got {name!r}")
