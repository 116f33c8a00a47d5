"""Sizes of a network, read from the shapes of its state dict."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from torch import Tensor

State = Mapping[str, Tensor]
"""A state dict: published keys to tensors."""


def depths_of(state: State, blocks: str) -> tuple[int, ...]:
    """Return the number of blocks of each group, from keys such as "layers.3.residual_group.blocks.5.norm1.weight".

    Args:
        state: Tensors of a weight file.
        blocks: Path of the blocks within a group: "residual_group.blocks".
    """
    key_of_block = re.compile(rf"layers\.(\d+)\.{re.escape(blocks)}\.(\d+)\.")
    depths: dict[int, int] = {}
    for key in state:
        if found := key_of_block.match(key):
            group, block = int(found[1]), int(found[2])
            depths[group] = max(depths.get(group, 0), block + 1)
    return tuple(depths[group] for group in sorted(depths))


def ratio_of(part: int, whole: int) -> float:
    """Return the shortest decimal ratio from which ``int(whole * ratio)``, rounding included, gives back ``part``."""
    for digits in range(16):
        ratio = math.ceil(part / whole * 10.0**digits) / 10.0**digits
        if int(whole * ratio) == part:
            return ratio
    return math.nextafter(part / whole, math.inf)
