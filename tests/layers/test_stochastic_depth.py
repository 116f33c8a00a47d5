"""Stochastic depth leaves out whole samples, in training alone, and keeps the mean."""

from __future__ import annotations

import pytest
import torch

from finescale.layers.stochastic_depth import StochasticDepth, depth_rates


def test_outside_training_nothing_is_left_out() -> None:
    x = torch.randn(3, 2, 2, 5)
    assert StochasticDepth(0.9).eval()(x) is x
    assert StochasticDepth(0.0)(x) is x


def test_a_sample_is_left_out_or_enlarged_as_a_whole() -> None:
    torch.manual_seed(0)
    branch = StochasticDepth(0.25)(torch.ones(4000, 2, 3))
    samples = branch.flatten(1)
    assert (samples == samples[:, :1]).all()
    assert set(samples[:, 0].tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (samples[:, 0] == 0).float().mean() == pytest.approx(0.25, abs=0.02)


def test_rates_grow_evenly_over_all_blocks() -> None:
    assert depth_rates(0.1, (2, 3)) == [pytest.approx([0, 0.025]), pytest.approx([0.05, 0.075, 0.1])]
    assert depth_rates(0.1, (1,)) == [[0]]
