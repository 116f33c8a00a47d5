"""What computes a network: PyTorch as it is, PyTorch's compiler, or OpenVINO; and in which precision."""

from finescale.engines.engine import Engine, EngineName, build_engine, check_engine
from finescale.engines.precision import DTYPES, Precision, check_precision, choose_precision
from finescale.engines.pytorch import PyTorchEngine

__all__ = [
    "DTYPES",
    "Engine",
    "EngineName",
    "Precision",
    "PyTorchEngine",
    "build_engine",
    "check_engine",
    "check_precision",
    "choose_precision",
]
