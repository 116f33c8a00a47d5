"""Engine that computes a network by PyTorch, with or without its compiler."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from finescale.engines.precision import DTYPES


class PyTorchEngine:
    """Engine that calls a network, in half precision under autocast.

    Args:
        network: Maps (N, in_channels, H, W) to images ``scale`` times as large.
        device: Device of the network.
        precisions: Precisions that the network supports; None is all.
        compiled: Compile the network with `torch.compile`, once for all sizes of image, which takes minutes.
    """

    multiplies_integers = False

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device,
        precisions: tuple[str, ...] | None = None,
        compiled: bool = False,
    ) -> None:
        self.precisions = tuple(DTYPES) if precisions is None else precisions
        self._device = device
        self._network: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=True) if compiled else network

    def __call__(self, images: Tensor, *, precision: str) -> Tensor:
        """Upscale images (N, in_channels, H, W); returns float32."""
        dtype = DTYPES[precision]
        with torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not torch.float32):
            return self._network(images).float()
