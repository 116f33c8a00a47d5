"""Reading and writing the tensors of a weight file, whatever network they belong to.

Formats, wrappers and prefixes are dealt with here, so that callers see published keys and tensors.

The content of a file decides what it is, never its name, and nothing in it is executed. Errors do not name the file:
the caller does, by `finescale.weightfiles.messages.naming`.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from finescale.errors import UnsafeWeightsError, WeightsError, WeightsMismatchError
from finescale.system.files import whole_file
from finescale.system.memory import free_host_memory
from finescale.system.search import kind_of_entry
from finescale.weightfiles.messages import first_words, quoted
from finescale.weightfiles.unpickling import SpecialTensor, plain_values, unpickle_archive, unpickle_legacy

WRAPPERS = (
    "params_ema", "params-ema", "ema_model", "ema", "params", "state_dict", "model_state_dict", "model",
    "net_g", "generator", "network", "weights", "g",
)  # fmt: skip
"""Keys under which training frameworks store a state dict, the preferred first; one may lie in another."""

COUNTERS = ("total_ops", "total_params", "n_averaged", "step")
"""Last parts of keys that tools put among the weights, and that are no weights."""

INDEX_SUFFIX = ".index.json"
"""Ending of the name of a file that lists the shards of a state dict."""

PREFIXES = ("module.", "net_g.", "netG.", "_orig_mod.")
"""What training frameworks put before every key."""

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredTensors:
    """The tensors of a weight file as they are stored, and the format, wrapper and header around them."""

    format: str
    """ "safetensors", "safetensors index", "torch" (a zip archive), "torch (legacy)" or "torch (pickled network)"."""
    wrapper: str | None
    """The key that the state dict was found under, or several, such as "model/params"; None where it was bare."""
    prefix: str
    """What was taken off every key; may be empty."""
    header: Mapping[str, str]
    """The texts in a safetensors header; empty for other formats."""
    tensors: Mapping[str, Tensor]
    """Published keys to tensors."""
    notes: tuple[str, ...] = ()
    """What was left out, one sentence each."""


# ---- reading


def read_tensors(path: Path) -> StoredTensors:
    """Read the tensors of a weight file by restricted means that run no code.

    Raises:
        WeightsError: The file is missing, empty, damaged, not a weight file, or carries no plain state dict.
        UnsafeWeightsError: It contains code; none of it was run.
    """
    header: Mapping[str, str] = {}
    try:
        kind = kind_of_entry(path)
        if kind not in (None, "a folder"):  # a folder, the system refuses itself
            raise WeightsError(f"is {kind}; give a .safetensors or .pth file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            format_ = _format(file.read(512), path.name)
            file.seek(0)
            if format_ == "safetensors index":
                content, size = _read_shards(path)
            elif format_ == "safetensors":
                _refuse_larger_than_memory(size)
                content, header = _read_safetensors(path)
            else:
                _refuse_larger_than_memory(size)
                content = _read_archive(file) if format_ == "torch" else _read_legacy(file)
    except OSError as error:
        raise WeightsError(f"cannot be read ({error.strerror or error})") from None
    wrapper, state = _unwrap(content)
    tensors, notes = _without_counters(state)
    _check(tensors)
    refuse_more_than(size, tensors)
    prefix, tensors = _without_prefix(tensors)
    return StoredTensors(format=format_, wrapper=wrapper, prefix=prefix, header=header, tensors=tensors, notes=notes)


_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number that opens files of PyTorch < 1.6


def _format(start: bytes, name: str) -> str:
    """The format that a file's first bytes announce, as in `StoredTensors`."""
    if not start:
        raise WeightsError("the file is empty; fetch it again")
    if start.startswith(b"PK\x03\x04"):
        return "torch"
    if name.endswith(INDEX_SUFFIX):
        return "safetensors index"
    if start[8:9] == b"{":
        return "safetensors"
    if start.startswith(_LEGACY_START):
        return "torch (legacy)"
    if start.startswith(b"\x80"):
        raise UnsafeWeightsError("a plain pickle, which contains code, not only weights; it was not loaded")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError("a git-lfs pointer instead of the weights; fetch the file with 'git lfs pull'")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise WeightsError("a web page saved in place of the weights; download the file itself")
    raise WeightsError("not a weight file; known are .safetensors and the .pth of PyTorch")


def _read_safetensors(path: Path) -> tuple[Any, Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(sorted((file.metadata() or {}).items()))
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"truncated or damaged ({first_words(error)})") from None


def _read_shards(path: Path) -> tuple[dict[str, Tensor], int]:
    """The tensors of all shards that an index lists, and the bytes of their files."""
    try:
        index = json.loads(path.read_bytes())
        names = sorted(set(index["weight_map"].values()))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise WeightsError("not an index of shards; use the index beside its shards, or a .safetensors file") from None
    if not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise WeightsError("an index of shards in other folders; the shards must lie beside it")
    shards = [path.with_name(name) for name in names]
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise WeightsError(f"{len(missing)} of {len(shards)} shards are missing (first: {quoted(missing[0])})")
    size = sum(shard.stat().st_size for shard in shards)
    _refuse_larger_than_memory(size)
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= _read_safetensors(shard)[0]
    if tensors.keys() != index["weight_map"].keys():
        raise WeightsError("its shards do not have the tensors that it lists")
    return tensors, size


def _refuse_larger_than_memory(size: int) -> None:
    """Refuse a file that would not fit into memory, such as a sparse one that takes no room on its disk."""
    free = free_host_memory()
    if free is not None and size > free:
        raise WeightsError(f"{size / 2**30:.1f} GiB do not fit into the {free / 2**30:.1f} GiB of free memory")


def _read_archive(file: BinaryIO) -> Any:
    """The content of a file of ``torch.save``."""
    check_archive(file)
    with _restricted(), zipfile.ZipFile(file) as archive:
        return plain_values(unpickle_archive(archive, size=os.fstat(file.fileno()).st_size))


_FOLDER = 0x10  # of the attributes of a record in a zip archive, as MS-DOS has them


def check_archive(file: BinaryIO) -> None:
    """Check a file of ``torch.save`` beyond what PyTorch does: checksums, and that it does not unfold into more bytes.

    Raises:
        WeightsError: It is damaged, or was not written by ``torch.save``.
        UnsafeWeightsError: It is a TorchScript program.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            records = archive.infolist()
            names = {record.filename.rpartition("/")[2] for record in records}
            if "constants.pkl" in names:
                raise UnsafeWeightsError("a TorchScript program, which contains code, not only weights")
            if "data.pkl" not in names:
                raise WeightsError("a zip archive that torch.save did not write; unpack it and give what is in it")
            stored = sum(record.file_size for record in records)
            if stored > os.fstat(file.fileno()).st_size or any(record.compress_type for record in records):
                raise WeightsError("a zip archive that unfolds into more than the file; save it with torch.save")
            if any(record.external_attr & _FOLDER for record in records):
                # PyTorch reads nothing of such a record, and its tensor has whatever was in memory.
                raise WeightsError("damaged (a record is marked as a folder)")
            damaged = archive.testzip()
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, struct.error) as error:
        raise WeightsError(f"truncated or damaged ({first_words(error)})") from None
    if damaged:
        raise WeightsError(f"damaged (the checksum of {quoted(damaged)} is wrong)")


def _read_legacy(file: BinaryIO) -> Any:
    """The content of a file of ``torch.save`` before PyTorch 1.6."""
    with _restricted():
        return plain_values(unpickle_legacy(file, size=os.fstat(file.fileno()).st_size))


@contextmanager
def _restricted() -> Iterator[None]:
    """Turn all that a pickle with wrong bytes can lead its reader into, into errors of the file."""
    try:
        yield
    except pickle.UnpicklingError as error:
        if not str(error).endswith(" in it"):
            raise WeightsError(f"truncated or damaged ({first_words(error)})") from None
        named = str(error).removesuffix(" in it")
        raise UnsafeWeightsError(f"contains code, not only weights ({named}); it was not loaded") from None
    except (
        zipfile.BadZipFile, RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, EOFError,
        OverflowError, MemoryError, NotImplementedError, struct.error,
    ) as error:  # fmt: skip
        raise WeightsError(f"truncated or damaged ({first_words(error) or type(error).__name__})") from None


def _unwrap(content: Any) -> tuple[str | None, Mapping[str, Any]]:
    """The state dict in a file's content, and the keys it was under."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"not a state dict but a {type(content).__name__}; save network.state_dict()")
    names, state = _innermost(content)
    if not state:
        raise WeightsError("no weights in it; the state dict is empty")
    for key in state:
        if not isinstance(key, str):
            raise WeightsError(f"not a state dict; its keys are of type {type(key).__name__}, not names")
    if not _holds_tensors(state):
        keys = ", ".join(quoted(key) for key in list(state)[:8])
        raise WeightsError(
            f"no network in it; its keys are {keys}, a state dict is sought under params_ema, params, state_dict "
            "and the like"
        )
    return "/".join(names) or None, state


def _innermost(content: Mapping[Any, Any]) -> tuple[tuple[str, ...], Mapping[Any, Any]]:
    """The state dict within wrappers, of which one may lie in another, and the names of the wrappers."""
    wrapped = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    for key in wrapped:
        names, state = _innermost(content[key])
        if _holds_tensors(state):
            return (key, *names), state
    return ((wrapped[0],), content[wrapped[0]]) if wrapped else ((), content)


def _holds_tensors(state: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor | SpecialTensor) for value in state.values())


def _without_counters(state: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A state dict without counters of tools, and a note of what they are."""
    counters = [key for key in state if key.rpartition(".")[2] in COUNTERS]
    if not counters or len(counters) == len(state):
        return dict(state), ()
    kept = {key: value for key, value in state.items() if key not in set(counters)}
    return kept, (
        f"left out {len(counters)} of its keys, which are counters, not weights (first: {quoted(counters[0])})",
    )


def _check(state: Mapping[str, Any]) -> None:
    """Refuse what is no plain tensor of some values."""
    for key, value in state.items():
        if isinstance(value, SpecialTensor):
            raise WeightsError(f"{quoted(key)} is a sparse, quantized or otherwise special tensor, not a plain one")
        if not isinstance(value, Tensor):
            raise WeightsError(f"not a state dict; {quoted(key)} is a {type(value).__name__}, not a tensor")
        if not value.numel():
            raise WeightsError(f"{quoted(key)} of shape {tuple(value.shape)} has no values")


def _without_prefix(tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The state dict without the prefixes that all its keys carry, and those prefixes."""
    taken = ""
    while common := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in tensors)), None):
        tensors = {key.removeprefix(common): tensor for key, tensor in tensors.items()}
        taken += common
    return taken, tensors


# ---- what the tensors of a usable file are


def refuse_more_than(size: int, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that repeat a few stored values, and would become larger than the file when they are copied.

    Args:
        size: Bytes of the file.
        tensors: What was read from it.

    Raises:
        WeightsError: They have more bytes than the file.
    """
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if held > size:
        raise WeightsError(f"damaged: its tensors claim {held} bytes, but the file has {size}")


def as_float32(key: str, tensor: Tensor) -> Tensor:
    """A tensor in float32.

    Raises:
        WeightsError: It is stored as integers, or has NaN or infinity.
    """
    refuse_integers(key, tensor)
    tensor = tensor.float()
    if not tensor.isfinite().all():
        raise WeightsError(f"{quoted(key)} contains NaN or infinity; the file is damaged or its training failed")
    return tensor


def refuse_integers(key: str, tensor: Tensor) -> None:
    """Refuse a tensor that is not of floating-point numbers.

    Raises:
        WeightsError: It is not.
    """
    if tensor.dtype not in _FLOATS:
        raise WeightsError(
            f"{quoted(key)} is stored as {dtype_name(tensor.dtype)}, not as floating-point weights; "
            "give the file before its quantization"
        )


def refuse_absurd_numbering(tensors: Mapping[str, Tensor]) -> None:
    """Refuse a layer's number beyond the count of tensors, which would have us build layers that the file lacks.

    Raises:
        WeightsMismatchError: A key has such a number.
    """
    for key in tensors:
        if any(len(digits) > 9 or int(digits) > len(tensors) for digits in re.findall(r"\d+", key)):
            raise WeightsMismatchError(
                f"the key {quoted(key)} counts more layers than its {len(tensors)} tensors can make"
            )


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32"."""
    return str(dtype).removeprefix("torch.")


# ---- writing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors of float32, integers and bools as safetensors; the file appears under its name when it is whole.

    Raises:
        WeightsError: The file cannot be written.
    """
    try:
        with whole_file(path) as file:
            file.write(_serialise(tensors, header))
    except OSError as error:
        raise WeightsError(f"cannot be written ({error.strerror})") from None


def write_archive(path: Path, tensors: Mapping[str, Tensor], *, key: str | None) -> None:
    """Write tensors as ``torch.save`` does; the file appears under its name when it is whole.

    Args:
        path: An existing file is replaced.
        tensors: A state dict.
        key: The wrapper that it is put under; None leaves it bare.

    Raises:
        WeightsError: The file cannot be written.
    """
    state = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}  # a view would take all it is of
    content = io.BytesIO()
    torch.save(state if key is None else {key: state}, content)
    try:
        with whole_file(path) as file:
            file.write(content.getbuffer())
    except OSError as error:
        raise WeightsError(f"cannot be written ({error.strerror})") from None


_STORED = {
    torch.float32: ("F32", "<f4"),
    torch.int64: ("I64", "<i8"),
    torch.int32: ("I32", "<i4"),
    torch.int16: ("I16", "<i2"),
    torch.int8: ("I8", "i1"),
    torch.uint8: ("U8", "u1"),
    torch.bool: ("BOOL", "?"),
}


def _serialise(tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """Tensors in the safetensors format; its own library orders the header differently in every process."""
    entries: dict[str, Any] = {"__metadata__": dict(header)}
    data = []
    end = 0
    for key, tensor in tensors.items():
        name, stored = _STORED[torch.float32 if tensor.is_floating_point() else tensor.dtype]
        start, end = end, end + tensor.nbytes
        entries[key] = {"dtype": name, "shape": list(tensor.shape), "data_offsets": [start, end]}
        data.append(tensor.contiguous().numpy().astype(stored).tobytes())
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *data])
