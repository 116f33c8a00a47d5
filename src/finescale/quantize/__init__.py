"""Post-training quantization: any network at 2 to 8 bits, from a few images without originals."""

from finescale.quantize.choice import Compared, compare
from finescale.quantize.crops import (
    CalibrationImages,
    calibration_crops,
    calibration_images,
    calibration_pictures,
    find_patches,
)
from finescale.quantize.integers import integer_form
from finescale.quantize.measures import sensitivity
from finescale.quantize.modules import insert_quantizers, is_quantized, settings_of, switched_off
from finescale.quantize.run import REFINED, QuantizationResult, quantize_network
from finescale.quantize.settings import RECIPES, QuantSettings, recipe
from finescale.quantize.start import settings_from
from finescale.quantize.tracing import Trace, trace

__all__ = [
    "RECIPES",
    "REFINED",
    "CalibrationImages",
    "Compared",
    "QuantSettings",
    "QuantizationResult",
    "Trace",
    "calibration_crops",
    "calibration_images",
    "calibration_pictures",
    "compare",
    "find_patches",
    "insert_quantizers",
    "integer_form",
    "is_quantized",
    "quantize_network",
    "recipe",
    "sensitivity",
    "settings_from",
    "settings_of",
    "switched_off",
    "trace",
]
