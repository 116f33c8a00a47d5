"""Layers that compute in float32 in place of float16, whose largest number is 65504: features and their sums exceed it.

They do so under autocast to float16 and in a network that was converted to it. bfloat16 has the range of float32 and is
left alone; float32 and float64 pass as they are, without a copy.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import is_autocast_available

from finescale.layers.linear import linear

MaybeTensor = TypeVar("MaybeTensor", Tensor, Tensor | None)


def widened(x: MaybeTensor) -> MaybeTensor:
    """Convert a float16 tensor to float32; return any other tensor, or None, as it is."""
    return x.float() if x is not None and x.dtype == torch.float16 else x


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which autocast changes no dtype on a device; "meta" has no autocast."""
    return torch.autocast(device.type, enabled=False) if is_autocast_available(device.type) else nullcontext()


def no_float16(like: Tensor) -> AbstractContextManager[object]:
    """Return a context without autocast to float16 on the device of ``like``; autocast to bfloat16 goes on."""
    kind = like.device.type
    in_float16 = (
        is_autocast_available(kind)
        and torch.is_autocast_enabled(kind)
        and torch.get_autocast_dtype(kind) == torch.float16
    )
    return without_autocast(like.device) if in_float16 else nullcontext()


class SafeLinear(nn.Linear):
    """Linear layer that computes and returns float32 where it would float16."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        with no_float16(x):
            return linear(widened(x), widened(self.weight), widened(self.bias))


class SafeConv2d(nn.Conv2d):
    """Convolution that computes and returns float32 where it would float16."""

    def forward(self, x: Tensor) -> Tensor:
        """Images (N, in_channels, H, W) to (N, out_channels, H', W')."""
        with no_float16(x):
            answer: Tensor = self._conv_forward(widened(x), widened(self.weight), widened(self.bias))
        return answer


class SafeLayerNorm(nn.LayerNorm):
    """Layer norm that computes in float32 where it would in float16, and returns the dtype of its weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to the same shape."""
        with no_float16(x):
            normed = F.layer_norm(widened(x), self.normalized_shape, widened(self.weight), widened(self.bias), self.eps)
        return normed.half() if self.weight.dtype == torch.float16 else normed
