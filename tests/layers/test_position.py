from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from finescale.layers.position import OffsetMLP, offset_grid, relative_bias, relative_index

WINDOWS = [(1, 1), (2, 2), (3, 3), (2, 4), (5, 1)]


@pytest.mark.parametrize("window", WINDOWS)
def test_the_offset_grid_holds_every_offset_in_order(window: tuple[int, int]) -> None:
    h, w = window
    grid = offset_grid(window, torch.zeros(1, dtype=torch.float64))
    assert grid.dtype == torch.float64
    assert grid.tolist() == [[[dy, dx] for dx in range(1 - w, w)] for dy in range(1 - h, h)]


@pytest.mark.parametrize("window", WINDOWS)
def test_the_relative_index_leads_from_a_pair_of_pixels_to_their_offset(window: tuple[int, int]) -> None:
    h, w = window
    offsets = offset_grid(window, torch.zeros(1)).flatten(0, 1)
    index = relative_index(window)
    assert index.shape == (h * w, h * w)
    for query in range(h * w):
        for key in range(h * w):
            expected = [query // w - key // w, query % w - key % w]
            assert offsets[index[query, key]].tolist() == expected


def test_the_offset_network_is_three_normalised_steps_after_a_projection() -> None:
    network = OffsetMLP(hidden=4, num_heads=2)
    offsets = offset_grid((2, 3), torch.zeros(1))
    x = F.linear(offsets, network.pos_proj.weight, network.pos_proj.bias)
    for step in (network.pos1, network.pos2, network.pos3):
        norm, _, linear = step
        x = F.layer_norm(x, (4,), norm.weight, norm.bias, eps=1e-5).relu() @ linear.weight.T + linear.bias
    torch.testing.assert_close(network(offsets), x)
    assert network(offsets).shape == (3, 5, 2)


def test_the_relative_bias_is_the_tables_entry_for_the_offset_of_query_and_key() -> None:
    table = torch.rand(3 * 5, 2)
    bias = relative_bias(table, relative_index((2, 3)))
    assert bias.shape == (2, 6, 6)
    for query in range(6):
        for key in range(6):
            row, column = query // 3 - key // 3 + 1, query % 3 - key % 3 + 2
            assert torch.equal(bias[:, query, key], table[5 * row + column])
