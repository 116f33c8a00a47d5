"""Which precision a network computes in, where that is left to us."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import torch
from torch import nn

from finescale.networks import FAMILIES
from finescale.quantize import is_quantized

Precision = Literal["auto", "float32", "bf16", "fp16"]

DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""Every precision by its name."""


def choose_precision(
    asked: Precision, network: nn.Module, *, device: torch.device, engine: str, offered: Collection[str]
) -> str:
    """The precision to compute in: what was asked for, or for "auto" bf16 where it is faster and safe.

    Args:
        asked: What the user said.
        network: What is computed.
        device: Where.
        engine: What computes it, see `finescale.engines.build_engine`.
        offered: What the engine can compute this network in here.

    Returns:
        "float32", "bf16" or "fp16".

    Raises:
        ValueError: There is no such precision, or it is not offered.
    """
    check_precision(asked)
    if asked == "auto":
        return "bf16" if "bf16" in offered and _gains_by_bf16(network, device, engine) else "float32"
    if asked not in offered:
        raise ValueError(f"precision must be 'auto', {', '.join(map(repr, offered))} for this network, got {asked!r}")
    return asked


def check_precision(asked: str) -> None:
    """Refuse an unknown precision, before a network is loaded for it.

    Raises:
        ValueError: There is no such precision.
    """
    if asked not in ("auto", *DTYPES):
        raise ValueError(f"precision must be 'auto', {', '.join(map(repr, DTYPES))}, got {asked!r}")


def _gains_by_bf16(network: nn.Module, device: torch.device, engine: str) -> bool:
    if is_quantized(network) and engine != "openvino":  # its integers would be blurred; there they stay integers
        return False
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type != "cpu" or not cpu_has_bf16():
        return False
    families = [family for family in FAMILIES.values() if type(network) is family.network]
    return any(family.gains_by_bf16_on_cpu or engine == "openvino" for family in families)


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 in units of its own; False where PyTorch is too old to tell."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
