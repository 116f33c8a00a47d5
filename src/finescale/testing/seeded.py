"""Weights and images that are pure functions of names and shapes, the same on every machine."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")
"""Ends of keys of what BatchNorm learns without gradients."""


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
