"""All exceptions of finescale.

A wrong argument raises the built-in ``ValueError``; an unusable file, settings file or device raises one of these. Each
message is one sentence that names the thing, its value and the remedy.

FinescaleError
├── ImageError               an image cannot be used
│   ├── ImageReadError       ... not an image, damaged, truncated, or too large to be opened safely
│   └── ImageWriteError      ... the result cannot be stored as requested
├── WeightsError             a weight file cannot be used
│   ├── UnsafeWeightsError   ... it contains code or objects besides tensors
│   ├── UnknownNetworkError  ... its keys belong to no known family
│   └── WeightsMismatchError ... its tensors do not fit the network that its keys belong to
├── DownloadError            a published weight file cannot be downloaded, or has changed since its download
├── SettingsError            a settings file or an override has unknown or wrong values
├── DataError                a folder of images cannot be used as training or test data
├── CheckpointError          a training or a quantization cannot be resumed
├── DeviceError              a device is missing, or its memory does not suffice
├── RemoteError              a remote place such as s3://bucket/folder cannot be reached, read or written
├── NumericalError           a network's result is not finite, or differs between runtimes
└── MissingExtraError        an optional dependency is not installed
"""

from __future__ import annotations


class FinescaleError(Exception):
    """Base class of all errors of finescale; the message is one sentence for the user."""


class ImageError(FinescaleError):
    """An image cannot be used."""


class ImageReadError(ImageError):
    """A file is not an image, is damaged or truncated, or is too large to be opened safely."""


class ImageWriteError(ImageError):
    """A result cannot be stored as requested."""


class WeightsError(FinescaleError):
    """A weight file cannot be used."""


class UnsafeWeightsError(WeightsError):
    """A weight file contains code or objects besides tensors; it was not loaded."""


class UnknownNetworkError(WeightsError):
    """The keys of a weight file belong to no known family."""


class WeightsMismatchError(WeightsError):
    """The tensors of a weight file do not fit the network of their keys, or of the requested name."""


class DownloadError(FinescaleError):
    """A published weight file cannot be downloaded, or has changed since its download."""


class SettingsError(FinescaleError):
    """A settings file or an override has unknown keys or wrong values; all of them are listed."""


class DataError(FinescaleError):
    """A folder of images cannot be used as training or test data."""


class CheckpointError(FinescaleError):
    """A training or a quantization cannot be resumed from its files."""


class DeviceError(FinescaleError):
    """A device is missing, or its free memory does not suffice."""


class RemoteError(FinescaleError):
    """A remote place cannot be reached, read or written; the message holds no credentials."""


class NumericalError(FinescaleError):
    """A network's result or loss is not finite, or another runtime's result differs from it."""


class MissingExtraError(FinescaleError):
    """An optional dependency is not installed; the message includes the install command."""


def printable_name(path: object) -> str:
    """Return a path, or the URL of a remote place without credentials, as one printable line.

    Control and bidirectional characters and broken bytes are escaped.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(path))
