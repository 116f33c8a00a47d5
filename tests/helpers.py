"""Golden cases: how a published network must answer, number for number.

A case is one ``.npz`` file. It pins a network's configuration, the names and shapes of its published state dict, one
input and the output that the published network gives when every parameter is filled by the rule below. No trained
weights are involved: the rule, `finescale.testing.seeded`, makes the same float32 weights on any machine, so a case
needs only its output::

    case = load_case(path)
    network = from_options(case.options).eval()
    network.load_state_dict(seeded_state(case.shapes))
    torch.testing.assert_close(network(case.input), case.output, rtol=0, atol=1e-4)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finescale.networks import Frame, FrameSettings, from_options
from finescale.testing.seeded import STATISTICS as STATISTICS
from finescale.testing.seeded import seeded_input as seeded_input
from finescale.testing.seeded import seeded_tensor

GOLDEN = Path(__file__).parent / "golden"
"""The folder of all cases, one folder per family."""

TOLERANCE = 1e-4
"""The largest difference from a published output in float32, where a case does not note a larger one."""

ALIKE = ("swinir-light", "swinir-real-m", "swinir-color-dn", "swinir-gray-car", "srformer-light")
"""Variants made of parts that others of their family have, for tests that take long."""

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


def usual_scale(settings: FrameSettings) -> int:
    """2, or where the network does not exist at x2, the first scale at which it does."""
    return 2 if 2 in settings.scales else settings.scales[0]


def seeded_state(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """A state dict filled by the rule."""
    return {name: seeded_tensor(name, shape) for name, shape in shapes.items()}


def noise(case: Case) -> float:
    """How far the published network's float32 answer is from its float64 answer, as the case notes it."""
    found = re.search(r"Float32 noise [^:]*: (\d\.\d+e[+-]\d+)", case.note)
    return float(found[1]) if found else 0.0


def exactness(case: Case) -> tuple[torch.dtype, float]:
    """The precision in which a case is compared, and the largest difference that it allows."""
    if in_float64(case):
        return torch.float64, 1e-5 * float(case.output.std())
    return torch.float32, max(TOLERANCE, 3 * noise(case))


def in_float64(case: Case) -> bool:
    """Whether the case's weights amplify rounding so much that float32 tells little."""
    return "COMPARE IN FLOAT64" in case.note


def network_of(case: Case) -> Frame:
    network = from_options(case.options).eval()
    network.load_state_dict({**network.state_dict(), **seeded_state(case.shapes)})
    return network


def published_buffers(case: Case) -> dict[str, Tensor]:
    """What the published file of a case holds besides its parameters, with values wherever they tell something."""
    return {key: _buffer(key, shape, case.config) for key, shape in case.buffers.items()}


def _buffer(key: str, shape: Shape, config: Mapping[str, Any]) -> Tensor:
    if key.endswith((".running_var", ".blocks.0.weight")):  # of BatchNorm; and the kernels by which SPAN shifts
        return torch.ones(shape) if key.endswith(".running_var") else shift_kernels(shape[0])
    if key.endswith("rpe_biases"):
        h, w = config["split_size"]
        return offsets(h, w) if ".attns.0." in key else offsets(w, h)
    if key.startswith("biases_"):
        h, w = config.get("split_size_0", 4), config.get("split_size_1", 16)
        return offsets(h, w) if key == "biases_h" else offsets(w, h)
    if key.endswith(".attn_mask") and config.get("shift_mask") is False:
        return torch.full(shape, -100.0)  # by the first code of SRFormer, for the queries that it meant to mask
    return torch.zeros(shape)


def offsets(h: int, w: int) -> Tensor:
    """Offsets (y, x) between the pixels of a window, in rows: ((2 h - 1) (2 w - 1), 2)."""
    return torch.cartesian_prod(torch.arange(1.0 - h, h), torch.arange(1.0 - w, w))


def shift_kernels(channels: int) -> Tensor:
    """The published depthwise kernels (C, 1, 3, 3) that move a fifth of the channels left, right, up and down."""
    kernel = torch.zeros(channels, 1, 3, 3)
    fifth = channels // 5
    for part, (y, x) in enumerate([(1, 2), (1, 0), (2, 1), (0, 1)]):
        kernel[part * fifth : (part + 1) * fifth, 0, y, x] = 1
    kernel[4 * fifth :, 0, 1, 1] = 1
    return kernel
