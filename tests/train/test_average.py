from __future__ import annotations

import pytest
import torch
from torch import nn

from finescale.train.average import WeightAverage


@pytest.fixture
def network() -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)).train()
    fill(network, 1.0)
    return network


def fill(network: nn.Module, value: float) -> None:
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)


def values(average: WeightAverage) -> set[float]:
    return {float(value) for weight in average.weights.values() for value in weight.flatten()}


def weights_of(network: nn.Module) -> set[float]:
    return {float(value) for weight in network.parameters() for value in weight.detach().flatten()}


def test_the_average_starts_as_a_copy_that_stays_behind(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.9)
    fill(network, 7.0)
    assert values(average) == {1.0}


def test_later_steps_count_by_the_decay(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.5)
    fill(network, 3.0)
    average.update(network, step=1000)
    assert values(average) == {2.0}
    average.update(network, step=1001)
    assert values(average) == {2.5}


@pytest.mark.parametrize("step", [1, 2, 10, 100])
def test_the_first_steps_are_averaged_over_a_shorter_time(network: nn.Module, step: int) -> None:
    average = WeightAverage(network, decay=0.999)
    fill(network, 0.0)
    average.update(network, step=step)
    (value,) = values(average)
    assert value == pytest.approx((1 + step) / (10 + step))


def test_without_decay_the_average_follows_at_once(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0)
    fill(network, 0.1)
    average.update(network, step=1)
    assert values(average) == weights_of(network)


def test_the_average_is_applied_within_the_block_only(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.5)
    fill(network, 3.0)
    with average.applied_to(network):
        assert weights_of(network) == {1.0}
        assert not network.training
    assert weights_of(network) == {3.0}
    assert network.training
    assert values(average) == {1.0}


@pytest.mark.parametrize("training", [True, False])
def test_all_is_as_before_after_an_error_in_the_block(network: nn.Module, training: bool) -> None:
    average = WeightAverage(network.train(training), decay=0.5)
    fill(network, 3.0)
    with pytest.raises(KeyboardInterrupt), average.applied_to(network):  # noqa: PT012
        fill(network, 9.0)
        raise KeyboardInterrupt
    assert weights_of(network) == {3.0}
    assert network.training is training
    assert all(module.training is training for module in network.modules())
    assert values(average) == {1.0}


def test_gradients_are_neither_recorded_nor_lost(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.5)
    network(torch.randn(4, 2)).sum().backward()
    average.update(network, step=1)
    with average.applied_to(network):
        pass
    assert not any(weight.requires_grad for weight in average.weights.values())
    assert all(parameter.grad is not None and parameter.requires_grad for parameter in network.parameters())
