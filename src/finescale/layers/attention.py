"""Products inside attention, as modules without parameters, which quantization observes and faster kernels replace.

Letters: K windows, n heads, d channels of a head, L tokens of a window, M keys, C = n * d.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.layers.explicit_attention import (
    ExplicitChannelCorrelation,
    ExplicitExponentialSums,
    ExplicitShiftedAttention,
    ExplicitSoftmaxAttention,
    ExplicitSpatialCorrelation,
    kinds_of_windows,
)
from finescale.layers.precision import no_float16, widened


class AttentionProduct(nn.Module, ABC):
    """Product inside attention, without parameters."""

    @abstractmethod
    def explicit(self) -> nn.Module:
        """Return a module that computes the same step by step, each operand passing a `Tap`."""


class SoftmaxAttention(AttentionProduct):
    """softmax(Q Kᵀ · scale + bias) V.

    Args:
        scale: Factor of the products; d^-1/2 where it is None.

    """

    def __init__(self, *, scale: float | None = None) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        """Query (..., n, L, d), key and value (..., n, M, d) to (..., n, L, d); bias broadcasts to (..., n, L, M)."""
        if bias is not None:  # with all its axes, without which the fast kernel is not chosen
            bias = bias[(None,) * (query.ndim - bias.ndim)]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self.scale)

    def explicit(self) -> ExplicitSoftmaxAttention:
        """Return the same with each operand passing a `Tap`."""
        return ExplicitSoftmaxAttention(scale=self.scale)


class ShiftedAttention(AttentionProduct):
    """`SoftmaxAttention` in the windows of a rolled map, with a mask between pixels from its opposite ends.

    Only windows of the last row and column hold such pixels. So there are four biases, not one for each window: for
    whole windows, those last in their row, last in their column, and last in both.

    Args:
        scale: Factor of the products; d^-1/2 where it is None.
    """

    def __init__(self, *, scale: float | None = None) -> None:
        super().__init__()
        self.attention = SoftmaxAttention(scale=scale)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor, grid: tuple[int, int]) -> Tensor:
        """Attend within windows.

        Args:
            query: (K, n, L, d).
            key: (K, n, L, d).
            value: (K, n, L, d).
            bias: (4, n or 1, L, L), for the four kinds of windows.
            grid: (rows, columns) of windows in a map.

        Returns:
            (K, n, L, d).
        """
        if torch.compiler.is_compiling():  # for maps of any size, some of which have no whole window
            each = bias[kinds_of_windows(grid, windows=query.shape[0], device=bias.device)]
            return self.attention(query, key, value, each)  # type: ignore[no-any-return]

        # (N, rows, columns, n, L, d)
        maps = [windows.reshape(-1, *grid, *windows.shape[1:]) for windows in (query, key, value)]

        def attend(rows: slice, columns: slice, bias: Tensor) -> Tensor:
            parts = [windows[:, rows, columns] for windows in maps]
            answer: Tensor = self.attention(*(part.flatten(0, 2) for part in parts), bias)
            return answer.reshape(parts[0].shape)

        others, last = slice(-1), slice(-1, None)
        upper = torch.cat((attend(others, others, bias[0]), attend(others, last, bias[1])), dim=2)
        lower = torch.cat((attend(last, others, bias[2]), attend(last, last, bias[3])), dim=2)
        return torch.cat((upper, lower), dim=1).flatten(0, 2)

    def explicit(self) -> ExplicitShiftedAttention:
        """Return the same with each operand passing a `Tap`."""
        return ExplicitShiftedAttention(scale=self.attention.scale)


class ExponentialSums(AttentionProduct):
    """Numerator and denominator of softmax attention: E V and E 1, with E = exp(Q Kᵀ + bias - maximum of the row).

    Undivided, they can be added up over overlapping windows. The maximum is that of each window alone.

    A few windows are computed at a time, so that their scores stay in the cache, or the memory, of the device.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Query (K, n, L, d), key and value (K, n, M, d) and bias (n, L, M) to (K, n, d, L) and (K, n, 1, L)."""
        at_once = 2**17 if query.device.type == "cpu" else 2**26  # scores
        step = max(at_once // bias.numel(), 1)
        # Split, not sliced: the gradient of each slice would be a map of zeros as large as all windows.
        parts = ([x] if torch.compiler.is_compiling() else torch.split(x, step) for x in (query, key, value))
        values, weights = [], []
        for q, k, v in zip(*parts, strict=True):
            scores = (q @ k.mT).add_(bias)
            exponentials = (scores - scores.amax(-1, keepdim=True)).exp_()
            values.append(v.mT @ exponentials.mT)  # 3 times faster on a CPU than E V, for narrow heads
            weights.append(exponentials.sum(-1).unsqueeze(-2))
        return torch.cat(values), torch.cat(weights)

    def explicit(self) -> ExplicitExponentialSums:
        """Return the same with each operand passing a `Tap`."""
        return ExplicitExponentialSums()


class SpatialCorrelation(AttentionProduct):
    """Attention without softmax over pooled values that are keys as well: S = (Q Vᵀ / d + P) V, per window and head.

    As no softmax stands between the products, Q (VᵀV) replaces (Q Vᵀ) V: a d x d matrix per head instead of an L x M
    map. The products are cubic and leave the range of float16; float32 takes its place.

    Args:
        num_heads: n; head a owns the channels a·d .. (a+1)·d-1.
    """

    def __init__(self, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, query: Tensor, value: Tensor, position: Tensor) -> Tensor:
        """Query (K, L, C), value (K, M, C) and position term P (n, L, M) to (K, L, C)."""
        windows, keys, channels = value.shape
        heads, width = self.num_heads, channels // self.num_heads
        query, value, position = widened(query), widened(value), widened(position)
        with no_float16(query):
            # One C x C product, of which the d x d blocks on the diagonal are kept, is faster than n narrow ones.
            head = torch.arange(channels, device=value.device) // width
            own_head = (head[:, None] == head[None, :]).to(value.dtype)
            gram = (value / width).transpose(1, 2) @ value * own_head  # (K, C, C)
            value = value.reshape(windows, keys, heads, width).permute(2, 1, 0, 3).reshape(heads, keys, -1)
            placed = (position @ value).reshape(heads, -1, windows, width).permute(2, 1, 0, 3)  # (K, L, n, d)
            return torch.baddbmm(placed.reshape(query.shape), query, gram)

    def explicit(self) -> ExplicitSpatialCorrelation:
        """Return the same with each operand passing a `Tap`."""
        return ExplicitSpatialCorrelation(num_heads=self.num_heads)


class ChannelCorrelation(AttentionProduct):
    """Every channel as a mixture of all others: V Mᵀ with M = Qᵀ V / L, per window; in float32 in place of float16."""

    def forward(self, query: Tensor, value: Tensor) -> Tensor:
        """Query and value (K, L, C) to (K, L, C)."""
        query, value = widened(query), widened(value)
        with no_float16(query):
            mixture = value.transpose(1, 2) @ (query / query.shape[1])  # Mᵀ, (K, C, C)
            return value @ mixture

    def explicit(self) -> ExplicitChannelCorrelation:
        """Return the same with each operand passing a `Tap`."""
        return ExplicitChannelCorrelation()
