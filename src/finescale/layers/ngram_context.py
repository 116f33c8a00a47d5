"""N-gram context: what a window is told about its neighbours, by attention among summaries of windows.

A window is summed up by one vector, its unigram. The unigrams of n x n windows attend to each other, once with the
window as the first of them (forward) and once as the last (backward), and the result belongs to every pixel of it.

Letters: N batch, H W map size in whole windows, C channels, D = C/2, (h, w) window, R x S windows in a map, n side of
an n-gram, d channels of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.layers.attention import SoftmaxAttention
from finescale.layers.convolution import convolve
from finescale.layers.position import relative_bias, relative_index
from finescale.layers.windows import Size


class NGramAttention(nn.Module):
    """Mean of softmax attention among the windows of an n-gram.

    Args:
        channels: D.
        num_heads: Heads of the attention.
        side: n.
    """

    def __init__(self, *, channels: int, num_heads: int, side: int = 2) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.side = side
        width = channels // num_heads * num_heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * side - 1) ** 2, num_heads))
        self.qkv = nn.Linear(channels, 3 * width)
        self.attention = SoftmaxAttention()
        self.proj = nn.Linear(width, channels)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """N-grams (..., n * n, D) to one vector each (..., D)."""
        groups = x.flatten(0, -3)
        qkv = self.qkv(groups).reshape(*groups.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        index = relative_index((self.side, self.side), x.device)
        bias = relative_bias(self.relative_position_bias_table, index)
        out = self.attend(*qkv.unbind(0), bias.to(qkv.dtype)).mean(2).flatten(1)
        return self.proj(out).reshape(*x.shape[:-2], -1)  # type: ignore[no-any-return]

    def attend(self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        """Attend within n-grams: (K, heads, n * n, d) each, and bias (heads, n * n, n * n), to the shape of value."""
        return self.attention(query, key, value, bias)  # type: ignore[no-any-return]


class NGramContext(nn.Module):
    """Context of each window of a map.

    Args:
        channels: C.
        window: (h, w).
        attention: Attention among the D channels of n x n unigrams.
        shared_filter: Whether all pairs of channels are summed up by the same weights.
    """

    def __init__(
        self, *, channels: int, window: Size, attention: NGramAttention, shared_filter: bool = False
    ) -> None:
        super().__init__()
        filters = 1 if shared_filter else channels // 2
        self.window = window
        self.unigram_embed = nn.Conv2d(2 * filters, filters, window, stride=window, groups=filters)
        self.ngram_attn = attention
        self.merge = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) of at least n x n windows to the contexts (N, R, S, C)."""
        overlap = self.ngram_attn.side - 1
        unigrams = self.unigrams(x)  # (N, R, S, D)
        rows, columns = unigrams.shape[1:3]
        # Every n-gram serves two windows: the first and the last of it.
        grid = _extended(_extended(unigrams, overlap, axis=1), overlap, axis=2)
        ngrams = [
            grid[:, y : y + rows + overlap, x : x + columns + overlap]
            for y in range(overlap + 1)
            for x in range(overlap + 1)
        ]
        both = self.ngram_attn(torch.stack(ngrams, dim=3))  # (N, R + n - 1, S + n - 1, D)
        forward, backward = both[:, overlap:, overlap:], both[:, :rows, :columns]
        return convolve(self.merge, torch.cat((forward, backward), dim=-1))

    def unigrams(self, x: Tensor) -> Tensor:
        """Sum up windows, each pair of channels by itself: map (N, H, W, C) to (N, R, S, D)."""
        pairs = x.shape[-1] // 2
        if self.unigram_embed.groups == pairs:
            return convolve(self.unigram_embed, x)
        weight = self.unigram_embed.weight.expand(pairs, -1, -1, -1)
        bias = self.unigram_embed.get_parameter("bias").expand(pairs)
        return F.conv2d(x.permute(0, 3, 1, 2), weight, bias, self.window, groups=pairs).permute(0, 2, 3, 1)


def _extended(grid: Tensor, overlap: int, *, axis: int) -> Tensor:
    """Repeat the ``overlap`` rows next to the first one before it, and those next to the last one behind it.

    They keep their order, as in the published networks, which call it reflection; it is one where a single row is added.
    """
    if overlap == 0:
        return grid
    length = grid.shape[axis]
    before, after = grid.narrow(axis, 1, overlap), grid.narrow(axis, length - 1 - overlap, overlap)
    return torch.cat((before, grid, after), dim=axis)


class NGramWindowPartition(nn.Module):
    """Addition of the N-gram context to a map, in a module of its own because of its published key.

    Args:
        context: Context of each window.
    """

    def __init__(self, context: NGramContext) -> None:
        super().__init__()
        self.ngram_context = context

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) in whole windows to the same shape."""
        context = self.ngram_context(x)  # (N, R, S, C)
        h, w = self.ngram_context.window
        windows = x.reshape(*context.shape[:2], h, context.shape[2], w, -1)  # (N, R, h, S, w, C)
        return (windows + context[:, :, None, :, None]).reshape(x.shape)
