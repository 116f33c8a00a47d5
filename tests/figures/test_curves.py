from __future__ import annotations

import math
import re

import pytest
import torch

from finescale.figures import svg
from finescale.figures.curves import Panel, Series, draw_curves, running_mean
from finescale.images import decode_image


def blue(figure: str) -> torch.Tensor:
    """Where the line lies, (H, W)."""
    red, _, blue = decode_image(svg.render(figure, density=1), name="curve").pixels
    return blue - red > 0.3


def test_a_falling_loss_falls_and_a_rising_psnr_rises() -> None:
    curves = [
        Panel("loss", [Series("a training", [(step, 1 / step) for step in range(10, 1000, 10)])]),
        Panel("PSNR", [Series("a training", [(step, math.log(step)) for step in range(100, 1000, 100)])]),
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
    drawn = blue(draw_curves([Panel("loss", [Series("mine", points)])], title="<b> & \x07"))
    assert drawn.any() == any(math.isfinite(value) for _, value in points)


def texts_of(figure: str) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", figure)


def lines_of(figure: str) -> list[tuple[str, list[tuple[float, float]]]]:
    """Colour and places of each full line, in their order."""
    found = re.findall(r'<polyline points="([^"]*)" fill="none" stroke="([^"]*)" stroke-width="2"', figure)
    return [
        (colour, [(float(x), float(y)) for x, y in (place.split(",") for place in points.split())])
        for points, colour in found
    ]


def test_several_trainings_have_one_colour_each_in_all_panels_and_a_legend() -> None:
    panels = [
        Panel("loss", [Series("A", [(0, 4.0), (100, 2.0)]), Series("B", [(0, 3.0), (50, 2.0)])]),
        Panel("PSNR", [Series("B", [(50, 30.0), (100, 31.0)])]),
    ]
    figure = draw_curves(panels, title="2 trainings")
    (first, a), (second, b), (third, c) = lines_of(figure)
    assert first != second == third
    assert {"A", "B", "2 trainings, 100 steps", "loss", "PSNR"} <= set(texts_of(figure))
    assert a[0][0] == b[0][0] < c[0][0] == b[1][0] < a[1][0]  # the same steps stand below each other
    assert a[0][1] < b[0][1] < a[1][1] == b[1][1]  # both share one scale; rows count downwards


def test_the_axis_begins_at_the_first_step() -> None:
    panel = Panel("loss", [Series("A", [(50, 4.0), (100, 2.0)])])
    (_, line), (_, later) = lines_of(draw_curves([panel], title="")) + lines_of(
        draw_curves([panel], title="", first_step=50)
    )
    assert later[0][0] == 90
    assert line[0][0] == (90 + 870) / 2


def test_a_long_line_of_several_is_drawn_faintly_under_its_running_mean() -> None:
    points = [(step, float(step % 2)) for step in range(200)]
    figure = draw_curves([Panel("loss", [Series("A", points), Series("B", [(0, 0.5)])])], title="")
    assert figure.count('stroke-opacity="0.2"') == 1
    alone = draw_curves([Panel("loss", [Series("A", points)])], title="")
    assert "stroke-opacity" not in alone
    mean = running_mean([(float(step), value) for step, value in points])  # over 4 values
    assert mean[:3] == [(0, 0), (1, 0.5), (2, pytest.approx(1 / 3))]
    assert {value for _, value in mean[3:]} == {0.5}
    assert running_mean([(0.0, 1.0), (1.0, 3.0)]) == [(0.0, 1.0), (1.0, 3.0)]
