from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finescale.images import Image
from finescale.upscale import Tiling, Upscaler
from finescale.upscale.alpha import extend_color
from upscale.stand_ins import Convolutional, natural

MAGENTA = torch.tensor([1.0, 0.0, 1.0])[:, None, None]
GREEN = torch.tensor([0.1, 0.7, 0.2])[:, None, None]


def disc(size: int) -> torch.Tensor:
    """A soft disc, (1, size, size)."""
    axis = torch.arange(size) - (size - 1) / 2
    return (size / 3 - (axis[:, None] ** 2 + axis**2).sqrt()).clamp(0, 1)[None]


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 2**16))
def test_hidden_colours_come_from_visible_ones_and_those_stay(height: int, width: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    alpha = (torch.rand(1, height, width, generator=generator) - 0.7).clamp(0, 1)
    visible = alpha[0] > 0
    pixels = 0.25 + 0.5 * torch.rand(3, height, width, generator=generator)
    pixels[:, ~visible] = 1e9
    extended = extend_color(pixels, alpha)
    assert torch.equal(extended[:, visible], pixels[:, visible])
    if visible.any():
        assert extended.amin() >= 0.25 - 1e-5
        assert extended.amax() <= 0.75 + 1e-5


def test_one_visible_colour_is_carried_everywhere() -> None:
    alpha = torch.zeros(1, 33, 47)
    alpha[0, 30, 2] = 1 / 255
    pixels = torch.where(alpha > 0, GREEN, MAGENTA)
    torch.testing.assert_close(extend_color(pixels, alpha), GREEN.expand(3, 33, 47))


@pytest.mark.parametrize("opacity", [0.0, 0.5, 1.0])
def test_a_constant_alpha_stays_exactly_constant_and_costs_nothing(opacity: float) -> None:
    image = Image(natural(40, 30), torch.full((1, 40, 30), opacity))
    seen: list[tuple[int, int]] = []
    result = Upscaler(Convolutional())(image, on_tile=lambda done, total: seen.append((done, total)))
    assert result.alpha is not None
    assert torch.equal(result.alpha, torch.full((1, 80, 60), opacity))
    assert seen == [(1, 1)]


@pytest.mark.parametrize("tiling", [Tiling(tile=0), Tiling(tile=40)], ids=["whole", "tiled"])
def test_no_hidden_colour_shows_where_the_result_is_not_transparent(tiling: Tiling) -> None:
    alpha = disc(64)
    hidden = Image(torch.where(alpha > 0, GREEN, MAGENTA), alpha)
    honest = Image(GREEN.expand(3, 64, 64), alpha)
    upscaler = Upscaler(Convolutional(), tiling=tiling)
    result, expected = upscaler(hidden), upscaler(honest)
    torch.testing.assert_close(result.pixels, expected.pixels, rtol=0, atol=1e-5)
    assert result.alpha is not None
    assert expected.alpha is not None
    assert torch.equal(result.alpha, expected.alpha)
    assert result.alpha.amin() < 0.1 < 0.9 < result.alpha.amax()


def test_alpha_goes_through_the_network_as_gray() -> None:
    alpha = disc(48)
    upscaler = Upscaler(Convolutional())
    result = upscaler(Image(natural(48, 48), alpha))
    assert result.alpha is not None
    assert torch.equal(result.alpha, upscaler(alpha))
