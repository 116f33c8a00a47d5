"""The products inside attention, against their formulas written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from finescale.layers.attention import ChannelCorrelation, SoftmaxAttention, SpatialCorrelation


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


def test_channel_correlation_of_many_tokens_stays_within_half_precision() -> None:
    query = value = torch.full((1, 4096, 4), 20.0, dtype=torch.float16)
    assert torch.equal(ChannelCorrelation()(query, value), torch.full((1, 4096, 4), 32000.0, dtype=torch.float16))


@pytest.mark.parametrize("biased", [True, False])
def test_softmax_attention_is_its_formula(generator: torch.Generator, biased: bool) -> None:
    query, key, value = noise(generator, 5, 2, 4, 3), noise(generator, 5, 2, 6, 3), noise(generator, 5, 2, 6, 3)
    bias = noise(generator, 2, 4, 6) if biased else None
    scores = query @ key.transpose(-2, -1) / math.sqrt(3) + (0 if bias is None else bias)
    torch.testing.assert_close(SoftmaxAttention()(query, key, value, bias), scores.softmax(-1) @ value)


@pytest.mark.parametrize("module", [SoftmaxAttention(), SpatialCorrelation(num_heads=2), ChannelCorrelation()])
def test_the_products_have_no_parameters(module: torch.nn.Module) -> None:
    assert not module.state_dict()


def test_all_products_pass_exact_gradients(generator: torch.Generator) -> None:
    def leaf(*shape: int) -> Tensor:
        return noise(generator, *shape).requires_grad_()

    spatial = (leaf(2, 6, 4), leaf(2, 3, 4), leaf(2, 6, 3))
    assert torch.autograd.gradcheck(SpatialCorrelation(num_heads=2), spatial)
    assert torch.autograd.gradcheck(ChannelCorrelation(), (leaf(2, 6, 4), leaf(2, 6, 4)))
