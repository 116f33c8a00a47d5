"""Attention in rectangular windows, against the published formula, one query at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from finescale.layers.rectangle_attention import RectangleAttention
from helpers import seeded_state


def rectangle(window: tuple[int, int], *, shifted: bool, bias_width: int = 2, **options: Any) -> RectangleAttention:
    layer = RectangleAttention(num_heads=2, window=window, shifted=shifted, bias_width=bias_width, **options)
    layer.load_state_dict(seeded_state({key: tensor.shape for key, tensor in layer.state_dict().items()}))
    return layer.double().eval()


def region(place: int, side: int, window: int) -> int:
    """The label of a row or column of a rolled map, as the published mask has it."""
    return 0 if place < side - window else 1 if place < side - window // 2 else 2


def attention_pixel_by_pixel(layer: RectangleAttention, qkv: Tensor, *, masked: bool, scale: float) -> Tensor:
    """The published formula for one map (H, W, 3, c), one query at a time."""
    height, width = qkv.shape[:2]
    (h, w), (dy, dx) = layer.window, layer.shift
    rolled = torch.roll(qkv, (-dy, -dx), (0, 1)).unflatten(3, (layer.num_heads, -1))
    out = torch.empty(rolled.shape[:2] + rolled.shape[3:], dtype=qkv.dtype)
    for y, x in np.ndindex(height, width):
        top, left = y // h * h, x // w * w
        keys = [(top + i, left + j) for i in range(h) for j in range(w)]
        offsets = torch.tensor([[y - ky, x - kx] for ky, kx in keys], dtype=qkv.dtype)
        own = region(y, height, h), region(x, width, w)
        apart = torch.tensor([masked and (region(ky, height, h), region(kx, width, w)) != own for ky, kx in keys])
        window = torch.stack([rolled[ky, kx] for ky, kx in keys])  # (L, 3, n, d)
        scores = torch.einsum("nd,lnd->nl", rolled[y, x, 0], window[:, 1]) * scale
        scores = scores + layer.pos(offsets).T - 100.0 * apart
        out[y, x] = torch.einsum("nl,lnd->nd", scores.softmax(-1), window[:, 2])
    return torch.roll(out.flatten(2), (dy, dx), (0, 1))


@pytest.mark.parametrize("window", [(2, 4), (4, 2), (3, 5)], ids=str)
@pytest.mark.parametrize(("shifted", "masked"), [(False, False), (True, False), (True, True)])
@torch.no_grad()
def test_window_attention_is_the_published_formula(window: tuple[int, int], shifted: bool, masked: bool) -> None:
    layer = rectangle(window, shifted=shifted, masked=masked)
    qkv = torch.randn(2, 2 * window[0], 3 * window[1], 3, 32, dtype=torch.float64)
    expected = [attention_pixel_by_pixel(layer, image, masked=masked, scale=0.25) for image in qkv]
    torch.testing.assert_close(layer(qkv), torch.stack(expected))


@torch.no_grad()
def test_a_given_scale_replaces_that_of_the_head_width() -> None:
    layer = rectangle((2, 4), shifted=False, scale=0.7)
    qkv = torch.randn(1, 4, 4, 3, 32, dtype=torch.float64)
    torch.testing.assert_close(layer(qkv)[0], attention_pixel_by_pixel(layer, qkv[0], masked=False, scale=0.7))


@pytest.mark.parametrize("masked", [False, True])
@torch.no_grad()
def test_a_position_bias_of_width_one_has_no_effect_and_is_left_out(masked: bool) -> None:
    layer = rectangle((2, 4), shifted=True, bias_width=1, masked=masked)
    assert not any(parameter.requires_grad for parameter in layer.pos.parameters())
    qkv = torch.randn(1, 4, 8, 3, 24, dtype=torch.float64)
    with_bias = attention_pixel_by_pixel(layer, qkv[0], masked=masked, scale=12**-0.5)
    torch.testing.assert_close(layer(qkv)[0], with_bias)
