"""Engines that compute a network (PyTorch, PyTorch's compiler, OpenVINO), and the choice of the precision."""

from finescale.engines.choice import EngineChoice, choose_engine
from finescale.engines.engine import Engine, EngineName, build_engine, check_engine
from finescale.engines.precision import DTYPES, Precision, check_precision, choose_precision
from finescale.engines.pytorch import PyTorchEngine

__all__ = [
    "DTYPES",
    "Engine",
    "EngineChoice",
    "EngineName",
    "Precision",
    "PyTorchEngine",
    "build_engine",
    "check_engine",
    "check_precision",
    "choose_engine",
    "choose_precision",
]
