from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor, nn

from finescale.layers.attention import SoftmaxAttention
from finescale.layers.parameter_cache import ParameterCache
from finescale.metrics.cost import count_operations, count_parameters, time_forward


class Counted(nn.Module):
    """A convolution 2 -> 6 with 3x3 pixels, then attention of 2 heads among all pixels, then a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 6, 3, padding=1)
        self.attention = SoftmaxAttention()
        self.norm = nn.LayerNorm(2)
        self.linear = nn.Linear(2, 5)
        self.forwards = 0

    def forward(self, image: Tensor) -> Tensor:
        self.forwards += 1
        heads = self.conv(image).flatten(2).unflatten(1, (3, 2, 1)).transpose(3, 4)  # (N, 3, 2, 1, L)
        query, key, value = heads.transpose(3, 4).reshape(1, 3, 2, -1, 1).unbind(1)
        tokens = self.attention(query, key, value).transpose(1, 2).flatten(2)  # (N, L, 2)
        return self.linear(self.norm(tokens))


PIXELS = 4 * 5
CONVOLUTION, PRODUCTS, LINEAR = PIXELS * 9 * 2 * 6, 2 * PIXELS * PIXELS * 2, PIXELS * 2 * 5


def test_convolutions_products_of_attention_and_linear_layers_are_counted() -> None:
    counted = count_operations(Counted(), (1, 2, 4, 5))
    assert counted.multiply_adds == counted.executed == CONVOLUTION + PRODUCTS + LINEAR


def test_elements_that_pass_norms_and_global_means_are_counted() -> None:
    layers = nn.Sequential(nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(1))
    counted = count_operations(layers, (1, 3, 4, 5))
    assert (counted.batch_norm, counted.global_mean, counted.layer_norm) == (60, 60, 0)
    assert count_operations(Counted(), (1, 2, 4, 5)).layer_norm == 2 * PIXELS


def test_what_a_paper_takes_beyond_our_steps_is_added_to_its_count_alone() -> None:
    beyond = {SoftmaxAttention: lambda _module, arguments: 7 * arguments[0].shape[-2]}
    counted = count_operations(Counted(), (1, 2, 4, 5), beyond=beyond)
    assert counted.multiply_adds - counted.executed == 7 * PIXELS


class Remembering(nn.Module):
    """A linear layer whose weight is a product of two parameters, remembered."""

    def __init__(self) -> None:
        super().__init__()
        self.factors = nn.ParameterList([torch.rand(3, 3), torch.rand(3, 3)])
        self.weight = ParameterCache(self.factors)

    def forward(self, image: Tensor) -> Tensor:
        return image @ self.weight(lambda: self.factors[0] @ self.factors[1])


def test_what_is_remembered_belongs_to_the_formulas_but_is_not_executed() -> None:
    counted = count_operations(Remembering(), (1, 1, 2, 3))
    assert counted.multiply_adds == 27 + 18
    assert counted.executed == 18


def test_counting_changes_nothing_of_the_network() -> None:
    network = Counted().train()
    before = pickle.dumps(network)  # hooks, which cannot be pickled, among the rest
    count_operations(network, (1, 2, 4, 5))
    assert pickle.dumps(network) == before
    assert network.training
    assert network.conv.weight.device.type == "cpu"
    assert network.forwards == 0


def test_parameters_are_counted() -> None:
    assert count_parameters(Counted()) == (9 * 2 * 6 + 6) + 2 * 2 + (2 * 5 + 5)


def test_one_forward_is_not_timed_and_the_others_are() -> None:
    network = Counted()
    timing = time_forward(network, torch.rand(1, 2, 4, 5), runs=3)
    assert network.forwards == 4
    assert timing.runs == 3
    assert 0 < timing.fastest_s <= timing.median_s <= timing.slowest_s


def test_without_runs_there_is_no_time() -> None:
    with pytest.raises(ValueError, match="runs must be at least 1, got 0"):
        time_forward(Counted(), torch.rand(1, 2, 4, 5), runs=0)
