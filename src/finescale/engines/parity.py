"""Comparison of another runtime's results with those of the network in PyTorch."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from finescale.errors import NumericalError
from finescale.networks import Frame, WrappedNetwork
from finescale.quantize import is_quantized, switched_off

TOLERANCE = 1e-4
"""Largest difference allowed in float32, relative to the network's largest value where that is above 1."""

INTEGER_TOLERANCE = 2.0
"""Root mean square difference allowed for a quantized network, as a multiple of what its quantization changes: numbers
midway between two integers may be rounded to either."""


@dataclass(frozen=True)
class Parity:
    """Agreement of another runtime with the network."""

    largest: float
    """The largest difference; images are in [0, 1]."""
    psnr: float
    """PSNR in dB between the two results; infinite where they are equal."""


def check_parity(
    network: Frame | WrappedNetwork,
    found: Tensor,
    images: Tensor,
    *,
    by: str,
    remedy: str,
    tolerance: float | None = None,
) -> Parity:
    """Compare another runtime's result in float32, or in integers, with the network's.

    Args:
        network: In evaluation mode.
        found: The other runtime's result.
        images: The input, (N, C, H, W).
        by: Name of the runtime, for the message.
        remedy: What to do where the results differ, for the message.
        tolerance: In place of `TOLERANCE`, for weights that were rounded.

    Raises:
        NumericalError: The results differ too much.
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
        error = largest
        allowed = (TOLERANCE if tolerance is None else tolerance) * max(1.0, float(expected.abs().max()))
    if not error <= allowed:
        raise NumericalError(f"{by} differs from the network by {error:.1e}, more than {allowed:.1e}; {remedy}")
    return Parity(largest=largest, psnr=-20 * math.log10(root) if root else math.inf)


def _rms(difference: Tensor) -> float:
    return float(difference.square().mean().sqrt())


def _answer(network: Frame | WrappedNetwork, images: Tensor) -> Tensor:
    with torch.inference_mode():
        answer: Tensor = network(images)
    return answer


def _unquantized(network: Frame | WrappedNetwork, images: Tensor) -> Tensor:
    """The result of a quantized network with its quantizers off."""
    copied = copy.deepcopy(network)  # other threads may be using it
    with switched_off(copied):
        return _answer(copied, images)
