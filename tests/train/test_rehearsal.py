"""The pass before a training: it changes nothing, and foretells what a sample takes."""

from __future__ import annotations

import pytest
import torch

from finescale.networks import FAMILIES, Frame
from finescale.train.recompute import recompute
from finescale.train.rehearsal import rehearse

CPU = torch.device("cpu")


def network(family: str) -> Frame:
    torch.manual_seed(0)
    made: Frame = FAMILIES[family].network(settings=next(iter(FAMILIES[family].tiny.values())), scale=2)
    return made.train()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rehearsal_changes_nothing(family: str) -> None:
    rehearsed, before = network(family), network(family).state_dict()
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    rehearse(rehearsed, patch=8, device=CPU)
    assert torch.equal(torch.rand(1), expected)
    assert [key for key, tensor in rehearsed.state_dict().items() if not torch.equal(tensor, before[key])] == []
    assert all(parameter.grad is None for parameter in rehearsed.parameters())


def test_memory_grows_with_the_sample_and_is_less_where_activations_are_recomputed() -> None:
    small, large = (rehearse(network("hit-sr"), patch=patch, device=CPU).kept_bytes for patch in (16, 32))
    assert 3 * small < large < 5 * small
    recomputed = network("hit-sr")
    recompute(list(recomputed.get_submodule("layers").children()))
    assert rehearse(recomputed, patch=32, device=CPU).kept_bytes < large / 2


def test_memory_is_what_the_layers_keep() -> None:
    class Squares(torch.nn.Module):
        in_channels = 3

        def __init__(self) -> None:
            super().__init__()
            self.factor = torch.nn.Parameter(torch.ones(3, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * self.factor).square()  # keeps x and its product with the factor

    found = rehearse(Squares(), patch=5, device=CPU)  # type: ignore[arg-type]
    assert found.kept_bytes == 2 * 3 * 5 * 5 * 4
    assert found.unreached == ()
    assert found.seconds > 0
