"""Hierarchical windows and the correlation within them that takes the place of attention, as HiT-SR introduced them.

The windows of a group's layers grow. Softmax attention would cost the square of a window's area; spatial-channel
correlation costs its area alone: one half of the output correlates the query with values pooled to the base window at
most, the other half mixes channels. There is no shift, no mask and no key.

`SpatialChannelCorrelation` takes channels and heads as `WindowAttention` does, with a window of any size, and maps a
map to the same shape as `attend_in_windows` does. `HierarchicalLayer` takes it as `SwinLayer` takes its attention.

Letters: N batch, H W size of a map, C channels, c = C/2, n heads, d = c/n, (h, w) window, L = h * w, (p, q) its pooled
size, (kh, kw) = (h/p, w/q) the cell that becomes one value, K windows in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finescale.layers.attention import ChannelCorrelation, SpatialCorrelation
from finescale.layers.convolution import convolve
from finescale.layers.ngram_context import NGramContext, NGramWindowPartition
from finescale.layers.parameter_cache import ParameterCache
from finescale.layers.position import OffsetMLP, offset_grid
from finescale.layers.precision import SafeLayerNorm, SafeLinear, widened, without_autocast
from finescale.layers.window_attention import WindowAttention
from finescale.layers.windows import Size, merge, pad_reflect, partition, whole_windows


def hierarchical_windows(base_window: Size, ratios: Sequence[float]) -> tuple[Size, ...]:
    """Return the windows (height, width) of the layers of a group.

    Args:
        base_window: Window (height, width) that larger windows are pooled to, in pixels.
        ratios: Window of each layer, as a multiple of the base window; fractions of a pixel are dropped.

    Raises:
        ValueError: A side is no pixel, or above that of the base window and no multiple of it.
    """
    windows = tuple((int(base_window[0] * ratio), int(base_window[1] * ratio)) for ratio in ratios)
    for window in windows:
        for side, base in zip(window, base_window, strict=True):
            if side < 1 or (side > base and side % base):
                raise ValueError(f"window {window} must be a multiple of base_window {base_window} or smaller")
    return windows


class DualFeatureExtraction(nn.Module):
    """Query and value as the product of two branches: a convolutional one (bottleneck of C // 5) and a linear one."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        narrow = channels // 5
        self.conv = nn.Sequential(
            nn.Conv2d(channels, narrow, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, narrow, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(narrow, channels, 1),
        )
        self.linear = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, size: Size) -> Tensor:
        """Map (N, H, W, C) to (N, *size, C), extended by mirroring.

        Layers that act on each pixel alone come before the extension: the result is the same at less cost.
        """
        narrow = pad_reflect(convolve(self.conv[:2], x), size)
        return convolve(self.conv[2:], narrow) * pad_reflect(convolve(self.linear, x), size)


class SpatialPooling(nn.Linear):
    """Pooling of each cell of kh x kw tokens to one, by weights that all channels share."""

    def __init__(self, *, window: Size, pooled: Size) -> None:
        cell = window[0] // pooled[0], window[1] // pooled[1]
        super().__init__(cell[0] * cell[1], 1)
        self.pooled = pooled
        self.cell = cell

    def forward(self, x: Tensor) -> Tensor:
        """Tokens of windows (K, L, c) to (K, p * q, c)."""
        (p, q), (kh, kw) = self.pooled, self.cell
        if (kh, kw) == (1, 1):
            return x * self.weight.squeeze() + self.bias
        cells = x.reshape(-1, p, kh, q, kw, x.shape[-1])
        return (cells * self.weight.reshape(kh, 1, kw, 1)).sum((2, 4)).flatten(1, 2) + self.bias


class SpatialChannelCorrelation(nn.Module):
    """Spatial and channel self-correlation of a window, each for half of the channels; linear in its area."""

    def __init__(self, *, channels: int, num_heads: int, window: Size, base_window: Size, ngram: bool) -> None:
        super().__init__()
        self.window = window
        self.pooled = min(window[0], base_window[0]), min(window[1], base_window[1])
        self.qv = DualFeatureExtraction(channels=channels)
        self.proj = SafeLinear(channels, channels)
        self.spatial_linear = SpatialPooling(window=window, pooled=self.pooled)
        self.ngram_window_partition = None
        if ngram:
            attention = WindowAttention(channels=channels // 2, num_heads=num_heads, window_size=2, shifted=False)
            self.ngram_window_partition = NGramWindowPartition(
                NGramContext(channels=channels, window=window, attention=attention, shared_filter=True)
            )
        self.pos = OffsetMLP(hidden=channels // 4 // 4, num_heads=num_heads)
        self.spatial = SpatialCorrelation(num_heads=num_heads)
        self.channel = ChannelCorrelation()
        self._position = ParameterCache(self.pos)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape, whatever H and W."""
        height, width = x.shape[1:3]
        size = self.padded((height, width))
        qv = self.qv(x, size)
        if self.ngram_window_partition is not None:
            qv = self.ngram_window_partition(qv)
        query, value = widened(partition(qv, self.window)).chunk(2, dim=-1)  # (K, L, C/2)
        position = self._position(self.position_term).to(query.dtype)
        out = torch.cat((self.spatial(query, self.spatial_linear(value), position), self.channel(query, value)), dim=-1)
        return self.proj(merge(out, self.window, size)[:, :height, :width])  # type: ignore[no-any-return]

    def padded(self, size: Size) -> Size:
        """Return the size to which a map of ``size`` is extended: whole windows, with the N-gram context in pairs."""
        h, w = self.window
        return whole_windows(size, (h, w) if self.ngram_window_partition is None else (2 * h, 2 * w))

    def position_term(self) -> Tensor:
        """Compute P (n, L, p * q): for a query and a cell, the mean of the offset network over the cell's pixels.

        The mean over a cell is a mean over a rectangle of the table of all offsets: average pooling with stride 1. From
        one cell to the next the table is read kh (or kw) entries further back.
        """
        kh, kw = self.spatial_linear.cell
        with without_autocast(self.proj.weight.device):
            table = self.pos(offset_grid(self.window, self.proj.weight)).permute(2, 0, 1)  # (n, 2h-1, 2w-1)
            table = F.avg_pool2d(table, (kh, kw), stride=1)
        h, w = self.window
        cells = table.unfold(1, h, kh).unfold(2, w, kw).flip(1, 2)  # (n, p, q, h, w)
        return cells.flatten(3).flatten(1, 2).transpose(1, 2)


class HierarchicalLayer(nn.Module):
    """Correlation and feed-forward layer, each with its norm after it: the counterpart of `SwinLayer`.

    The correlation is cubic in query and value, and leaves the range of float16 until its norm brings it back.

    Args:
        correlation: Correlation of the layer.
        feed_forward: Feed-forward layer, of maps (N, H, W, C).
        channels: C.
    """

    def __init__(self, *, correlation: SpatialChannelCorrelation, feed_forward: nn.Module, channels: int) -> None:
        super().__init__()
        self.norm1 = SafeLayerNorm(channels)
        self.correlation = correlation
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = feed_forward

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = x + self.norm1(self.correlation(x))
        return x + self.norm2(self.mlp(x))  # type: ignore[no-any-return]
