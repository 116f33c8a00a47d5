"""Reader of whole pickled networks: their parameters and plain attributes, without running any class of the file.

Such a file names classes, and ordinary unpickling runs their code. Here tensors are built by our own functions, a few
plain containers are allowed, and every other object becomes an inert record of its attributes. Errors do not name the
file: the caller does, by `finescale.weightfiles.messages.naming`.
"""

from __future__ import annotations

import math
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finescale.errors import UnsafeWeightsError, WeightsError
from finescale.weightfiles.messages import first_words
from finescale.weightfiles.tensors import check_archive, refuse_more_than

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}

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


class Record:
    """An object of a class that is not known here: nothing but its attributes."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError("an object with another state than named attributes")
        vars(self).update(state)


def is_pickled_network(path: Path, *, of_class: str) -> bool:
    """Whether a file is a pickled network of a class, given as "package.module.Class", judged by its first bytes."""
    module, _, name = of_class.rpartition(".")
    start = b"".join((b"\x80\x02c", module.encode(), b"\n", name.encode(), b"\n"))
    if not zipfile.is_zipfile(path):
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
            with zipfile.ZipFile(file) as archive:
                pickled = next(one for one in archive.namelist() if one.rpartition("/")[2] == "data.pkl")
                with archive.open(pickled) as content:
                    network = _Reader(content, archive, pickled.removesuffix("data.pkl")).load()
            size = os.fstat(file.fileno()).st_size
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


@dataclass(frozen=True)
class _Storage:
    """A stretch of memory of the file."""

    values: Tensor


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self._archive = archive
        self._folder = folder
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a class or function that the file names."""
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if f"{module}.".startswith(_RECORDS):
            return type(name, (Record,), {})
        raise pickle.UnpicklingError(f"{module}.{name} in it"[:120])

    def persistent_load(self, key: Any) -> _Storage:
        """The storage with a key, ("storage", dtype, number, device, count)."""
        kind, dtype, number, _, count = key
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(number, str):
            raise pickle.UnpicklingError("a storage of unknown kind")
        if number not in self._storages:
            content = bytearray(self._archive.read(f"{self._folder}data/{number}"))
            values = torch.frombuffer(content, dtype=dtype)
            if len(values) != count:
                raise ValueError(f"a storage states {count} numbers and has {len(values)}")
            self._storages[number] = _Storage(values)
        return self._storages[number]


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if not isinstance(storage, _Storage) or math.prod(size) > len(storage.values):
        raise ValueError("a tensor lies outside of its storage")
    return storage.values.as_strided(size, stride, offset)


def _parameter(values: Tensor, *_: Any) -> Tensor:
    return values


_ALLOWED: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch", "Size"): torch.Size,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
}


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
