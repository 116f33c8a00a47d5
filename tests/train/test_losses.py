"""The losses, by their formulas and by the published edge loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from finescale.train.losses import LOSSES, charbonnier, edge, frequency, l1, make_losses, mse, total_loss
from helpers import GOLDEN

losses = pytest.mark.parametrize("name", LOSSES)


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def test_the_edge_loss_and_its_gradient_are_the_published_ones() -> None:
    golden = np.load(GOLDEN / "losses" / "edge_loss.npz")
    sr, hr = torch.from_numpy(golden["pred"]).requires_grad_(), torch.from_numpy(golden["target"])
    loss = edge(sr, hr)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(float(golden["loss"]), abs=1e-6)
    assert sr.grad is not None
    torch.testing.assert_close(sr.grad, torch.from_numpy(golden["grad"]), atol=1e-6, rtol=1e-4)


def test_the_edge_loss_takes_any_number_of_channels() -> None:
    sr, hr = pair(2, 1, 8, 9)
    assert edge(sr.expand(2, 4, 8, 9), hr.expand(2, 4, 8, 9)).item() == pytest.approx(edge(sr, hr).item())


def test_differences_count_as_the_formulas_say() -> None:
    hr = torch.zeros(1, 1, 2, 2)
    sr = torch.tensor([[[[3.0, 0.0], [0.0, -1.0]]]])
    assert l1(sr, hr).item() == pytest.approx(1.0)
    assert mse(sr, hr).item() == pytest.approx(2.5)
    assert charbonnier(sr, hr).item() == pytest.approx((9.000001**0.5 + 1.000001**0.5 + 2e-3) / 4)
    # Sums and differences of the four numbers, over 2: 1, 2, 2, 1.
    assert frequency(sr, hr).item() == pytest.approx(1.5)


@losses
def test_equal_pictures_have_the_least_loss(name: str) -> None:
    sr, hr = pair(2, 3, 7, 6)
    least = LOSSES[name](hr, hr).item()
    assert 0 <= least <= 1e-3 + 1e-9
    assert LOSSES[name](sr, hr).item() > 0.01 + least


@losses
def test_every_loss_is_a_mean_over_the_batch(name: str) -> None:
    sr, hr = pair(2, 3, 8, 8)
    alone = [LOSSES[name](sr[i : i + 1], hr[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(LOSSES[name](sr, hr), torch.stack(alone).mean())


@losses
def test_every_loss_has_a_finite_gradient_where_pictures_are_equal(name: str) -> None:
    sr = torch.full((1, 3, 6, 6), 0.5, requires_grad=True)
    LOSSES[name](sr, torch.full((1, 3, 6, 6), 0.5)).backward()  # type: ignore[no-untyped-call]
    assert sr.grad is not None
    assert sr.grad.isfinite().all()


def test_the_total_is_the_weighted_sum_of_what_is_told() -> None:
    sr, hr = pair(1, 3, 6, 6)
    sr.requires_grad_()
    total, terms = total_loss(sr, hr, {"l1": 1.0, "frequency": 0.1})
    assert list(terms) == ["l1", "frequency"]
    assert total.item() == pytest.approx(l1(sr, hr).item() + 0.1 * frequency(sr, hr).item())
    assert total.requires_grad
    assert not any(term.requires_grad for term in terms.values())


def test_the_total_is_computed_in_float32_whatever_the_network_computes_in() -> None:
    sr, hr = pair(1, 3, 6, 6)
    half = sr.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = total_loss(half, hr, {"edge": 1.0, "frequency": 1.0})
    assert total.dtype == torch.float32
    assert torch.equal(total, edge(half.float(), hr) + frequency(half.float(), hr))


def test_pictures_of_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the same shape, got \(1, 3, 4, 4\) and \(1, 3, 4, 5\)"):
        total_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 5), {"l1": 1.0})


def test_the_perceptual_loss_is_made_with_its_weights(vgg19: Path) -> None:
    made = make_losses(["l1", "perceptual"], perceptual=vgg19, device=torch.device("cpu"))
    sr, hr = pair(1, 3, 16, 16)
    total, terms = total_loss(sr, hr, {"l1": 1.0, "perceptual": 0.5}, made)
    assert total.item() == pytest.approx(l1(sr, hr).item() + 0.5 * terms["perceptual"].item())
