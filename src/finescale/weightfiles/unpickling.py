"""Restricted unpickler for files of ``torch.save``: tensors, plain containers and numbers, and no code of the file.

Every name in a pickle is looked up in tables of ours. What a pickle can make us allocate is bounded by the size of its
file: lengths are checked before they are read, and whatever copies what it is given draws on an allowance.
"""

from __future__ import annotations

import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
"""Classes of storages, as pickles name them, and the type of their numbers."""

_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}

_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
"""Operations of pickles that put an object into a place of the unpickler's memory, which grows up to that place."""

_NUMPY_KINDS = frozenset("biuf")
"""Kinds of numbers of numpy that are read: truth values, integers and floating-point numbers."""

_MOST_CLASSES = 1000
"""Different names of classes in one pickle whose objects become records."""


class SpecialTensor:
    """A tensor that is sparse, quantized, on no device, or otherwise no plain array of numbers."""

    def __setstate__(self, state: Any) -> None:
        """Ignore what belongs to it."""


class Record:
    """An object of a class that is not known here: nothing but its attributes."""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
            raise pickle.UnpicklingError("an object with another state than named attributes")
        vars(self).update(state)


def unpickle_archive(archive: zipfile.ZipFile, *, size: int, records: tuple[str, ...] = ()) -> Any:
    """Read the object in a file of ``torch.save``.

    Args:
        archive: The file.
        size: Its bytes, by which what is made of it is bounded.
        records: Beginnings of the names of classes whose objects become a `Record`; of others, none are read.

    Raises:
        pickle.UnpicklingError: It names something that is not allowed; the message is that name and "in it".
        Exception: Many kinds, where it is damaged.
    """
    place = next(name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl")
    folder = place.removesuffix("data.pkl")
    with archive.open(place) as file:
        check_lengths(file)
    with archive.open(place) as file:
        return _Unpickler(file, lambda number: archive.read(f"{folder}data/{number}"), size, records).load()


def unpickle_legacy(file: BinaryIO, *, size: int) -> Any:
    """Read the object in a file of ``torch.save`` before PyTorch 1.6, from its start.

    Such a file is a row of pickles: a number, a version, facts of the machine, the object, the keys of its storages;
    and then, for each storage, a count of 8 bytes and its numbers.

    Args:
        file: The file.
        size: Its bytes, by which what is made of it is bounded.

    Raises:
        pickle.UnpicklingError: As for `unpickle_archive`.
        Exception: Many kinds, where it is damaged.
    """
    for _ in range(3):
        _plain(file, size)
    start = file.tell()
    shapes = _Unpickler(_checked(file), None, size, ())
    shapes.load()  # finds the types of the storages; its tensors have no numbers
    keys = _plain(file, size)
    stored = {}
    for key in keys:
        (count,) = np.frombuffer(file.read(8), "<i8")
        dtype, expected = shapes.stated[key]
        if count != expected:
            raise ValueError(f"a storage states {expected} numbers and has {count}")
        num_bytes = int(count) * dtype.itemsize
        if not 0 <= num_bytes <= size:
            raise ValueError("a storage is larger than the file")
        stored[key] = file.read(num_bytes)
    file.seek(start)
    return _Unpickler(_checked(file), stored.__getitem__, size, ()).load()


def check_lengths(file: Any) -> None:
    """Read over a pickle up to its end without making its objects.

    Raises:
        ValueError: A length passes what is there, or a place in the unpickler's memory is far beyond those before.
    """
    for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name in _PUTS and (argument is None or not 0 <= argument <= number + 1):
            raise ValueError("a pickle with places far apart")


def _checked(file: BinaryIO) -> BinaryIO:
    """The file at the same place, once the pickle that begins there has passed `check_lengths`."""
    start = file.tell()
    check_lengths(file)
    file.seek(start)
    return file


def _plain(file: BinaryIO, size: int) -> Any:
    """The next pickle of a file, which has no storages."""
    return _Unpickler(_checked(file), None, size, ()).load()


@dataclass(frozen=True)
class _Storage:
    """A stretch of memory of the file; None before it is read."""

    values: Tensor | None


class _Unpickler(pickle.Unpickler):
    """Args:
    file: At the begin of a pickle.
    read: From the number of a storage to its bytes; None makes tensors without numbers.
    size: Bytes of the whole file.
    records: As in `unpickle_archive`.
    """

    def __init__(self, file: Any, read: Callable[[str], bytes] | None, size: int, records: tuple[str, ...]) -> None:
        super().__init__(file)
        self.stated: dict[str, tuple[torch.dtype, int]] = {}
        """Type and count of the numbers of each storage, as the pickle states them."""
        self._read = read
        self._left = size
        self._records = records
        self._storages: dict[str, _Storage] = {}
        self._classes: dict[tuple[str, str], type] = {}
        self._functions: Mapping[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_tensor"): _tensor,
            ("torch._utils", "_rebuild_tensor_v3"): _tensor_of_bytes,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
            ("torch", "Size"): self._size,
            ("torch", "device"): _device,
            ("collections", "OrderedDict"): self._ordered_dict,
            ("builtins", "set"): self._set,
            ("__builtin__", "set"): self._set,
            ("_codecs", "encode"): self._encoded,
            ("numpy", "dtype"): _NumpyDtype,
            ("numpy.core.multiarray", "scalar"): _numpy_scalar,
            ("numpy._core.multiarray", "scalar"): _numpy_scalar,
            ("numpy.core.multiarray", "_reconstruct"): self._numpy_array,
            ("numpy._core.multiarray", "_reconstruct"): self._numpy_array,
            ("numpy", "ndarray"): _NumpyArray,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a class or function that the pickle names."""
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if (module, name) == ("torch.storage", "UntypedStorage"):
            return torch.uint8
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in self._functions:
            return self._functions[module, name]
        if module == "torch._utils" and name.startswith("_rebuild_") and name.endswith(_SPECIAL):
            return _special_tensor
        if module == "torch.serialization" and name == "_get_layout":
            return _device
        if f"{module}.".startswith(self._records) and self._records:
            return self._record_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} in it"[:120])

    def persistent_load(self, key: Any) -> _Storage:
        """Return the storage with a key: ("storage", dtype, number, device, count), in old files with a view of it."""
        kind, dtype, number, _, count = key[:5]
        if kind != "storage" or not isinstance(dtype, torch.dtype) or not isinstance(number, str) or any(key[5:]):
            raise pickle.UnpicklingError("a storage of unknown kind in it")
        if number not in self._storages:
            self.stated[number] = dtype, count
            values = None
            if self._read is not None:
                content = self._read(number)
                values = torch.frombuffer(bytearray(content), dtype=dtype) if content else torch.empty(0, dtype=dtype)
                if len(values) != count:
                    raise ValueError(f"a storage states {count} numbers and has {len(values)}")
            self._storages[number] = _Storage(values)
        return self._storages[number]

    def _spend(self, num_bytes: int) -> None:
        """Draw on the allowance for what is copied."""
        self._left -= num_bytes
        if self._left < 0:
            raise ValueError("it unfolds into more than the file")

    def _record_class(self, module: str, name: str) -> type:
        if len(self._classes) >= _MOST_CLASSES:
            raise pickle.UnpicklingError("too many classes in it")
        return self._classes.setdefault((module, name), type(name, (Record,), {}))

    def _size(self, sides: Any) -> torch.Size:
        self._spend(len(sides))
        return torch.Size(sides)

    def _ordered_dict(self, *items: Any) -> OrderedDict[Any, Any]:
        self._spend(sum(map(len, items)))
        return OrderedDict(*items)

    def _set(self, items: Any) -> set[Any]:
        self._spend(len(items))
        return set(items)

    def _encoded(self, text: Any, codec: Any = "latin1") -> bytes:
        """Bytes as Python 3 writes them into old pickles: a text of characters up to 255."""
        if not isinstance(text, str) or codec not in ("latin1", "latin-1"):
            raise pickle.UnpicklingError("_codecs.encode in it")
        self._spend(len(text))
        return text.encode("latin1")

    def _numpy_array(self, kind: Any, _shape: Any, _dtype: Any) -> _NumpyArray:
        if kind is not _NumpyArray:
            raise pickle.UnpicklingError("a subclass of an array in it")
        return _NumpyArray(self._spend)


_SPECIAL = ("sparse_tensor", "qtensor", "meta_tensor_no_storage", "nested_tensor", "wrapper_subclass", "device_tensor",
            "device_tensor_from_numpy", "sparse_csr_tensor", "device_tensor_from_cpu_tensor")  # fmt: skip
"""How the names of functions end that rebuild other tensors than plain ones."""


def _tensor(storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor without a storage")
    if storage.values is None:
        return torch.empty(0)
    return storage.values.as_strided(size, stride, offset)  # refuses what lies outside of the storage


def _tensor_of_bytes(
    storage: _Storage, offset: int, size: tuple[int, ...], stride: tuple[int, ...], _grad: Any, _hooks: Any, dtype: Any,
    *_: Any,
) -> Tensor:  # fmt: skip
    """A tensor of a type that has no storages of its own, such as those of eight bits."""
    if not isinstance(dtype, torch.dtype):
        raise ValueError("a tensor of unknown type")
    values = storage.values
    return _tensor(_Storage(None if values is None else values.view(dtype)), offset, size, stride)


def _parameter(values: Any, *_: Any) -> Any:
    return values


def _special_tensor(*_: Any) -> SpecialTensor:
    return SpecialTensor()


def _device(*parts: Any) -> str:
    """A device's or layout's name, which decides nothing."""
    return ":".join(map(str, parts))[:100]


class _NumpyDtype:
    """A type of numbers as numpy pickles it: ``dtype("f8", ...)`` and a state that has the order of bytes."""

    def __init__(self, name: Any, *_: Any) -> None:
        if not isinstance(name, str) or len(name) > 4 or name[:1] not in _NUMPY_KINDS:
            raise pickle.UnpicklingError("a type of numpy besides numbers in it")
        self._name = name
        self._order = "<"

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise ValueError("damaged type of numpy")
        self._order = state[1]

    def dtype(self) -> np.dtype[Any]:
        """Return the type."""
        return np.dtype(self._order.replace("|", "=") + self._name)


def _numpy_scalar(kind: Any, content: Any) -> float | int | bool:
    """A number of numpy as one of Python."""
    if not isinstance(kind, _NumpyDtype) or not isinstance(content, bytes):
        raise pickle.UnpicklingError("a value of numpy besides numbers in it")
    number: float | int | bool = np.frombuffer(content, kind.dtype(), count=1)[0].item()
    return number


class _NumpyArray:
    """An array of numpy while its pickle is read; its state has shape, type and bytes."""

    def __init__(self, spend: Callable[[int], None]) -> None:
        self._spend = spend
        self.tensor: Tensor | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, kind, is_fortran, content = state
        if not isinstance(kind, _NumpyDtype) or not isinstance(content, bytes):
            raise pickle.UnpicklingError("an array of numpy besides numbers in it")
        self._spend(len(content))
        array = np.frombuffer(content, kind.dtype()).reshape(shape, order="F" if is_fortran else "C")
        self.tensor = torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C"))


def plain_values(content: Any) -> Any:
    """Return what was read, with arrays of numpy, at the top and in dictionaries, as tensors."""
    if isinstance(content, _NumpyArray):
        return content.tensor
    if isinstance(content, dict):
        return {key: plain_values(value) for key, value in content.items()}
    return content
