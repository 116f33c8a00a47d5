"""Weight files: from a name or a file to the network that it holds, and back."""

from finescale.weights.conversion import Conversion, convert
from finescale.weights.loading import Inspection, Loaded, inspect, load, load_by_spandrel, load_named, move
from finescale.weights.names import AUTO, BUNDLED, CLEAN, PHOTO, bundled, fetch, find, for_photos
from finescale.weights.saving import save

__all__ = [
    "AUTO",
    "BUNDLED",
    "CLEAN",
    "PHOTO",
    "Conversion",
    "Inspection",
    "Loaded",
    "bundled",
    "convert",
    "fetch",
    "find",
    "for_photos",
    "inspect",
    "load",
    "load_by_spandrel",
    "load_named",
    "move",
    "save",
]
