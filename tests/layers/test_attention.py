"""The products inside attention, against their formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from finescale.layers.attention import (
    ChannelCorrelation,
    ExponentialSums,
    ShiftedAttention,
    SoftmaxAttention,
    SpatialCorrelation,
)
from finescale.layers.windows import shift_mask


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def noise(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("heads", [1, 2, 3, 6])
@pytest.mark.parametrize(("tokens", "keys"), [(8, 8), (32, 8), (1, 1)])
def test_spatial_correlation_is_its_formula_for_each_head(
    generator: torch.Generator, heads: int, tokens: int, keys: int
) -> None:
    windows, channels = 3, 12
    query, value = noise(generator, windows, tokens, channels), noise(generator, windows, keys, channels)
    position = noise(generator, heads, tokens, keys)
    answer = SpatialCorrelation(num_heads=heads)(query, value, position)
    width = channels // heads
    for window in range(windows):
        for head in range(heads):
            own = slice(head * width, (head + 1) * width)
            q, v = query[window, :, own], value[window, :, own]
            torch.testing.assert_close(answer[window, :, own], (q @ v.T / width + position[head]) @ v)


def test_channel_correlation_is_its_formula(generator: torch.Generator) -> None:
    query, value = noise(generator, 3, 16, 6), noise(generator, 3, 16, 6)
    answer = ChannelCorrelation()(query, value)
    for window in range(3):
        mixture = query[window].T @ value[window] / 16  # rows: channels of the query
        torch.testing.assert_close(answer[window], value[window] @ mixture.T)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_both_correlations_take_float32_where_their_products_leave_float16(dtype: torch.dtype) -> None:
    query = value = torch.full((1, 4096, 4), 200.0, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.float16):
        channel = ChannelCorrelation()(query, value)
        spatial = SpatialCorrelation(num_heads=2)(query, value[:, :64], torch.zeros(2, 4096, 64))
    assert torch.equal(channel, torch.full((1, 4096, 4), 4 * 200.0**3))
    assert torch.equal(spatial, torch.full((1, 4096, 4), 64 * 200.0**3))


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_softmax_attention_is_its_formula(generator: torch.Generator, biased: bool, scale: float | None) -> None:
    query, key, value = noise(generator, 5, 2, 4, 3), noise(generator, 5, 2, 6, 3), noise(generator, 5, 2, 6, 3)
    bias = noise(generator, 2, 4, 6) if biased else None
    scores = query @ key.transpose(-2, -1) * (scale or 1 / math.sqrt(3)) + (0 if bias is None else bias)
    torch.testing.assert_close(SoftmaxAttention(scale=scale)(query, key, value, bias), scores.softmax(-1) @ value)


@pytest.mark.parametrize("grid", [(1, 1), (1, 3), (3, 1), (2, 2), (3, 4)])
def test_shifted_attention_is_softmax_attention_with_each_windows_own_mask(
    generator: torch.Generator, grid: tuple[int, int]
) -> None:
    window, shift, maps = (2, 4), (1, 2), 3
    windows = maps * grid[0] * grid[1]
    query, key, value = (noise(generator, windows, 2, 8, 3) for _ in range(3))
    position = noise(generator, 2, 8, 8)
    masks = shift_mask((grid[0] * window[0], grid[1] * window[1]), window, shift)
    expected = SoftmaxAttention()(query, key, value, position + masks.repeat(maps, 1, 1)[:, None])
    kinds = position + shift_mask((4, 8), window, shift)[:, None]  # (4, n, L, L)
    torch.testing.assert_close(ShiftedAttention()(query, key, value, kinds, grid), expected)


@pytest.mark.parametrize("tokens", [7, 300])  # all windows at once, and one after the other
def test_exponential_sums_are_their_formulas_with_a_maximum_for_each_window(
    generator: torch.Generator, tokens: int
) -> None:
    query, key, value = (noise(generator, 3, 2, tokens, 5) for _ in range(3))
    bias = noise(generator, 2, tokens, tokens)
    values, weights = ExponentialSums()(query, key, value, bias)
    scores = query @ key.mT + bias
    expected = torch.exp(scores - scores.amax(-1, keepdim=True))
    torch.testing.assert_close(values, (expected @ value).mT)
    torch.testing.assert_close(weights, expected.sum(-1, keepdim=True).mT)
    torch.testing.assert_close((values / weights).mT, scores.softmax(-1) @ value)


@pytest.mark.parametrize(
    "module",
    [
        SoftmaxAttention(),
        ShiftedAttention(),
        ExponentialSums(),
        SpatialCorrelation(num_heads=2),
        ChannelCorrelation(),
    ],
)
def test_the_products_have_no_parameters(module: torch.nn.Module) -> None:
    assert not module.state_dict()


def test_all_products_pass_exact_gradients(generator: torch.Generator) -> None:
    def leaf(*shape: int) -> Tensor:
        return noise(generator, *shape).requires_grad_()

    spatial = (leaf(2, 6, 4), leaf(2, 3, 4), leaf(2, 6, 3))
    assert torch.autograd.gradcheck(SpatialCorrelation(num_heads=2), spatial)
    sums = (leaf(2, 2, 3, 4), leaf(2, 2, 5, 4), leaf(2, 2, 5, 4), leaf(2, 3, 5))
    assert torch.autograd.gradcheck(ExponentialSums(), sums)
    assert torch.autograd.gradcheck(ChannelCorrelation(), (leaf(2, 6, 4), leaf(2, 6, 4)))


@pytest.mark.parametrize("grid", [(2, 3), (1, 2), (1, 1)])
def test_a_compiled_network_attends_within_the_same_shifted_windows(
    grid: tuple[int, int], generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = 2 * grid[0] * grid[1]
    query, key, value = (noise(generator, windows, 3, 4, 5) for _ in range(3))
    bias = noise(generator, 4, 3, 4, 4)
    expected = ShiftedAttention()(query, key, value, bias, grid)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    torch.testing.assert_close(ShiftedAttention()(query, key, value, bias, grid), expected)
