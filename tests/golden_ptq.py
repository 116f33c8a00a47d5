"""Golden cases of quantization: numbers of the published quantizer, of its ranges, and of whole quantized networks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finescale.networks import FAMILIES, Frame, from_options
from finescale.networks.placement import Placement
from finescale.quantize import RECIPES, QuantSettings, insert_quantizers
from finescale.quantize.modules import quantizers, switch
from helpers import GOLDEN, seeded_state

CASES = GOLDEN / "ptq"

Bounds = dict[str, tuple[Tensor, Tensor]]


class Case:
    """One file: its arrays as tensors, and what it says of them."""

    def __init__(self, name: str) -> None:
        with np.load(CASES / f"{name}.npz", allow_pickle=False) as data:
            self.meta: dict[str, Any] = json.loads(str(data["meta"]))
            self._arrays = {key: torch.from_numpy(np.array(data[key])) for key in data.files if key != "meta"}

    def __getitem__(self, key: str) -> Tensor:
        return self._arrays[key]

    def each(self, name: str) -> list[Tensor]:
        """The arrays name0, name1, ..."""
        return [self._arrays[key] for key in sorted(self._arrays) if key.removeprefix(name).isdigit()]

    def bounds(self, key: str) -> Bounds:
        """A flat array of bounds, by the published names of the quantizers: (lower, upper)."""
        ends = dict(_cut(self[key], self.meta["bounds"]))
        return {
            name.removesuffix(".quantizer.min_val"): (low, ends[name.replace("min_val", "max_val")])
            for name, low in ends.items()
            if name.endswith("min_val")
        }


def names(kind: str) -> list[str]:
    """Names of all cases of a kind."""
    return sorted(path.stem for path in CASES.glob(f"{kind}_*.npz"))


def _cut(flat: Tensor, shapes: Sequence[tuple[str, Sequence[int]]]) -> Mapping[str, Tensor]:
    parts = flat.split([int(np.prod(shape)) for _, shape in shapes])
    return {name: part.reshape(tuple(shape)) for (name, shape), part in zip(shapes, parts, strict=True)}


def quantized_network(case: Case) -> tuple[Frame, Placement, QuantSettings]:
    """The network of a case with quantizers, none of them on."""
    network = from_options({"type": case.meta["arch"], **case.meta["config"]}).eval()
    network.load_state_dict(seeded_state(case.meta["shapes"]))
    placement = FAMILIES["craft"].quantization.placement(network.settings)
    settings = QuantSettings(bits=case.meta["bits"], epochs=1, **RECIPES["published"])
    insert_quantizers(network, placement, settings)
    return network, placement, settings


def published_name(path: str) -> str:
    """What the published network calls a quantizer."""
    files = FAMILIES["craft"].quantization.files
    assert files is not None
    return files.name_of(path)


def set_bounds(network: Frame, bounds: Bounds) -> None:
    """Give a network the bounds of a case, and switch its quantizers on."""
    for path, one in quantizers(network).items():
        one.set_bounds(*bounds[published_name(path)])
    switch(network, on=True)


def published_file(folder: Path, stage: str) -> Path:
    """A pickled network as the authors publish them, unpacked into a folder."""
    path = folder / f"published_{stage}_4bit.pth"
    path.write_bytes(gzip.decompress((CASES / f"{path.name}.gz").read_bytes()))
    return path
