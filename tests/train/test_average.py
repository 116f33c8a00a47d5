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
    return {float(value) for weight in average.weights().values() for value in weight.flatten()}


def test_the_average_starts_as_a_copy_that_stays_behind(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.9)
    fill(network, 7.0)
    assert values(average) == {1.0}


def test_later_steps_count_by_the_decay(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.5)
    fill(network, 3.0)
    average.update(step=1000)
    assert values(average) == {2.0}
    average.update(step=1001)
    assert values(average) == {2.5}


@pytest.mark.parametrize("step", [1, 2, 10, 100])
def test_the_first_steps_are_averaged_over_a_shorter_time(network: nn.Module, step: int) -> None:
    average = WeightAverage(network, decay=0.999)
    fill(network, 0.0)
    average.update(step=step)
    (value,) = values(average)
    assert value == pytest.approx((1 + step) / (10 + step))


def test_without_a_warm_up_the_first_steps_count_as_the_others(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.75, warm_up=False)
    fill(network, 0.0)
    average.update(step=1)
    assert values(average) == {0.75}


def test_without_decay_the_average_follows_at_once(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0)
    fill(network, 0.1)
    average.update(step=1)
    assert values(average) == {float(torch.tensor(0.1))}


def test_buffers_are_the_networks_own(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.5)
    network(torch.randn(4, 2))
    fill(network, 3.0)
    average.update(step=1000)
    state = average.state()
    assert state.keys() == network.state_dict().keys()
    assert state["0.weight"].unique().tolist() == [2.0]
    assert torch.equal(state["1.running_mean"], network.state_dict()["1.running_mean"])
    assert state["1.running_mean"].any()


def test_an_average_goes_on_from_given_weights(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.5)
    fill(network, 3.0)
    average.restore({name: torch.full_like(weight, 5.0) for name, weight in average.weights().items()})
    assert values(average) == {5.0}
    average.update(step=1000)
    assert values(average) == {4.0}


def test_gradients_are_neither_recorded_nor_lost(network: nn.Module) -> None:
    average = WeightAverage(network, decay=0.5)
    network(torch.randn(4, 2)).sum().backward()
    average.update(step=1)
    assert not any(weight.requires_grad for weight in average.weights().values())
    assert all(parameter.grad is not None and parameter.requires_grad for parameter in network.parameters())
