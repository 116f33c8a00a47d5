"""Softmax attention in rectangular windows, wide ones for half of the channels and tall ones for the others.

Letters: N batch, H W map size in whole windows, c channels of one half, n heads, d = c/n, (h, w) window, L = h * w,
K windows in the batch.
"""

from __future__ import annotations

from torch import Tensor, nn

from finescale.layers.attention import ShiftedAttention, SoftmaxAttention
from finescale.layers.parameter_cache import ParameterCache
from finescale.layers.position import OffsetMLP, offset_grid, relative_bias, relative_index
from finescale.layers.precision import without_autocast
from finescale.layers.windows import Size, masks_by_kind, merge, partition, roll


class RectangleAttention(nn.Module):
    """Softmax attention within windows of one shape, without projections.

    Args:
        num_heads: n.
        window: (h, w).
        shifted: Whether the windows lie half a window further down and to the right, over the border to the other side.
        bias_width: Inner width of the network that computes the position bias. At width 1 the bias has no effect and
            is left out: a norm over one value forgets the value, so all that remains is one number per head, which
            cancels in the softmax.
        masked: Whether shifted windows keep pixels from opposite ends of the map apart.
        scale: Factor of the attention scores; None is d^-1/2.
    """

    def __init__(
        self,
        *,
        num_heads: int,
        window: Size,
        shifted: bool,
        bias_width: int,
        masked: bool = True,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window = window
        self.shift = (window[0] // 2, window[1] // 2) if shifted else (0, 0)
        self.masked = shifted and masked
        self.pos = OffsetMLP(hidden=bias_width, num_heads=num_heads)
        self.has_position_bias = bias_width > 1
        self.pos.requires_grad_(self.has_position_bias)
        self.attention = (ShiftedAttention if self.masked else SoftmaxAttention)(scale=scale)
        self._bias = ParameterCache(self.pos)

    def forward(self, qkv: Tensor) -> Tensor:
        """Queries, keys and values of a map (N, H, W, 3, c) to (N, H, W, c)."""
        height, width = qkv.shape[1:3]
        (h, w), (down, right) = self.window, self.shift
        windows = partition(roll(qkv.flatten(3), (-down, -right)), self.window)  # (K, L, 3c)
        query, key, value = windows.reshape(*windows.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        if self.masked:
            bias = self._bias(self.masked_bias).to(qkv.dtype)
            out = self.attention(query, key, value, bias, (height // h, width // w))
        elif self.has_position_bias:
            out = self.attention(query, key, value, self._bias(self.position_bias).to(qkv.dtype))
        else:
            out = self.attention(query, key, value)
        return roll(merge(out.transpose(1, 2).flatten(2), self.window, (height, width)), self.shift)

    def position_bias(self) -> Tensor:
        """Compute the position bias (n, L, L), query by key."""
        weight = self.pos.pos_proj.weight
        with without_autocast(weight.device):
            table = self.pos(offset_grid(self.window, weight)).flatten(0, 1)
        return relative_bias(table, relative_index(self.window, weight.device))

    def masked_bias(self) -> Tensor:
        """Compute mask plus position bias of the four kinds of windows (4, n, L, L), or the mask alone (4, 1, L, L)."""
        masks = masks_by_kind(self.window, self.shift, like=self.pos.pos_proj.weight)
        return masks + self.position_bias() if self.has_position_bias else masks
