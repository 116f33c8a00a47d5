from __future__ import annotations

import copy

import torch
from torch import nn

from finescale.layers.stochastic_depth import StochasticDepth
from finescale.train.recompute import recompute, statistics_kept


def blocks() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.GELU(), StochasticDepth(0.5)) for _ in range(3))
    )


def test_recomputed_blocks_have_the_same_gradients_and_statistics() -> None:
    kept = blocks()
    recomputed = copy.deepcopy(kept)
    recompute(recomputed.children())
    x = torch.randn(6, 4)
    for network in (kept, recomputed):
        torch.manual_seed(1)
        network(x).square().sum().backward()
    for (name, one), (_, other) in zip(kept.named_parameters(), recomputed.named_parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad), name
    state, other_state = kept.state_dict(), recomputed.state_dict()
    assert state.keys() == other_state.keys()
    assert all(torch.equal(state[key], other_state[key]) for key in state)
    assert other_state["0.1.num_batches_tracked"] == 1


def test_what_is_inside_a_block_is_computed_twice_and_not_kept() -> None:
    network = blocks()
    recompute(network.children())
    calls = []
    network[0][0].register_forward_hook(lambda *_: calls.append(1))  # type: ignore[index,union-attr]
    output = network(torch.randn(6, 4))
    assert len(calls) == 1
    output.sum().backward()
    assert len(calls) == 2


def test_statistics_are_kept_also_when_an_error_ends_the_block() -> None:
    network = blocks()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    try:
        with statistics_kept(network):
            network(torch.randn(6, 4))
            raise RuntimeError("in the block")
    except RuntimeError:
        pass
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
