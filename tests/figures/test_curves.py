from __future__ import annotations

import math

import pytest
import torch

from finescale.figures import svg
from finescale.figures.curves import Series, draw_curves
from finescale.images import decode_image


def blue(figure: str) -> torch.Tensor:
    """Where the line lies, (H, W)."""
    red, _, blue = decode_image(svg.render(figure, density=1), name="curve").pixels
    return blue - red > 0.3


def test_a_falling_loss_falls_and_a_rising_psnr_rises() -> None:
    curves = [
        Series("loss", [(step, 1 / step) for step in range(10, 1000, 10)]),
        Series("PSNR", [(step, math.log(step)) for step in range(100, 1000, 100)]),
    ]
    drawn = blue(draw_curves(curves, title="a training"))
    assert drawn.shape == (50 + 2 * 260, 900)
    for panel, falls in ((drawn[50:310], True), (drawn[310:], False)):
        rows = torch.arange(260.0)[:, None]
        columns = panel.any(0).nonzero()[:, 0]
        left, right = ((panel[:, at] * rows[:, 0]).sum() / panel[:, at].sum() for at in (columns[5], columns[-5]))
        assert (left < right) == falls  # rows count downwards


@pytest.mark.parametrize("points", [[(5, 0.25)], [(1, 0.0), (2, 0.0)], [(1, math.nan)], [(1, math.inf), (2, 3.0)]])
def test_few_equal_or_infinite_values_are_drawn_as_well(points: list[tuple[int, float]]) -> None:
    drawn = blue(draw_curves([Series("loss", points)], title="<b> & \x07"))
    assert drawn.any() == any(math.isfinite(value) for _, value in points)
