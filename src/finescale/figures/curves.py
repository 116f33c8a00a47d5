"""Training curves: values over steps, one panel below another, a line for each training."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from finescale.figures import svg
from finescale.figures.axes import Scale, grid, ticks

_WIDTH, _HEIGHT = 900, 260  # of one panel
_TALL = 360  # height of a panel that compares trainings
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 30, 50, 40  # margins around the axes of a panel
_TITLE = 50  # height above the first panel
_ROW = 20  # height of a row of the legend
_LABEL_SIZE = 13
_STROKE = 24  # length of a line in the legend
_WINDOWS = 50  # part of a line over which its running mean is taken, as its inverse


@dataclass(frozen=True)
class Series:
    """Values of one training over its steps."""

    name: str
    """The training."""
    points: Sequence[tuple[int, float]]
    """Steps and values, at least one; values that are not finite are left out."""


@dataclass(frozen=True)
class Panel:
    """One quantity, of one or several trainings."""

    name: str
    """What the values are, with their unit."""
    series: Sequence[Series]
    """At least one."""


def draw_curves(panels: Sequence[Panel], *, title: str, first_step: int = 0) -> str:
    """Draw one panel below another over the same steps, each with its own range of values.

    A training has one colour in all panels. Several trainings are named in a legend, and a line of 100 values or more
    is drawn faintly under its running mean, so that they can be told apart.

    Args:
        panels: From the top.
        title: Text above the panels; the number of steps is added.
        first_step: Left end of the horizontal axis.

    Returns:
        An SVG document.
    """
    names = list(dict.fromkeys(series.name for panel in panels for series in panel.series))
    colours = dict(zip(names, svg.colours(len(names)), strict=True))
    last_step = max(step for panel in panels for series in panel.series for step, _ in series.points)
    height = _HEIGHT if len(names) == 1 else _TALL
    parts = [svg.text(_LEFT, 34, f"{title}, {last_step:,} steps", size=20)]
    top = float(_TITLE)
    if len(names) > 1:
        rows = _legend(colours)
        parts += rows
        top += _legend_height(names)
    for number, panel in enumerate(panels):
        drawn = _panel(panel, (first_step, max(last_step, first_step + 1)), height=height, colours=colours)
        parts.append(svg.group(drawn, down=top + number * height))
    return svg.document(_WIDTH, top + height * len(panels), parts)


def _legend(colours: dict[str, str]) -> list[str]:
    """A stroke and a name for each training, in rows below the title."""
    parts = []
    for name, x, row in _legend_places(list(colours)):
        y = _TITLE + _ROW * (row + 0.5)
        parts.append(svg.line(x, y - 4, x + _STROKE, y - 4, colour=colours[name], width=3))
        parts.append(svg.text(x + _STROKE + 6, y, name, size=_LABEL_SIZE))
    return parts


def _legend_places(names: Sequence[str]) -> Iterator[tuple[str, float, int]]:
    """Yield each name with the left end of its stroke and its row."""
    x, row = float(_LEFT), 0
    for name in names:
        width = _STROKE + 30 + svg.LETTER_WIDTH * _LABEL_SIZE * len(name)
        if x > _LEFT and x + width > _WIDTH - _RIGHT:
            x, row = float(_LEFT), row + 1
        yield name, x, row
        x += width


def _legend_height(names: Sequence[str]) -> float:
    return _ROW * (1 + max(row for _, _, row in _legend_places(names)))


def _panel(panel: Panel, steps: tuple[int, int], *, height: int, colours: dict[str, str]) -> list[str]:
    """Heading, grid and lines of one quantity."""
    lines = {one.name: [(step, value) for step, value in one.points if math.isfinite(value)] for one in panel.series}
    values = [value for points in lines.values() for _, value in points] or [0.0]
    low, high = min(values), max(values)
    if high - low < 1e-6 * max(abs(high), 1e-6):  # a single value has no range
        low, high = low - abs(low or 1) / 10, high + abs(high or 1) / 10
    rows = ticks(low, high, num=5)
    across = Scale(low=steps[0], high=steps[1], begin=_LEFT, end=_WIDTH - _RIGHT)
    up = Scale(low=rows[0], high=rows[-1], begin=height - _BOTTOM, end=_TOP)
    is_alone = len(colours) == 1
    first = next(iter(lines.values()))
    last_value = f", last {first[-1][1]:.4g}" if is_alone and first else ""
    parts = [
        svg.text(_LEFT, 30, panel.name + last_value, size=15),
        *grid(
            across,
            up,
            columns={tick: f"{tick:,.0f}" for tick in across.ticks(num=9)},
            rows={tick: f"{tick:.6g}" for tick in rows},
        ),
    ]
    for name, points in lines.items():
        places = [(across(step), up(value)) for step, value in points]
        drawn = places if is_alone else running_mean(places)
        if drawn is not places:
            parts.append(svg.polyline(places, colour=colours[name], width=1, opacity=0.2))
        parts.append(svg.polyline(drawn, colour=colours[name], width=2))
        if drawn:
            parts.append(svg.circle(*drawn[-1], radius=2.5, colour=colours[name], filled=True))
    return parts


def running_mean(places: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Average each value with those before it, over a fiftieth of the line; return a line of few values itself."""
    window = len(places) // _WINDOWS
    if window < 2:
        return places
    return [
        (x, fmean(y for _, y in places[max(0, number + 1 - window) : number + 1]))
        for number, (x, _) in enumerate(places)
    ]
