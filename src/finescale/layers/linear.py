"""Linear layers on maps and windows, by the faster of two ways to multiply float32 matrices on a CPU.

PyTorch gives products of matrices to MKL and convolutions to oneDNN. MKL uses AVX-512 on Intel's processors alone; on
other processors with AVX-512, oneDNN is up to twice as fast, forward and backward.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Compute `torch.nn.functional.linear`; on a CPU, in float32, as a 1x1 convolution, without a copy.

    Args:
        x: (..., in_features).
        weight: (out_features, in_features).
        bias: (out_features,), or None.

    Returns:
        (..., out_features), contiguous.
    """
    if not _by_convolution(x, weight):
        return F.linear(x, weight, bias)
    tokens = x.shape[:-1].numel()
    width = x.shape[-2] if tokens % 16 else tokens // 16  # with one thread, oneDNN gets batches of 16 images at least
    images = x.reshape(-1, 1, width, x.shape[-1]).permute(0, 3, 1, 2)  # channels-last
    out = F.conv2d(images, weight[:, :, None, None], bias).permute(0, 2, 3, 1)
    return out.reshape(*x.shape[:-1], weight.shape[0])


def _by_convolution(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim > 2
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )


class Linear(nn.Linear):
    """Linear layer that computes by `linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        return linear(x, self.weight, self.bias)
