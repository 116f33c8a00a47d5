from __future__ import annotations

import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finescale.figures import svg
from finescale.figures.axes import Scale, grid, log_ticks, ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 9))
def test_ticks_are_round_and_cover_the_range(low: float, width: float, num: int) -> None:
    found = ticks(low, low + width, num=num)
    step = found[1] - found[0]
    slack = 1e-9 * max(abs(low), width)
    assert found[0] <= low + slack
    assert found[-1] >= low + width - slack
    assert num / 3 < len(found) <= num + 2
    assert f"{step:.3g}".replace(".", "").strip("0").partition("e")[0].rstrip("0") in ("1", "2", "5")


def test_ticks_of_a_scale_lie_within_it() -> None:
    assert Scale(low=0.9, high=3.1, begin=0, end=1).ticks(num=5) == [1, 2, 3]
    assert Scale(low=0, high=14_000, begin=0, end=1).ticks(num=9) == list(range(0, 14_001, 2000))


def test_ticks_of_a_logarithmic_axis_are_1_2_and_5_times_powers_of_ten() -> None:
    assert log_ticks(math.log10(15), math.log10(600)) == [20, 50, 100, 200, 500]


def test_a_scale_maps_its_ends_and_what_lies_between() -> None:
    up = Scale(low=10, high=20, begin=500, end=100)
    assert [up(value) for value in (10, 15, 20)] == [500, 300, 100]


@pytest.mark.parametrize(("values", "around"), [([1.0, 3.0], (0.76, 3.24)), ([2.0, 2.1], (1.43, 2.67))])
def test_a_scale_leaves_a_margin_and_has_a_least_range(values: list[float], around: tuple[float, float]) -> None:
    scale = Scale.around(values, min_range=1, begin=0, end=1)
    assert (scale.low, scale.high) == pytest.approx(around)


def test_the_grid_has_a_line_and_a_label_for_each_tick() -> None:
    across, up = Scale(low=0, high=10, begin=80, end=180), Scale(low=0, high=1, begin=150, end=50)
    figure = ElementTree.fromstring(svg.document(200, 200, grid(across, up, columns={5: "five"}, rows={0.5: "half"})))
    row, row_label, column, column_label = list(figure)[1:]
    ends = ("x1", "y1", "x2", "y2")
    assert [float(row.attrib[end]) for end in ends] == [80, 100, 180, 100]
    assert [float(column.attrib[end]) for end in ends] == [130, 150, 130, 50]
    assert (row_label.text, row_label.get("text-anchor")) == ("half", "end")
    assert (column_label.text, float(column_label.attrib["x"])) == ("five", 130)
