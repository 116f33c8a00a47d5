"""Position terms of attention: numbers that depend only on the offset between a query and a key."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class OffsetMLP(nn.Module):
    """Dynamic position bias: a small network from an offset (dy, dx), in pixels, to one number per head.

    Args:
        hidden: Width of the inner layers.
        num_heads: Numbers that come out.
    """

    def __init__(self, *, hidden: int, num_heads: int) -> None:
        super().__init__()
        self.pos_proj = nn.Linear(2, hidden)
        self.pos1 = _norm_relu_linear(hidden, hidden)
        self.pos2 = _norm_relu_linear(hidden, hidden)
        self.pos3 = _norm_relu_linear(hidden, num_heads)

    def forward(self, offsets: Tensor) -> Tensor:
        """Offsets (..., 2) to (..., num_heads)."""
        return self.pos3(self.pos2(self.pos1(self.pos_proj(offsets))))  # type: ignore[no-any-return]


def _norm_relu_linear(width: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, out))


def offset_grid(window: tuple[int, int], like: Tensor) -> Tensor:
    """Return all offsets (dy, dx) between two pixels of a window (h, w), from -(h-1), -(w-1) up.

    Returns:
        (2h-1, 2w-1, 2), with the device and dtype of ``like``.
    """
    rows, columns = (torch.arange(1 - n, n, device=like.device, dtype=like.dtype) for n in window)
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)


def relative_index(window: tuple[int, int], device: torch.device | None = None) -> Tensor:
    """Return, for each pair of pixels of a window, the row-major place of query minus key in `offset_grid`.

    Returns:
        (L, L) int64, query by key.
    """
    h, w = window
    y, x = torch.meshgrid(torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij")
    dy, dx = (axis.flatten()[:, None] - axis.flatten()[None, :] for axis in (y, x))
    return (dy + h - 1) * (2 * w - 1) + dx + w - 1


def relative_bias(table: Tensor, index: Tensor) -> Tensor:
    """Look up a learned number for each head and pair of pixels, by their offset.

    Args:
        table: (offsets, n), in published state dicts called ``relative_position_bias_table``.
        index: (L, M), query by key, places in the table; `relative_index` returns that of a window.

    Returns:
        (n, L, M), contiguous, to be added to attention scores.
    """
    return table[index].permute(2, 0, 1).contiguous()
