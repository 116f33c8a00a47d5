"""Whether what others compute of a network is what the network computes."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from finescale.errors import NumericalError
from finescale.networks import Frame
from finescale.quantize import is_quantized, switched_off

TOLERANCE = 1e-4
"""How far another computation in float32 may be from the network, as a part of its largest value if above 1."""

INTEGER_TOLERANCE = 2.0
"""How far another computation of a quantized network may be from it (root mean square), as a multiple of what its
quantization changes; numbers midway between two integers fall to either."""


@dataclass(frozen=True)
class Parity:
    """How near another computation is to the network."""

    largest: float
    """The largest difference; images are in [0, 1]."""
    psnr: float
    """PSNR in dB of the one answer against the other; infinite where they are equal."""


def check_parity(network: Frame, found: Tensor, images: Tensor, *, by: str, remedy: str) -> Parity:
    """Compare what others computed in float32, or in integers, with what the network computes.

    Args:
        network: In evaluation mode.
        found: Their answer.
        images: What they were asked, (N, C, H, W).
        by: Who they are.
        remedy: What to do where they differ, for the message.

    Raises:
        NumericalError: They differ too much.
    """
    expected = _answer(network, images)
    difference = found - expected
    largest, root = float(difference.abs().max()), _rms(difference)
    if is_quantized(network):
        error, allowed = (
            root,
            INTEGER_TOLERANCE * _rms(expected - _unquantized(network, images)),
        )
    else:
        error, allowed = largest, TOLERANCE * max(1.0, float(expected.abs().max()))
    if not error <= allowed:
        raise NumericalError(f"{by} differs from the network by {error:.1e}, more than {allowed:.1e}; {remedy}")
    return Parity(largest=largest, psnr=-20 * math.log10(root) if root else math.inf)


def _rms(difference: Tensor) -> float:
    return float(difference.square().mean().sqrt())


def _answer(network: Frame, images: Tensor) -> Tensor:
    with torch.inference_mode():
        answer: Tensor = network(images)
    return answer


def _unquantized(network: Frame, images: Tensor) -> Tensor:
    """What a quantized network answers with its quantizers off."""
    copied = copy.deepcopy(network)  # other threads may be using it
    with switched_off(copied):
        return _answer(copied, images)
