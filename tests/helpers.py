"""Golden cases: how a published network must answer, number for number.

A case is one ``.npz`` file. It pins a network's configuration, the names and shapes of its published state dict, one
input and the output that the published network gives when every parameter is filled by the rule below. No trained
weights are involved: the rule makes the same float32 weights on any machine, so a case needs only its output::

    case = load_case(path)
    network = from_options(case.options).eval()
    network.load_state_dict(seeded_state(case.shapes))
    torch.testing.assert_close(network(case.input), case.output, rtol=0, atol=1e-4)
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
"""The folder of all cases, one folder per family."""

STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")
"""Ends of keys of what BatchNorm learns without gradients."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """What one file says."""

    arch: str
    """Name of the published class."""
    config: dict[str, Any]
    """Arguments of its constructor."""
    shapes: dict[str, Shape]
    """State-dict key to shape, learnable parameters only."""
    buffers: dict[str, Shape]
    """State-dict key to shape, what the published checkpoint carries besides."""
    input: Tensor
    """(N, C, H, W) float32 in [0, 1]."""
    output: Tensor
    """(N, C, scale * H, scale * W) float32, not clamped."""
    note: str
    """What is special about the case, and how exact its output is."""

    @property
    def options(self) -> dict[str, Any]:
        """The case in the form of a published option file's ``network_g`` block."""
        return {"type": self.arch, **self.config}


def load_case(path: Path | str) -> Case:
    with np.load(path, allow_pickle=False) as data:
        meta = json.loads(str(data["meta"]))
        return Case(
            arch=meta["arch"],
            config=meta["config"],
            shapes={key: tuple(shape) for key, shape in meta["shapes"].items()},
            buffers={key: tuple(shape) for key, shape in meta["buffers"].items()},
            input=torch.from_numpy(data["input"]),
            output=torch.from_numpy(data["output"]),
            note=meta["note"],
        )


def seeded_tensor(name: str, shape: Sequence[int]) -> Tensor:
    """The float32 value of the parameter called ``name``: a pure function of name and shape."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) <= 1:  # biases, norm weights, scalars
        centre = 1.0 if name.endswith("weight") else 0.0
        value = centre + 0.1 * rng.standard_normal(tuple(shape))
    else:
        fan_in = int(np.prod(shape[1:]))
        value = rng.standard_normal(tuple(shape)) / np.sqrt(max(fan_in, 1))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


def seeded_state(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A state dict filled by the rule."""
    return {name: seeded_tensor(name, shape) for name, shape in shapes.items()}


def seeded_input(shape: Sequence[int], seed: int = 0) -> Tensor:
    """A smooth-plus-noise image batch (N, C, H, W) in [0, 1], float32."""
    rng = np.random.default_rng(seed)
    n, c, h, w = shape
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    waves = [
        0.5 + 0.25 * np.sin(0.21 * (i + 1) * x + 0.4 * k) + 0.2 * np.cos(0.17 * (i + 2) * y - 0.3 * k)
        for k in range(n)
        for i in range(c)
    ]
    image = np.stack(waves).reshape(n, c, h, w) + 0.05 * rng.standard_normal((n, c, h, w))
    return torch.from_numpy(np.clip(image, 0.0, 1.0).astype(np.float32))
