"""Efficient transformer networks for single-image super-resolution.

The public names are listed here and loaded when first used: importing `finescale` imports neither torch nor libvips.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finescale import networks
    from finescale.errors import FinescaleError
    from finescale.images import Image, read_image, write_image
    from finescale.networks import build, register
    from finescale.upscale import Tiling, Upscaler
    from finescale.weights import Loaded, convert, load, save
    from finescale.weights.hub import HubNetwork as HubNetwork

__all__ = [
    "FinescaleError",
    "Image",
    "Loaded",
    "Tiling",
    "Upscaler",
    "build",
    "convert",
    "load",
    "networks",
    "read_image",
    "register",
    "save",
    "write_image",
]

_HOMES = {
    "FinescaleError": "errors",
    "HubNetwork": "weights.hub",  # not in __all__: without the extra "hub", a star import would fail
    "Image": "images",
    "Loaded": "weights",
    "Tiling": "upscale",
    "Upscaler": "upscale",
    "build": "networks",
    "convert": "weights",
    "load": "weights",
    "read_image": "images",
    "register": "networks",
    "save": "weights",
    "write_image": "images",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("finescale")
    if name not in __all__ and name not in _HOMES:
        raise AttributeError(f"module 'finescale' has no attribute {name!r}")
    home = import_module(f"finescale.{_HOMES.get(name, name)}")
    return home if name not in _HOMES else getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
