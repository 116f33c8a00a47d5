"""Reader of whole pickled networks: their parameters and plain attributes, without running any class of the file.

Such a file names classes, and ordinary unpickling runs their code. Here tensors are built by our own functions, a few
plain containers are allowed, and every other object becomes an inert record of its attributes. Errors do not name the
file: the caller does, by `finescale.weightfiles.messages.naming`.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from finescale.errors import UnsafeWeightsError, WeightsError
from finescale.weightfiles.messages import first_words
from finescale.weightfiles.tensors import check_archive, refuse_more_than
from finescale.weightfiles.unpickling import Record, unpickle_archive

_RECORDS = ("basicsr.", "torch.nn.modules.")
"""Beginnings of the names of classes whose objects become records."""

_MOST_MODULES = 100_000


@dataclass(frozen=True, eq=False, kw_only=True)
class PickledNetwork:
    """The content of a pickled network's file."""

    tensors: Mapping[str, Tensor]
    """Its state dict, buffers that are not saved otherwise included."""
    attributes: Mapping[str, Mapping[str, Any]]
    """Path of each module, "" of the network itself, to its attributes; objects among them have a `vars`."""


def is_pickled_network(path: Path, *, of_class: str) -> bool:
    """Whether a file is a pickled network of a class, given as "package.module.Class", judged by its first bytes."""
    module, _, name = of_class.rpartition(".")
    start = b"".join((b"\x80\x02c", module.encode(), b"\n", name.encode(), b"\n"))
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            pickled = next((one for one in archive.namelist() if one.rpartition("/")[2] == "data.pkl"), None)
            if pickled is None:
                return False
            with archive.open(pickled) as file:
                return file.read(len(start)) == start
    except (OSError, zipfile.BadZipFile, RuntimeError, ValueError, EOFError, NotImplementedError):
        return False  # whatever reads the file next reports what is wrong


def read_pickled_network(path: Path) -> PickledNetwork:
    """Read a pickled network; no code in the file is run.

    Raises:
        WeightsError: The file is damaged.
        UnsafeWeightsError: It has anything else than modules, tensors and plain values.
    """
    tensors: dict[str, Tensor] = {}
    attributes: dict[str, Mapping[str, Any]] = {}
    try:
        with path.open("rb") as file:
            check_archive(file)
            size = os.fstat(file.fileno()).st_size
            with zipfile.ZipFile(file) as archive:
                network = unpickle_archive(archive, size=size, records=_RECORDS)
        _collect(network, "", tensors, attributes)
    except pickle.UnpicklingError as error:
        raise UnsafeWeightsError(f"a pickled network with {error}; it was not loaded") from None
    except (
        # All that wrong bytes can lead the unpickler and our functions into.
        zipfile.BadZipFile, OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError,
        OverflowError, MemoryError,
    ) as error:  # fmt: skip
        raise WeightsError(f"damaged ({first_words(error) or type(error).__name__})") from None
    refuse_more_than(size, tensors)
    return PickledNetwork(tensors=tensors, attributes=attributes)


def _collect(module: Any, prefix: str, tensors: dict[str, Tensor], attributes: dict[str, Mapping[str, Any]]) -> None:
    """State dict and attributes of a module and those within it."""
    if not isinstance(module, Record) or len(attributes) >= _MOST_MODULES:
        raise pickle.UnpicklingError("something else than a module in a module's place, or too many modules")
    facts = vars(module)
    attributes[prefix.removesuffix(".")] = facts
    for group in ("_parameters", "_buffers"):
        for name, values in facts.get(group, {}).items():
            if isinstance(values, Tensor):
                tensors[f"{prefix}{name}"] = values
    for name, part in facts.get("_modules", {}).items():
        if part is not None:
            _collect(part, f"{prefix}{name}.", tensors, attributes)
