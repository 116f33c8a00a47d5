"""Softmax attention within square windows and the pre-norm layer around it, as SwinIR and its descendants have them.

Letters: N batch, H W size of a map in whole windows, C channels, n heads, d = C/n, w side of a window, L = w * w
queries and M keys of a window, K windows in the batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from finescale.layers.attention import ShiftedAttention, SoftmaxAttention
from finescale.layers.linear import Linear
from finescale.layers.parameter_cache import ParameterCache
from finescale.layers.position import relative_bias, relative_index
from finescale.layers.stochastic_depth import StochasticDepth
from finescale.layers.windows import Size, merge, partition, roll, shift_mask


class BiasedAttention(nn.Module, ABC):
    """Softmax attention within windows, with a learned bias for each offset and a mask in windows of a rolled map.

    Args:
        channels: C.
        num_heads: n.
        window_size: w.
        shifted: Whether the windows are those of a map that is rolled by half a window.
        offsets: Number of different offsets between a query and a key.
        inputs: Layers that `project` uses, by their published names.
        width: n * d, where it is not C.
        masked: Whether windows of a rolled map keep pixels from opposite ends of the map apart.
        scale: Factor of the attention scores; None is d^-1/2.
    """

    index_name: ClassVar[str] = "relative_position_index"
    """Name under which published files keep `index`."""

    def __init__(
        self,
        *,
        channels: int,
        num_heads: int,
        window_size: int,
        shifted: bool,
        offsets: int,
        inputs: Mapping[str, nn.Module],
        width: int | None = None,
        masked: bool = True,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window_size, window_size
        self.shift = (window_size // 2, window_size // 2) if shifted else (0, 0)
        self.is_masked = masked and any(self.shift)  # windows of one pixel are not shifted
        self.relative_position_bias_table = nn.Parameter(torch.empty(offsets, num_heads))
        for name, layer in inputs.items():
            self.add_module(name, layer)
        self.attention = (ShiftedAttention if self.is_masked else SoftmaxAttention)(scale=scale)
        self.proj = Linear(channels if width is None else width, channels)
        self._bias = ParameterCache(self)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    @abstractmethod
    def project(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries (K, n, L, d), keys and values (K, n, M, d) of windows (K, L, C)."""

    @abstractmethod
    def index(self, device: torch.device | None = None) -> Tensor:
        """Compute for each query and key the row (L, M) of the table that holds their bias."""

    @abstractmethod
    def mask(self, size: Size, device: torch.device | None = None) -> Tensor:
        """Compute the mask (windows, L, M) of a rolled map of some size in whole windows, see `shift_mask`."""

    def bias(self) -> Tensor:
        """Compute the bias of the scores: (n, L, M), or with the mask (4, n, L, M) for the four kinds of windows.

        A map of 2x2 windows shows the four kinds: whole, last of its row, last of its column, last of both.
        """
        table = self.relative_position_bias_table
        bias = relative_bias(table, self.index(table.device))
        if not self.is_masked:
            return bias
        mask = self.mask((2 * self.window[0], 2 * self.window[1]), table.device)
        return bias + mask[:, None].to(bias.dtype)

    def forward(self, windows: Tensor, grid: Size) -> Tensor:
        """Windows (K, L, C) of maps with ``grid`` = (rows, columns) of windows, to the same shape."""
        query, key, value = self.project(windows)
        bias = self._bias(self.bias).to(query.dtype)
        if self.is_masked:
            out = self.attention(query, key, value, bias, grid)
        else:
            out = self.attention(query, key, value, bias)
        return self.proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class WindowAttention(BiasedAttention):
    """Attention of all pixels of a window to each other.

    Args:
        channels: C.
        num_heads: n.
        window_size: w.
        shifted: Whether the windows are those of a map that is rolled by half a window.
        qkv_bias: Whether queries, keys and values have an offset.
        width: n * d, where it is not C.
        scale: Factor of the attention scores; None is d^-1/2.
    """

    qkv: Linear

    def __init__(
        self,
        *,
        channels: int,
        num_heads: int,
        window_size: int,
        shifted: bool,
        qkv_bias: bool = True,
        width: int | None = None,
        scale: float | None = None,
    ) -> None:
        super().__init__(
            channels=channels,
            num_heads=num_heads,
            window_size=window_size,
            shifted=shifted,
            offsets=(2 * window_size - 1) ** 2,
            inputs={"qkv": Linear(channels, 3 * (channels if width is None else width), bias=qkv_bias)},
            width=width,
            scale=scale,
        )

    def project(self, windows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute queries, keys and values (K, n, L, d) of windows (K, L, C)."""
        heads = self.qkv(windows).reshape(*windows.shape[:2], 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)
        return query, key, value

    def index(self, device: torch.device | None = None) -> Tensor:
        """Compute for each query and key the row (L, L) of the table that holds their bias."""
        return relative_index(self.window, device)

    def mask(self, size: Size, device: torch.device | None = None) -> Tensor:
        """Compute the mask (windows, L, L) of a rolled map of some size in whole windows."""
        return shift_mask(size, self.window, self.shift, device)


def attend_in_windows(attention: BiasedAttention, x: Tensor) -> Tensor:
    """Attend within the windows of the map, rolled as the attention asks: (N, H, W, C) to the same shape."""
    (height, width), (h, w), (down, right) = x.shape[1:3], attention.window, attention.shift
    windows = partition(roll(x, (-down, -right)), (h, w))
    windows = attention(windows, (height // h, width // w))
    return roll(merge(windows, (h, w), (height, width)), (down, right))


class SwinLayer(nn.Module):
    """Attention within windows and a feed-forward layer, each with its norm before it.

    Args:
        attention: Attention of the layer.
        feed_forward: Feed-forward layer, of maps (N, H, W, C).
        channels: C.
        drop_path: Share of a training's samples that skip a branch.
    """

    def __init__(self, *, attention: BiasedAttention, feed_forward: nn.Module, channels: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = attention
        self.drop_path = StochasticDepth(drop_path)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = feed_forward

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, C) to the same shape."""
        x = x + self.drop_path(self.attend(self.norm1(x)))
        return x + self.drop_path(self.mlp(self.norm2(x)))  # type: ignore[no-any-return]

    def attend(self, x: Tensor) -> Tensor:
        """Attend within the windows of a normalised map: (N, H, W, C) to the same shape."""
        return attend_in_windows(self.attn, x)
