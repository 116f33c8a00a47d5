"""The x8 self-ensemble: the average of a network's results for the eight flips and transposes of an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


def self_ensemble(upscale: Callable[[Tensor], Tensor], lr: Tensor) -> Tensor:
    """Average a network's results for the eight orientations of an image, each turned back.

    Takes eight times the time, and the memory of one orientation and the sum.

    Args:
        upscale: Maps images (N, C, H, W) to images (N, C, H * scale, W * scale), any H and W.
        lr: Images (N, C, H, W).

    Returns:
        Images (N, C, H * scale, W * scale).

    Source: Timofte et al., "Seven ways to improve example-based single image super resolution" (CVPR 2016).
    """
    total = torch.zeros((), device=lr.device)
    for flip in FLIPS:
        turned = lr.flip(flip)
        total = total + upscale(turned).flip(flip) + upscale(turned.mT).mT.flip(flip)
    return total / (2 * len(FLIPS))
