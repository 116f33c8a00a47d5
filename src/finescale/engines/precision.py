"""Choice of the precision in which a network computes."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Literal

import torch
from torch import nn

from finescale.networks import FAMILIES
from finescale.networks.wrapped import PROBE
from finescale.quantize import is_quantized
from finescale.weights.third_party import ThirdPartyNetwork

Precision = Literal["auto", "float32", "bf16", "fp16"]

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Every precision by its name."""


def choose_precision(
    requested: Precision, network: nn.Module, *, device: torch.device, engine: str, offered: Collection[str]
) -> str:
    """Return the precision to compute in: the requested one, or for "auto" bf16 where it is faster and safe.

    Args:
        requested: The user's choice.
        network: The network that is computed.
        device: Where it is computed.
        engine: Name of the engine.
        offered: Precisions in which the engine can compute this network on this machine.

    Returns:
        "float32", "bf16" or "fp16".

    Raises:
        ValueError: There is no such precision, or it is not offered.
    """
    check_precision(requested)
    if requested == "auto":
        gains = "bf16" in offered and _gains_by_bf16(network, device, engine)
        return "bf16" if gains and fidelity_in("bf16", network) >= LEAST_FIDELITY else "float32"
    if requested not in offered:
        raise ValueError(
            f"precision must be 'auto', {', '.join(map(repr, offered))} for this network, got {requested!r}"
        )
    reached = math.inf if requested == "float32" else fidelity_in(requested, network)
    if reached < LEAST_FIDELITY:
        raise ValueError(
            f"precision {requested!r} comes as close as {reached:.0f} dB to float32 in this network, less than "
            f"{LEAST_FIDELITY} dB; use 'float32'"
        )
    return requested


LEAST_FIDELITY = 30
"""Least PSNR in dB against float32 at which a third-party network is computed in another precision: bf16 keeps about
eight bits of every number, which gives 40 dB and more where nothing overflows or cancels."""


@torch.inference_mode()
def fidelity_in(precision: str, network: nn.Module) -> float:
    """Measure how close a third-party network comes to its float32 answers in another precision.

    Args:
        precision: "bf16" or "fp16".
        network: In evaluation mode; computed on an image of random numbers, on its own device.

    Returns:
        PSNR in dB, of answers whose largest value is the peak; minus infinity where one is not finite. Infinity for
        finescale's own networks, which compute in float32 what needs it, and for modules that state no precisions.
    """
    if not isinstance(network, ThirdPartyNetwork):
        return math.inf
    tensor = next(network.parameters())
    side = math.ceil(PROBE / network.period) * network.period
    image = torch.rand(1, network.in_channels, side, side, generator=torch.Generator().manual_seed(0)).to(tensor)
    expected = network(image).float()
    with torch.autocast(tensor.device.type, dtype=DTYPES[precision]):
        answer = network(image).float()
    if not answer.isfinite().all():
        return -math.inf
    error = float((answer - expected).square().mean().sqrt())
    return math.inf if error == 0 else 20 * math.log10(max(1.0, float(expected.abs().max())) / error)


def check_precision(asked: str) -> None:
    """Refuse an unknown precision, before a network is loaded for it.

    Raises:
        ValueError: There is no such precision.
    """
    if asked not in ("auto", *DTYPES):
        raise ValueError(f"precision must be 'auto', {', '.join(map(repr, DTYPES))}, got {asked!r}")


def _gains_by_bf16(network: nn.Module, device: torch.device, engine: str) -> bool:
    if is_quantized(network) and engine != "openvino":  # bf16 cannot hold its integers; OpenVINO keeps them integers
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not cpu_has_bf16():
        return False
    families = [family for family in FAMILIES.values() if family.includes(network)]
    return any(family.gains_by_bf16_on_cpu or engine == "openvino" for family in families)


def cpu_has_bf16() -> bool:
    """Return whether the CPU has units for bf16 products; False where PyTorch is too old to report it."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
