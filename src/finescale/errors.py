"""Every exception that finescale raises on purpose.

Arguments that a caller got wrong raise the built-in ``ValueError``; what the world got wrong (files, settings files,
devices) raises one of these. Each message is one sentence that names the thing, its value and the remedy.

FinescaleError
├── ImageError               a picture cannot be used
│   ├── ImageReadError       ... not an image, damaged, truncated, or too large to be opened safely
│   └── ImageWriteError      ... the result cannot be stored as asked
├── WeightsError             a weight file cannot be used
│   ├── UnsafeWeightsError   ... it carries code or objects besides tensors
│   ├── UnknownNetworkError  ... no known family has its keys
│   └── WeightsMismatchError ... its tensors do not fit the network that its keys announce
├── DownloadError            a published weight file cannot be fetched, or is no longer what was fetched
├── SettingsError            a settings file or an override has unknown or wrong values
├── DataError                a folder of images cannot serve as training or test data
├── CheckpointError          a training cannot be resumed from what was found
├── DeviceError              a device is missing or too small for even the smallest tile
├── NumericalError           a network's answer is not finite
└── MissingExtraError        an optional dependency is not installed
"""

from __future__ import annotations

from pathlib import Path


class FinescaleError(Exception):
    """The base of all errors below; its text is one sentence for a person."""


class ImageError(FinescaleError):
    """A picture cannot be used."""


class ImageReadError(ImageError):
    """The file is not an image, is damaged or truncated, or is too large to be opened safely."""


class ImageWriteError(ImageError):
    """The result cannot be stored as asked."""


class WeightsError(FinescaleError):
    """A weight file cannot be used."""


class UnsafeWeightsError(WeightsError):
    """The file carries code or objects besides tensors; it was not loaded."""


class UnknownNetworkError(WeightsError):
    """No known family has the keys of this file."""


class WeightsMismatchError(WeightsError):
    """The tensors do not fit the network that their keys, or the name that was asked for, announce."""


class DownloadError(FinescaleError):
    """A published weight file cannot be fetched, or is no longer what was fetched."""


class SettingsError(FinescaleError):
    """A settings file or an override has unknown keys or wrong values; all of them are listed."""


class DataError(FinescaleError):
    """A folder of images cannot serve as training or test data."""


class CheckpointError(FinescaleError):
    """A training cannot be resumed from what was found."""


class DeviceError(FinescaleError):
    """A device is missing, or too small for even the smallest tile."""


class NumericalError(FinescaleError):
    """A network's answer is not finite."""


class MissingExtraError(FinescaleError):
    """An optional dependency is not installed; the message has the install line."""


def printable_name(path: Path | str) -> str:
    """A path as one line for a person: control characters, turns of direction and broken bytes are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(path))
