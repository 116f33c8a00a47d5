"""N-gram context: what a window is told about its neighbours, by attention among summaries of windows.

A window is summed up by one vector, its unigram. The unigrams of n x n windows, an n-gram, attend to each other, and
their mean is the context: of the first window of the n-gram (forward) and of the last (backward).

Letters: N batch, H W map size in whole windows, C channels, D = C/2, (h, w) window, R x S windows in a map, n side of
an n-gram.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.layers.convolution import convolve
from finescale.layers.window_attention import BiasedAttention
from finescale.layers.windows import Size


class NGramContext(nn.Module):
    """Context of each window of a map.

    Args:
        channels: C.
        window: (h, w).
        attention: Attention in "windows" of n x n unigrams, of D channels.
        shared_filter: Whether all pairs of channels are summed up by the same weights.
    """

    def __init__(self, *, channels: int, window: Size, attention: BiasedAttention, shared_filter: bool = False) -> None:
        super().__init__()
        filters = 1 if shared_filter else channels // 2
        self.window = window
        self.unigram_embed = nn.Conv2d(2 * filters, filters, window, stride=window, groups=filters)
        self.ngram_attn = attention
        self.merge = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) of at least n x n windows to the contexts (N, R, S, C)."""
        side = self.ngram_attn.window[0]
        unigrams = self.unigrams(x)  # (N, R, S, D)
        rows, columns = unigrams.shape[1:3]
        # Every n-gram serves two windows: the first and the last of it.
        grid = _extended(_extended(unigrams, side - 1, axis=1), side - 1, axis=2)
        down, across = rows + side - 1, columns + side - 1
        ngrams = torch.stack(
            [grid[:, y : y + down, x : x + across] for y in range(side) for x in range(side)], dim=3
        )  # (N, R + n - 1, S + n - 1, n * n, D)
        context = self.ngram_attn(ngrams.flatten(0, 2), (down, across)).mean(1).reshape(-1, down, across, grid.shape[3])
        forward, backward = context[:, side - 1 :, side - 1 :], context[:, :rows, :columns]
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

    They keep their order, as in the published networks; of a single row on each side it is a reflection.
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
        h, w = self.ngram_context.window
        # Repeated, not broadcast over windows: OpenVINO 2026.4 adds to windows wrongly behind a norm.
        return x + self.ngram_context(x).repeat_interleave(h, dim=1).repeat_interleave(w, dim=2)  # type: ignore[no-any-return]
