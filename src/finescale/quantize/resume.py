"""The file from which an interrupted quantization resumes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from finescale.errors import CheckpointError, WeightsError, printable_name
from finescale.quantize.modules import bounds_of, quantizers, settings_of, switch
from finescale.quantize.refine import Refinement
from finescale.quantize.settings import QuantSettings
from finescale.weightfiles.messages import naming
from finescale.weightfiles.tensors import StoredTensors, read_tensors, write_tensors


def save_progress(
    path: Path, network: nn.Module, *, identity: str, fidelity: Mapping[str, float], progress: Refinement
) -> None:
    """Write the bounds of a network and the progress of its refinement; the file is whole or absent.

    Args:
        path: The file; an existing one is replaced.
        network: Calibrated.
        identity: All that decides the result; only a quantization with the same identity resumes from the file.
        fidelity: What was measured so far, see `finescale.quantize.QuantizationResult`.
        progress: Of the refinement.

    Raises:
        WeightsError: The file cannot be written.
    """
    header = {
        "identity": identity,
        "settings": settings_of(network).model_dump_json(),
        "fidelity": json.dumps(dict(fidelity)),
        "losses": json.dumps(progress.losses),
    }
    tensors = {"bounds": _joined([end for ends in bounds_of(network).values() for end in ends])}
    if progress.moments:
        tensors["moments"] = _joined(progress.moments)
    with naming(path):
        write_tensors(path, tensors, header)


def stored_settings(path: Path, *, identity: str) -> QuantSettings:
    """Return the settings of the network that `save_progress` was given.

    Raises:
        CheckpointError: The file belongs to another quantization, or is damaged.
    """
    with _reading(path):
        return QuantSettings.model_validate_json(_read(path, identity).header["settings"])


def load_progress(path: Path, network: nn.Module, *, identity: str) -> tuple[dict[str, float], Refinement]:
    """Set the bounds of a network to those that `save_progress` wrote, and switch its quantizers on.

    Returns:
        The fidelity so far, and the progress of the refinement.

    Raises:
        CheckpointError: The file belongs to another quantization, or is damaged.
    """
    with _reading(path):
        stored = _read(path, identity)
        fidelity, losses = json.loads(stored.header["fidelity"]), json.loads(stored.header["losses"])
        places = quantizers(network).values()
        ends = _split(stored.tensors["bounds"], [end for one in places for end in (one.low, one.high)])
        moments = []
        if "moments" in stored.tensors:
            moments = _split(
                stored.tensors["moments"], [end for one in places for end in (one.low, one.low, one.high, one.high)]
            )
    for one, low, high in zip(places, ends[::2], ends[1::2], strict=True):
        one.set_bounds(low, high)
    switch(network, on=True)
    return fidelity, Refinement(losses=losses, moments=moments)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Report whatever is wrong with a file as damage."""
    try:
        yield
    except (WeightsError, KeyError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{printable_name(path)}: damaged ({type(error).__name__}); delete it and start again"
        ) from None


def _read(path: Path, identity: str) -> StoredTensors:
    """Read a file, unless it belongs to another quantization."""
    stored = read_tensors(path)
    if stored.header["identity"] != identity:
        raise CheckpointError(
            f"{printable_name(path)} belongs to a quantization with other settings, images or weights; finish that one "
            "or delete the file"
        )
    return stored


def _joined(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().cpu().flatten() for tensor in tensors])


def _split(joined: Tensor, like: list[Tensor]) -> list[Tensor]:
    parts = torch.split(joined, [tensor.numel() for tensor in like])
    return [part.reshape(tensor.shape).to(tensor.device) for part, tensor in zip(parts, like, strict=True)]
