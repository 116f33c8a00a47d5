"""Weight files: from a name or a file to the network that it holds, and back."""

from finescale.weights.loading import Inspection, Loaded, inspect, load, load_named, move
from finescale.weights.names import BUNDLED, bundled, fetch, find, for_photos
from finescale.weights.saving import save

__all__ = [
    "BUNDLED",
    "Inspection",
    "Loaded",
    "bundled",
    "fetch",
    "find",
    "for_photos",
    "inspect",
    "load",
    "load_named",
    "move",
    "save",
]
