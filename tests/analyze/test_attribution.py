"""Attribution by its definition: it shares out what the detector gained, and only where the network looks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from finescale import Upscaler
from finescale.analyze.attribution import Attribution, Patch, attribute, blur, detect, gini

PATCH = Patch(top=20, left=24, size=8)


@pytest.fixture
def image() -> Tensor:
    torch.manual_seed(1)
    return torch.rand(3, 24, 28)


def convolutions() -> nn.Module:
    """Two 3x3 convolutions at x2: a pixel of the result sees the input 2 pixels around its own."""
    torch.manual_seed(2)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 12, 3, padding=1), nn.PixelShuffle(2)
    ).requires_grad_(False)


def test_the_attributions_add_up_to_what_the_detector_gained_the_better_the_more_steps(image: Tensor) -> None:
    gaps = [attribute(convolutions(), image, PATCH, steps=steps).gap for steps in (4, 16, 64)]
    assert gaps[0] > 4 * gaps[1]  # a midpoint rule: a sixteenth for four times the steps, once steps are short
    assert gaps[1] > 4 * gaps[2]
    assert gaps[2] < 1e-3


def test_one_of_our_networks_is_attributed_completely() -> None:
    rows, columns = torch.meshgrid(torch.arange(24.0), torch.arange(28.0), indexing="ij")
    stripes = (0.5 + 0.4 * torch.sin(0.9 * rows + 0.5 * columns)).expand(3, -1, -1)
    network = Upscaler.from_pretrained("default", scale=2).network.requires_grad_(False)
    found = attribute(network, stripes, PATCH, steps=32)
    assert found.gap < 1e-2
    assert float(found.values.sum()) == pytest.approx(found.sharp - found.blurred, rel=1e-2)
    assert found.sharp > 1.2 * found.blurred


def test_nothing_is_attributed_beyond_what_convolutions_see(image: Tensor) -> None:
    used = attribute(convolutions(), image, PATCH, steps=4).map
    rows, columns = used.nonzero().T
    # Lr rows 10 to 13, columns 12 to 15; one more each for the difference to the next pixel; 2 on each side are seen.
    assert (int(rows.min()), int(rows.max())) == (8, 16)
    assert (int(columns.min()), int(columns.max())) == (10, 18)


def test_a_network_that_only_enlarges_uses_the_pixels_of_the_patch(image: Tensor) -> None:
    used = attribute(nn.Upsample(scale_factor=2), image, PATCH, steps=4).map
    rows, columns = used.nonzero().T
    assert set(rows.tolist()) == set(range(10, 15))
    assert set(columns.tolist()) == set(range(12, 17))


def test_a_flat_image_has_nothing_to_share_out() -> None:
    found = attribute(convolutions(), torch.full((3, 24, 28), 0.4), PATCH, steps=2)
    assert found.values.abs().max() < 1e-6
    assert found.gap < 1


def test_steps_are_reported(image: Tensor) -> None:
    reported: list[tuple[int, int]] = []
    attribute(convolutions(), image, PATCH, steps=3, on_step=lambda done, total: reported.append((done, total)))
    assert reported == [(1, 3), (2, 3), (3, 3)]


def test_arguments_out_of_range_are_refused(image: Tensor) -> None:
    with pytest.raises(ValueError, match="sigma and steps must be positive, got 0 and 5"):
        attribute(convolutions(), image, PATCH, sigma=0, steps=5)
    with pytest.raises(ValueError, match="a patch of 8 pixels at 50,0 does not lie in a result of 56 x 48"):
        attribute(convolutions(), image, Patch(top=0, left=50, size=8), steps=1)


# ---- the detector


def test_the_detector_adds_up_differences_to_the_next_pixels() -> None:
    sr = torch.zeros(1, 1, 4, 4)
    sr[0, 0, 1, 1] = 1  # seen from above, from the left, and from itself in both directions
    assert float(detect(sr, Patch(top=0, left=0, size=3))) == pytest.approx(2 + math.sqrt(2), abs=1e-4)


def test_differences_from_the_patch_to_pixels_beyond_it_count() -> None:
    sr = torch.zeros(1, 1, 4, 4)
    sr[0, 0, :, 2:] = 1
    assert float(detect(sr, Patch(top=0, left=0, size=2))) == pytest.approx(2, abs=1e-4)


def test_a_flat_patch_has_a_finite_slope() -> None:
    sr = torch.zeros(1, 1, 4, 4, requires_grad=True)
    (slope,) = torch.autograd.grad(detect(sr, Patch(top=0, left=0, size=4)), sr)
    assert slope.isfinite().all()


# ---- the path


def test_a_blurred_image_keeps_its_mean_colour_and_loses_detail(image: Tensor) -> None:
    flat = torch.full((3, 9, 9), 0.3)
    assert torch.allclose(blur(flat, 1.2), flat)
    assert blur(image, 1.2).std() < 0.5 * image.std()
    assert torch.equal(blur(image, 0), image)


def test_an_impulse_becomes_the_gaussian() -> None:
    impulse = torch.zeros(1, 21, 21)
    impulse[0, 10, 10] = 1
    spread = blur(impulse, 1.2)[0]
    assert float(spread.sum()) == pytest.approx(1, abs=1e-6)
    assert float(spread[10, 11] / spread[10, 10]) == pytest.approx(math.exp(-1 / (2 * 1.44)), rel=1e-5)
    assert torch.equal(spread.nonzero().amin(0), torch.tensor([6, 6]))


# ---- how wide


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0], 0),
        ([0.0, 0.0, 0.0, 1.0], 3 / 4),
        ([1.0, 2.0, 3.0, 4.0], 1 / 4),
        ([4.0, 1.0, 3.0, 2.0], 1 / 4),
        ([0.0, 0.0], 0),
    ],
)
def test_the_gini_index_of_known_distributions(values: list[float], expected: float) -> None:
    assert gini(torch.tensor(values)) == pytest.approx(expected)


def test_the_gini_index_of_a_uniform_distribution_is_a_third() -> None:
    assert gini(torch.linspace(0, 1, 100_001)) == pytest.approx(1 / 3, abs=1e-4)


def test_the_gini_index_is_the_mean_difference_over_twice_the_mean() -> None:
    values = torch.rand(50, dtype=torch.float64)
    differences = (values[:, None] - values[None, :]).abs().mean()
    assert gini(values) == pytest.approx(float(differences / (2 * values.mean())))


def test_the_diffusion_index_runs_from_one_pixel_to_all() -> None:
    one = torch.zeros(3, 10, 10)
    one[0, 2, 2] = -1
    alike = torch.ones(3, 10, 10)
    assert Attribution(values=one, sharp=0, blurred=0).diffusion_index == pytest.approx(1)  # 1 of 100 pixels
    assert Attribution(values=alike, sharp=0, blurred=0).diffusion_index == pytest.approx(100)


def test_channels_of_a_pixel_are_added_before_their_sign_is_dropped() -> None:
    values = torch.zeros(3, 1, 2)
    values[:, 0, 0] = torch.tensor([1.0, -1.0, 0.0])
    values[:, 0, 1] = torch.tensor([-1.0, -1.0, 0.0])
    assert Attribution(values=values, sharp=0, blurred=0).map.tolist() == [[0, 2]]
