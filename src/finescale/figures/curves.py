"""Training curves: values over steps, one panel for each series."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finescale.figures import svg
from finescale.figures.axes import Scale, grid, ticks

_WIDTH, _HEIGHT = 900, 260  # of one panel
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 50, 40  # margins around the axes of a panel
_TITLE = 50  # height above the first panel
_COLOUR = "#0b62a4"


@dataclass(frozen=True)
class Series:
    """Values over steps."""

    name: str
    """What the values are, with their unit."""
    points: Sequence[tuple[int, float]]
    """Steps and values, at least one; values that are not finite are left out."""


def draw_curves(series: Sequence[Series], *, title: str) -> str:
    """Draw one curve below another over the same steps, each with its own range of values.

    Args:
        series: One for each panel, from the top.
        title: Text above the panels; the number of steps is added.

    Returns:
        An SVG document.
    """
    last_step = max(step for one in series for step, _ in one.points)
    parts = [svg.text(_LEFT, 34, f"{title}, {last_step:,} steps", size=20)]
    for number, one in enumerate(series):
        parts.append(svg.group(_panel(one, max(last_step, 1)), down=_TITLE + number * _HEIGHT))
    return svg.document(_WIDTH, _TITLE + _HEIGHT * len(series), parts)


def _panel(series: Series, last_step: int) -> list[str]:
    """Heading, grid and curve of one series."""
    points = [(step, value) for step, value in series.points if math.isfinite(value)]
    values = [value for _, value in points] or [0.0]
    low, high = min(values), max(values)
    if high - low < 1e-6 * max(abs(high), 1e-6):  # a single value has no range
        low, high = low - abs(low or 1) / 10, high + abs(high or 1) / 10
    rows = ticks(low, high, num=5)
    across = Scale(low=0, high=last_step, begin=_LEFT, end=_WIDTH - _RIGHT)
    up = Scale(low=rows[0], high=rows[-1], begin=_HEIGHT - _BOTTOM, end=_TOP)
    last_value = f", last {points[-1][1]:.4g}" if points else ""
    parts = [
        svg.text(_LEFT, 30, series.name + last_value, size=15),
        *grid(
            across,
            up,
            columns={tick: f"{tick:,.0f}" for tick in across.ticks(num=9)},
            rows={tick: f"{tick:.6g}" for tick in rows},
        ),
        svg.polyline(((across(step), up(value)) for step, value in points), colour=_COLOUR, width=2),
    ]
    if points:
        step, value = points[-1]
        parts.append(svg.circle(across(step), up(value), radius=2.5, colour=_COLOUR, filled=True))
    return parts
