"""A quantized network to try things on, calibrated in a moment."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from finescale.networks import Frame
from finescale.quantize import QuantSettings, insert_quantizers
from finescale.quantize.calibrate import calibrate


def quantize(network: Frame, family: Any, images: Tensor, *, bits: int) -> None:
    """Put quantizers into a network, whose ranges are those seen on images (N, 3, H, W)."""
    placement, settings = family.quantization.placement(network.settings), QuantSettings(bits=bits, method="minmax")
    insert_quantizers(network, placement, settings)
    calibrate(network, [images], placement, settings)
