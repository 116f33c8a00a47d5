"""Attention windows: extend a map to whole windows, cut it into them, put it together again.

Letters: N batch, H W map size, C channels, h w window size, K windows in the batch, L = h * w tokens of a window.
Maps are (N, H, W, C): linear layers and norms read them as they are, convolutions as channels-last images.
"""

from __future__ import annotations

import torch
from torch import Tensor

Size = tuple[int, int]


def whole_windows(size: Size, window: Size) -> Size:
    """The smallest size, at least ``size``, that holds a whole number of windows on both axes."""
    return -(-size[0] // window[0]) * window[0], -(-size[1] // window[1]) * window[1]


def pad_reflect(x: Tensor, size: Size) -> Tensor:
    """Extend a map at the bottom and on the right by mirroring, the edge not repeated.

    Wherever the extension is smaller than the map this is the usual reflect padding; a longer one goes on mirroring to
    and fro, and an axis of length 1 repeats its only row, so that every size can be padded.

    Args:
        x: Map (N, H, W, C).
        size: Height and width to reach, each at least that of ``x``.

    Returns:
        Map (N, *size, C); ``x`` itself where nothing is missing.
    """
    for axis, target in enumerate(size, start=1):
        length = x.shape[axis]
        if target > length:
            x = x.index_select(axis, _mirrored(length, target, x.device))
    return x


def _mirrored(length: int, target: int, device: torch.device) -> Tensor:
    """Which of ``length`` samples stands at each of ``target`` places of their mirrored continuation."""
    period = max(2 * (length - 1), 1)
    place = torch.arange(target, device=device) % period
    return torch.minimum(place, period - place) if length > 1 else torch.zeros_like(place)


def partition(x: Tensor, window: Size) -> Tensor:
    """Cut a map (N, H, W, C) into windows (K, L, C), both in row-major order; H and W hold whole windows."""
    n, height, width, channels = x.shape
    h, w = window
    x = x.reshape(n, height // h, h, width // w, w, channels).transpose(2, 3)  # (N, rows, columns, h, w, C)
    return x.reshape(-1, h * w, channels)


def merge(windows: Tensor, window: Size, size: Size) -> Tensor:
    """Undo `partition`: windows (K, L, C) to the map (N, H, W, C) with ``size`` = (H, W)."""
    (h, w), (height, width) = window, size
    x = windows.reshape(-1, height // h, width // w, h, w, windows.shape[-1]).transpose(2, 3)
    return x.reshape(-1, height, width, windows.shape[-1])
