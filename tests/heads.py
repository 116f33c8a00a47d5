"""Networks with the reconstruction heads of scales that no family publishes, see `finescale.testing.heads`."""

from __future__ import annotations

import torch

from finescale.networks import FAMILIES, Frame
from finescale.testing.heads import heads as heads


def one_block(kind: str, scale: int) -> Frame:
    """Return a network with a head and a single block, for what takes seconds for each layer."""
    torch.manual_seed(0)
    family = FAMILIES["hit-sr"]
    fields = {"embed_dim": 16, "depths": (1,), "num_heads": (1,), "base_window": (4, 4), "window_ratios": (1,)}
    settings = type(family.tiny["hit-sir"]).model_validate({**fields, "upsampler": kind})
    return family.network(settings=settings, scale=scale).eval()
