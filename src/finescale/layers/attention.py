"""The one place where queries meet keys: the products inside attention, as modules without parameters.

Being modules, they are what quantization observes and what a faster kernel replaces.
Letters: K windows, n heads, d channels of a head, L tokens of a window, M keys, C = n * d.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SoftmaxAttention(nn.Module):
    """softmax(Q Kᵀ · scale + bias) V with scale = d^-1/2.

    Shapes: query (..., n, L, d), key and value (..., n, M, d), bias broadcastable to (..., n, L, M); answers
    (..., n, L, d).
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
        """See the class."""
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)


class SpatialCorrelation(nn.Module):
    """Attention without softmax over pooled values that are keys as well: S = (Q Vᵀ / d + P) V, per window and head.

    No softmax stands between the products, so Q (VᵀV) replaces (Q Vᵀ) V: a d x d matrix per head instead of an L x M
    map.

    Args:
        num_heads: n; head a owns the channels a·d .. (a+1)·d-1.

    Shapes: query (K, L, C), value (K, M, C), position term P (n, L, M); answers (K, L, C).
    """

    def __init__(self, *, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, query: Tensor, value: Tensor, position: Tensor) -> Tensor:
        """See the class."""
        windows, keys, channels = value.shape
        heads, width = self.num_heads, channels // self.num_heads
        # One C x C product, of which the d x d blocks on the diagonal are kept, is faster than n narrow ones.
        head = torch.arange(channels, device=value.device) // width
        own_head = (head[:, None] == head[None, :]).to(value.dtype)
        gram = (value / width).transpose(1, 2) @ value * own_head  # (K, C, C)
        value = value.reshape(windows, keys, heads, width).permute(2, 1, 0, 3).reshape(heads, keys, -1)
        placed = (position @ value).reshape(heads, -1, windows, width).permute(2, 1, 0, 3)  # (K, L, n, d)
        return torch.baddbmm(placed.reshape(query.shape), query, gram)


class ChannelCorrelation(nn.Module):
    """Every channel as a mixture of all others: V Mᵀ with M = Qᵀ V / L, per window.

    Shapes: query and value (K, L, C); answers (K, L, C).
    """

    def forward(self, query: Tensor, value: Tensor) -> Tensor:
        """See the class."""
        # Divided before the sum: in half precision the sum over thousands of tokens would overflow.
        mixture = value.transpose(1, 2) @ (query / query.shape[1])  # Mᵀ, (K, C, C)
        return value @ mixture
