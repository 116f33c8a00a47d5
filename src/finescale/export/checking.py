"""Comparison of an exported network with the original, at sizes unlike that with which it was traced."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from finescale.engines.parity import Parity, check_parity
from finescale.networks import Frame, WrappedNetwork

CHECKED = ((1, 17, 23), (3, 7, 12), (1, 9, 70), (1, 71, 10), (1, 48, 48), (2, 3, 2))
"""Batch, height and width of the images by which a file for every size is checked: odd ones, below a window, a wide
and a tall one, whole windows; one image and several."""


def shapes_to_check(size: tuple[int, int] | None) -> Iterable[tuple[int, int, int]]:
    """Return batch, height and width of the images by which a file for one size, or every size, is checked."""
    return CHECKED if size is None else ((1, *size),)


def check(
    network: Frame | WrappedNetwork,
    compute: Callable[[Tensor], Tensor],
    *,
    size: tuple[int, int] | None,
    by: str,
    tolerance: float | None,
) -> Parity:
    """Compare what a runtime computes with the network's results.

    Args:
        network: In evaluation mode.
        compute: The runtime: images (N, C, H, W) to images ``scale`` times as large.
        size: Height and width for which the network was exported; None is every size.
        by: Name of the runtime, for the message.
        tolerance: As for `check_parity`.

    Returns:
        The worst agreement among all sizes.

    Raises:
        NumericalError: The results differ too much.
    """
    found = []
    for batch, height, width in shapes_to_check(size):
        generator = torch.Generator().manual_seed(height)
        images = torch.rand(batch, network.in_channels, height, width, generator=generator)
        found.append(
            check_parity(network, compute(images), images, by=by, remedy="nothing is written", tolerance=tolerance)
        )
    return Parity(largest=max(parity.largest for parity in found), psnr=min(parity.psnr for parity in found))
