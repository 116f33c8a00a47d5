"""Attention windows: extending a map to whole windows, cutting and merging it, rolling it and masking what was rolled.

Letters: N batch, H W map size, C channels, h w window size, K windows in the batch, L = h * w tokens of a window.
Maps are (N, H, W, C): linear layers and norms read them as they are, convolutions as channels-last images.
"""

from __future__ import annotations

import torch
from torch import Tensor

Size = tuple[int, int]


def whole_windows(size: Size, window: Size) -> Size:
    """Return the smallest size, at least ``size``, that holds a whole number of windows on both axes."""
    # No negative number is divided: an exported network divides towards zero.
    return (size[0] + window[0] - 1) // window[0] * window[0], (size[1] + window[1] - 1) // window[1] * window[1]


def at_least(side: int, least: int) -> int:
    """Return a side, or ``least`` where it is shorter; the side of an image may be free while a network is exported."""
    longer: int = torch.sym_max(side, least)  # type: ignore[no-untyped-call]
    return longer


def pad_reflect(x: Tensor, size: Size, *, repeat_edge: bool = False) -> Tensor:
    """Extend a map at the bottom and on the right by mirroring.

    Where the extension is smaller than the map this is the usual reflect padding. A longer one goes on mirroring back
    and forth, and an axis of length 1 repeats its only row, so that every size can be padded.

    Args:
        x: Map (N, H, W, C).
        size: Height and width to reach, each at least that of ``x``.
        repeat_edge: Whether the last row or column stands twice, before and behind the mirror.

    Returns:
        Map (N, *size, C); ``x`` itself where nothing is missing.
    """
    for axis, target in enumerate(size, start=1):
        length = x.shape[axis]
        if torch.compiler.is_compiling() or target > length:  # a compiled network is for sizes of both kinds
            x = x.index_select(axis, mirrored(length, target, repeat_edge=repeat_edge, device=x.device))
    return x


def mirrored(length: int, target: int, *, repeat_edge: bool, device: torch.device | None = None) -> Tensor:
    """Return the number of the sample at each place of a row that is continued by mirroring.

    Args:
        length: Number of samples.
        target: Number of places; the first ``length`` of them hold the samples themselves.
        repeat_edge: Whether the last sample stands twice, before and behind the mirror.
        device: Device of the result.

    Returns:
        (target,) int64.
    """
    # A tensor, since exporters translate no remainder by a size; a row of one sample is continued by itself.
    period = torch.full((), 2 * length if repeat_edge else 2 * (length - 1), device=device).clamp_min(1)
    place = torch.arange(target, device=device) % period
    return torch.minimum(place, period - int(repeat_edge) - place)


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


def sliding_windows(x: Tensor, window: int, stride: int) -> Tensor:
    """Cut a map into square windows that begin at every multiple of a stride, and may overlap.

    Args:
        x: Map (N, H, W, C).
        window: Side of a window, w.
        stride: Pixels from one window to the next.

    Returns:
        (N, rows, columns, L, C), windows and pixels in row-major order.
    """
    if torch.compiler.is_compiling():  # exporters translate no cut of a map whose size is free
        rows, columns = ((side - window) // stride + 1 for side in x.shape[1:3])
        starts = [torch.arange(count, device=x.device)[:, None] * stride for count in (rows, columns)]
        inside = torch.arange(window, device=x.device)
        x = x.index_select(1, (starts[0] + inside).flatten()).index_select(2, (starts[1] + inside).flatten())
        x = x.reshape(-1, rows, window, columns, window, x.shape[-1])
        return x.transpose(2, 3).flatten(3, 4)
    windows = x.unfold(1, window, stride).unfold(2, window, stride)  # (N, rows, columns, C, w, w)
    return windows.permute(0, 1, 2, 4, 5, 3).flatten(3, 4)


def roll(x: Tensor, shift: Size) -> Tensor:
    """Roll a map (N, H, W, ...) down and to the right; by (0, 0), which would be a copy, return the map itself."""
    return x.roll(shift, dims=(1, 2)) if any(shift) else x


def shift_mask(size: Size, window: Size, shift: Size, device: torch.device | None = None, *, cell: int = 1) -> Tensor:
    """Mask for attention scores where rolling brought together pixels from opposite ends of the map.

    The map was rolled by ``shift`` pixels up and to the left, so its last rows and columns come from the other end.
    Only windows of the last row or column of windows hold such pixels, hence a map of 2x2 windows shows all four kinds
    there are: whole, last of its row, last of its column, last of both.

    Args:
        size: Height and width of the map, whole windows.
        window: Height and width of a window.
        shift: Pixels rolled on each axis, less than the window; 0 masks nothing.
        device: Device of the mask.
        cell: Side of the squares of pixels that are one key each; a square of which a part was rolled around counts as
            rolled around.

    Returns:
        (windows, L, L / cell²), windows in row-major order, query by key: -100, the published value, where one of the
        two was rolled around on an axis and the other was not, else 0.
    """
    queries = _origins(size, window, shift, device)
    (height, width), (h, w), (down, right) = size, window, shift
    keys = _origins(
        (height // cell, width // cell), (h // cell, w // cell), (-(-down // cell), -(-right // cell)), device
    )
    return -100.0 * (queries[:, :, None] != keys[:, None, :])


def _origins(size: Size, window: Size, shift: Size, device: torch.device | None) -> Tensor:
    """Number for each pixel of each window (windows, L) of a rolled map which of its four parts the pixel is from."""
    rolled_rows, rolled_columns = (
        torch.arange(side, device=device) >= side - rolled for side, rolled in zip(size, shift, strict=True)
    )
    origin = 2 * rolled_rows[:, None].int() + rolled_columns.int()
    return partition(origin[None, :, :, None], window).squeeze(-1)


def masks_by_kind(window: Size, shift: Size, *, like: Tensor) -> Tensor:
    """`shift_mask` of the four kinds of windows of a rolled map, as `ShiftedAttention` takes them.

    Returns:
        (4, 1, L, L), with the device and dtype of ``like``: for whole windows, those last in their row, last in their
        column, and last in both.
    """
    return shift_mask((2 * window[0], 2 * window[1]), window, shift, like.device)[:, None].to(like.dtype)
