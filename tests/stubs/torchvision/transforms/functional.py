"""The three names, each of which fails where it is used."""

from __future__ import annotations

from enum import Enum
from typing import Any, NoReturn


class InterpolationMode(Enum):
    NEAREST = "nearest"
    BILINEAR = "bilinear"


def rotate(*_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError("a stand-in for torchvision")


def normalize(*_: Any, **__: Any) -> NoReturn:
    raise NotImplementedError("a stand-in for torchvision")
