"""The x8 self-ensemble: a network asked about all eight flips and transposes of an image, and its answers averaged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


def self_ensemble(upscale: Callable[[Tensor], Tensor], lr: Tensor) -> Tensor:
    """The mean of what a network answers for the eight orientations of an image, each turned back.

    Costs eight times the time, and no more memory than one orientation besides the sum.

    Args:
        upscale: Images (N, C, H, W) to images (N, C, H * scale, W * scale), any H and W.
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
