"""A file's tensors, whatever network they belong to: formats and wrappers end here.

What a file is, its content says, never its name. Nothing in a file is executed.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import struct
import textwrap
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from finescale.errors import UnsafeWeightsError, WeightsError, WeightsMismatchError
from finescale.system.files import whole_file

WRAPPERS = ("params_ema", "params-ema", "params", "state_dict", "model_state_dict", "model")
"""Keys under which training frameworks store a state dict, the preferred first."""

PREFIXES = ("module.", "net_g.", "netG.", "_orig_mod.")
"""What training frameworks put before every key."""

_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


@dataclass(frozen=True, eq=False, kw_only=True)
class RawState:
    """A weight file's tensors, before anything is known about their network."""

    format: str
    """ "safetensors", "torch" (a zip archive) or "torch (legacy)"."""
    wrapper: str | None
    """The key that the state dict was found under; None where it was bare."""
    prefix: str
    """What was taken off every key; may be empty."""
    header: Mapping[str, str]
    """The texts in a safetensors header; empty for other formats."""
    state: Mapping[str, Tensor]
    """Published keys to tensors, as they were stored."""


# ---- reading


def read_state(path: Path | str) -> RawState:
    """Read a file's tensors by restricted means that run no code, whatever network they belong to.

    Raises:
        WeightsError: The file is missing, empty, damaged, not a weight file, or carries no plain state dict.
        UnsafeWeightsError: It contains code; none of it was run.
    """
    path = Path(path)
    header: Mapping[str, str] = {}
    try:
        with path.open("rb") as file:
            start = file.read(512)
        kind = _format(path, start)
        if kind == "safetensors":
            content, header = _read_safetensors(path)
        else:
            content = _read_archive(path) if kind == "torch" else _read_legacy(path)
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror or error})") from None
    wrapper, state = _unwrap(path, content)
    held = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if held > size:
        raise WeightsError(f"{path}: damaged: its tensors claim {held} bytes, but the file has {size}")
    prefix, state = _without_prefix(state)
    return RawState(format=kind, wrapper=wrapper, prefix=prefix, header=header, state=state)


_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number that opens files of PyTorch < 1.6


def _format(path: Path, start: bytes) -> str:
    """The format that a file's first bytes announce; see `RawState`."""
    if not start:
        raise WeightsError(f"{path}: the file is empty; fetch it again")
    if start.startswith(b"PK\x03\x04"):
        return "torch"
    if start[8:9] == b"{":
        return "safetensors"
    if start.startswith(_LEGACY_START):
        return "torch (legacy)"
    if start.startswith(b"\x80"):
        raise UnsafeWeightsError(f"{path}: a plain pickle, which contains code, not only weights; it was not loaded")
    if start.startswith(b"version https://git-lfs"):
        raise WeightsError(f"{path}: a git-lfs pointer instead of the weights; fetch the file with 'git lfs pull'")
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise WeightsError(f"{path}: a web page saved in place of the weights; download the file itself")
    raise WeightsError(f"{path}: not a weight file; known are .safetensors and the .pth of PyTorch")


def _read_safetensors(path: Path) -> tuple[Any, Mapping[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(sorted((file.metadata() or {}).items()))
            return {key: file.get_tensor(key) for key in file.keys()}, header  # noqa: SIM118
    except SafetensorError as error:
        raise WeightsError(f"{path}: truncated or damaged ({first_words(error)})") from None


def _read_archive(path: Path) -> Any:
    """The content of a file of ``torch.save``."""
    check_archive(path)
    with path.open("rb") as file:
        return _unpickle(path, file)


def check_archive(path: Path) -> None:
    """Check what PyTorch does not of a file of ``torch.save``: checksums, and that it unfolds into no more than it is.

    Raises:
        WeightsError: It is damaged, or was not written by ``torch.save``.
        UnsafeWeightsError: It is a TorchScript program.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            names = {record.filename.rpartition("/")[2] for record in records}
            if "constants.pkl" in names:
                raise UnsafeWeightsError(f"{path}: a TorchScript program, which contains code, not only weights")
            if "data.pkl" not in names:
                raise WeightsError(
                    f"{path}: a zip archive that torch.save did not write; unpack it and give what is in it"
                )
            stored = sum(record.file_size for record in records)
            if stored > path.stat().st_size or any(record.compress_type for record in records):
                raise WeightsError(
                    f"{path}: a zip archive that unfolds into more than the file; save it with torch.save"
                )
            damaged = archive.testzip()
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, struct.error) as error:
        raise WeightsError(f"{path}: truncated or damaged ({first_words(error)})") from None
    if damaged:
        raise WeightsError(f"{path}: damaged (the checksum of {quoted(damaged)} is wrong)")


def _read_legacy(path: Path) -> Any:
    """The content of a file of ``torch.save`` before PyTorch 1.6; from memory, where no file can be taken for a tar."""
    return _unpickle(path, io.BytesIO(path.read_bytes()))


def _unpickle(path: Path, file: Any) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickle protocols; whether they can be read is told by the outcome
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported operand" in str(error):
            raise WeightsError(f"{path}: damaged, or not written by torch.save; fetch it again") from None
        code = re.search(r"GLOBAL (\S+)", str(error))
        named = f" ({code[1][:80]})" if code else ""
        raise UnsafeWeightsError(f"{path}: contains code, not only weights{named}; it was not loaded") from None
    except (
        # All that a pickle with wrong bytes can lead PyTorch's unpickler into.
        RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, EOFError, OverflowError,
        MemoryError, struct.error,
    ) as error:  # fmt: skip
        raise WeightsError(f"{path}: truncated or damaged ({first_words(error) or type(error).__name__})") from None


def _unwrap(path: Path, content: Any) -> tuple[str | None, dict[str, Tensor]]:
    """The state dict in a file's content, and the key it was under."""
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: not a state dict but a {type(content).__name__}; save network.state_dict()")
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
    state = content[wrapper] if wrapper else content
    if not state:
        raise WeightsError(f"{path}: no weights in it; the state dict is empty")
    for key in state:
        if not isinstance(key, str):
            raise WeightsError(f"{path}: not a state dict; its keys are of type {type(key).__name__}, not names")
    if not any(isinstance(value, Tensor) for value in state.values()):
        keys = ", ".join(quoted(key) for key in list(state)[:8])
        raise WeightsError(
            f"{path}: no network in it; its keys are {keys}, a state dict is sought under {WRAPPERS[0]}, "
            f"{WRAPPERS[2]}, {WRAPPERS[3]} and the like"
        )
    for key, value in state.items():
        if not isinstance(value, Tensor):
            raise WeightsError(f"{path}: not a state dict; {quoted(key)} is a {type(value).__name__}, not a tensor")
        if value.layout != torch.strided or value.is_quantized or value.is_meta or value.is_nested:
            raise WeightsError(
                f"{path}: {quoted(key)} is a sparse, quantized or otherwise special tensor, not a plain one"
            )
        if not value.numel():
            raise WeightsError(f"{path}: {quoted(key)} of shape {tuple(value.shape)} has no values")
    return wrapper, {key: value.detach() for key, value in state.items()}


def _without_prefix(state: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """The state dict without the prefixes that all its keys carry, and those prefixes."""
    taken = ""
    while common := next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in state)), None):
        state = {key.removeprefix(common): tensor for key, tensor in state.items()}
        taken += common
    return taken, state


def quoted(key: str) -> str:
    """A key as a message shows it: printable, and no longer than a line."""
    return repr(key if len(key) <= 160 else key[:157] + "...")


def first_words(error: Exception) -> str:
    """The first words of another library's message."""
    return textwrap.shorten(str(error).partition("\n")[0], 140, placeholder=" ...")


def name_of(dtype: torch.dtype) -> str:
    """ "float32"."""
    return str(dtype).removeprefix("torch.")


# ---- what the tensors of a usable file are


def as_float32(path: Path, key: str, tensor: Tensor) -> Tensor:
    """A tensor in float32.

    Raises:
        WeightsError: It is stored as integers, or has NaN or infinity.
    """
    refuse_integers(path, key, tensor)
    tensor = tensor.float()
    if not tensor.isfinite().all():
        raise WeightsError(
            f"{path}: {quoted(key)} contains NaN or infinity; the file is damaged or its training failed"
        )
    return tensor


def refuse_integers(path: Path, key: str, tensor: Tensor) -> None:
    """Refuse a tensor that is not of floating-point numbers.

    Raises:
        WeightsError: It is not.
    """
    if tensor.dtype not in _FLOATS:
        raise WeightsError(
            f"{path}: {quoted(key)} is stored as {name_of(tensor.dtype)}, not as floating-point weights; "
            "give the file before its quantization"
        )


def refuse_absurd_numbering(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse a layer's number beyond the count of tensors, which would have us build layers that the file lacks.

    Raises:
        WeightsMismatchError: A key has such a number.
    """
    for key in state:
        if any(len(digits) > 9 or int(digits) > len(state) for digits in re.findall(r"\d+", key)):
            raise WeightsMismatchError(
                f"{path}: the key {quoted(key)} counts more layers than its {len(state)} tensors can make"
            )


# ---- writing


def write_state(path: Path, state: Mapping[str, Tensor], header: Mapping[str, str]) -> None:
    """Write tensors of float32, int64 and bytes as safetensors; the file appears under its name when it is whole.

    Raises:
        WeightsError: The file cannot be written.
    """
    try:
        with whole_file(path) as file:
            file.write(_serialise(state, header))
    except OSError as error:
        raise WeightsError(f"{path}: cannot be written ({error.strerror})") from None


_STORED = {torch.float32: ("F32", "<f4"), torch.int64: ("I64", "<i8"), torch.uint8: ("U8", "u1")}


def _serialise(state: Mapping[str, Tensor], header: Mapping[str, str]) -> bytes:
    """Tensors in the safetensors format; its own library orders the header anew in every process."""
    entries: dict[str, Any] = {"__metadata__": dict(header)}
    data = []
    end = 0
    for key, tensor in state.items():
        name, stored = _STORED[torch.float32 if tensor.is_floating_point() else tensor.dtype]
        start, end = end, end + tensor.nbytes
        entries[key] = {"dtype": name, "shape": list(tensor.shape), "data_offsets": [start, end]}
        data.append(tensor.contiguous().numpy().astype(stored).tobytes())
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *data])
