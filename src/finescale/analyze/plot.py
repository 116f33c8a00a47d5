"""Quality against cost: a point for each network, those of the authors and those measured here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finescale import weights, zoo
from finescale.analyze.costs import input_for, subject
from finescale.analyze.published import BEYOND
from finescale.errors import DataError, WeightsError
from finescale.figures import svg as drawing
from finescale.metrics.cost import count_operations, count_parameters
from finescale.networks import FAMILIES, SCALES, SETS, published

Axis = Literal["parameters", "multiply-adds", "time"]

AXES: Mapping[str, str] = {
    "parameters": "parameters, in thousands",
    "multiply-adds": "multiply-adds for a result of 1280 x 720 pixels, in 10⁹",
    "time": "time of one forward, in ms",
}
"""What the horizontal axis can show, and the unit that stands below it."""

OTHERS = "others"
"""In place of a family's title, for networks that are of none."""

OUTPUT = (720, 1280)
"""(height, width) of the result that multiply-adds are counted for."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network in the figure."""

    label: str
    """Its name, for users."""
    family: str
    """Title of its family, or `OTHERS`."""
    x: float
    """Cost, in the unit of its axis."""
    psnr_db: float
    """Quality, on Y."""
    measured: bool
    """Whether the quality was measured here, not printed by the authors."""


@dataclass(frozen=True, kw_only=True)
class Points:
    """What a figure shows, and what it cannot."""

    points: Sequence[Point]
    """In the order of the networks."""
    left_out: Sequence[str]
    """Of each network whose cost is not known on this axis, why; one sentence each."""
    title: str
    """What stands above the figure."""
    unit: str
    """What stands below the horizontal axis."""


def gather_points(
    *,
    scale: int,
    axis: Axis,
    test_set: str,
    results: Iterable[Mapping[str, Any]] = (),
    costs: Iterable[Mapping[str, Any]] = (),
) -> Points:
    """The points of a figure: those that authors print, and those of results measured here.

    Args:
        scale: 2, 3 or 4.
        axis: What networks cost.
        test_set: One of the papers' sets, such as "Urban100".
        results: Rows of reports of ``finescale evaluate``.
        costs: Rows of reports of ``finescale analyze cost``; only they say what time networks take.

    Raises:
        ValueError: There is no such axis, set or scale.
        DataError: A row lacks a field, there is no time, or nothing is left to be shown.
    """
    if axis not in AXES:
        raise ValueError(f"the axis must be {', '.join(AXES)}, got {axis!r}")
    if scale not in SCALES:
        raise ValueError(f"scale must be 2, 3 or 4, got {scale}")
    names = {name.lower(): name for name in SETS}
    if test_set.lower() not in names:
        raise ValueError(f"the set must be one of {', '.join(SETS)}, got {test_set!r}")
    test_set = names[test_set.lower()]
    unit, times = AXES[axis], dict[str, float]()
    if axis == "time":
        times, size = _times(costs, scale)
        unit = f"{unit}, for {size[0]}x{size[1]} pixels on one machine"
    points, left_out, known = [], list[str](), dict[str, float | str]()
    for name, psnr_db, measured in (*_published(scale, test_set), *_measured(results, scale, test_set)):
        if name not in known:
            known[name] = _cost(name, scale, axis, times)
        x = known[name]
        if isinstance(x, str):
            left_out.append(x)
        else:
            points.append(_point(name, scale, x, psnr_db, measured=measured))
    if not points:
        raise DataError(f"no network has both a PSNR on {test_set} at x{scale} and a known cost; give --results")
    title = f"{test_set}, x{scale}"
    return Points(points=points, left_out=list(dict.fromkeys(left_out)), title=title, unit=unit)


def _published(scale: int, test_set: str) -> Iterator[tuple[str, float, bool]]:
    """Name and PSNR of every network that authors print on a set."""
    for (name, its_scale), facts in published().items():
        if its_scale == scale and test_set in facts.scores:
            yield name, facts.scores[test_set][0], False


def _measured(results: Iterable[Mapping[str, Any]], scale: int, test_set: str) -> Iterator[tuple[str, float, bool]]:
    """Name and PSNR of every network in reports of ``finescale evaluate``; the baseline costs nothing and is none."""
    for row in results:
        name, psnr_db = str(_field(row, "model")), _field(row, "psnr")
        wanted = _field(row, "scale") == scale and str(_field(row, "set")).lower() == test_set.lower()
        if wanted and name != "bicubic" and isinstance(psnr_db, float):
            yield name, psnr_db, True


def _field(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise DataError(
            f"a row of a report has no {name!r}: {', '.join(row) or 'it is empty'}; give a report of finescale"
        )
    return row[name]


def _times(costs: Iterable[Mapping[str, Any]], scale: int) -> tuple[dict[str, float], tuple[int, int]]:
    """Milliseconds of each network, and the size of the input: that at which most were timed, of these the largest."""
    by_size: dict[tuple[int, int], dict[str, float]] = {}
    for row in costs:
        timing = _field(row, "time")
        if _field(row, "scale") == scale and timing is not None:
            height, width = _field(row, "input_size")
            by_size.setdefault((height, width), {})[str(_field(row, "model"))] = 1000 * _field(timing, "median_s")
    if not by_size:
        raise DataError(
            f"no time is known at x{scale}; measure with 'finescale analyze cost --time --json > costs.json' and give "
            "--costs costs.json"
        )
    size = max(by_size, key=lambda size: (len(by_size[size]), size))
    return by_size[size], size


def _cost(name: str, scale: int, axis: Axis, times: Mapping[str, float]) -> float | str:
    """What a network takes, in the axis' unit; or why that is not known."""
    if axis == "time":
        return times.get(name, f"{name}: left out, its time was not measured")
    try:
        looked_at = subject(name, scale=scale)
    except (ValueError, WeightsError) as error:
        return f"{name}: left out, its cost is not known ({error})"
    if axis == "parameters":
        return count_parameters(looked_at.network) / 1e3
    shape = (1, looked_at.network.in_channels, *input_for(OUTPUT, scale=scale))
    return count_operations(looked_at.network, shape, beyond=BEYOND).multiply_adds / 1e9


def _point(name: str, scale: int, x: float, psnr_db: float, *, measured: bool) -> Point:
    families = {entry.name: entry.family for entry in zoo.models()}
    if name not in families:
        with suppress(ValueError, WeightsError):  # a name that only a report knows
            families[name] = weights.inspect(weights.find(name, scale=scale)).family
    about = FAMILIES[families[name]].about if name in families else None
    label, title = (about.label or Path(name).stem, about.title) if about else (Path(name).stem, OTHERS)
    return Point(label=label, family=title, x=x, psnr_db=psnr_db, measured=measured)


# ---- the figure

WIDTH, HEIGHT = 900, 600
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 50, 70  # margins around the axes
_RADIUS, _LETTERS = 6, 12  # of a point; size of a label
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")  # told apart by all eyes
_LEAST_SPAN_DB = 0.2

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


def draw_plot(shown: Points) -> str:
    """The figure as SVG: PSNR upwards, cost to the right in powers of ten, labels that do not lie on one another."""
    points = shown.points
    across = _Scale.around([math.log10(point.x) for point in points], least=0.3, begin=_LEFT, end=WIDTH - _RIGHT)
    up = _Scale.around([p.psnr_db for p in points], least=_LEAST_SPAN_DB, begin=HEIGHT - _BOTTOM, end=_TOP)
    titles = [*(family.about.title for family in FAMILIES.values()), OTHERS]
    colours = dict(zip(titles, itertools.cycle(_COLOURS)))
    colours = {title: colour for title, colour in colours.items() if any(point.family == title for point in points)}
    places = [(across(math.log10(point.x)), up(point.psnr_db)) for point in points]
    legend, legend_box = _legend(colours, measured=any(point.measured for point in points))
    parts = [*_axes(across, up, shown), *_pairs(points, places, colours)]
    for (x, y), label in zip(places, _place_labels(points, places, taken=legend_box), strict=True):
        if label is not None:
            left, _, right, bottom = label.box
            near = _nearest(label.box, (x, y))
            if math.dist((x, y), near) > 2 * _RADIUS:
                parts.append(drawing.line(x, y, *near, colour="#999", width=0.7))
            anchor, at = (
                ("start", left) if x < left else ("end", right) if x > right else ("middle", (left + right) / 2)
            )
            parts.append(drawing.text(at, bottom - 0.25 * _LETTERS, label.text, size=_LETTERS, anchor=anchor))
    for point, (x, y) in sorted(zip(points, places, strict=True), key=lambda pair: not pair[0].measured):
        # Rings lie on top and are wider, so that what lies below them is seen.
        radius = _RADIUS - 2 if point.measured else _RADIUS
        parts.append(drawing.circle(x, y, radius=radius, colour=colours[point.family], filled=point.measured))
    return drawing.svg(WIDTH, HEIGHT, [*parts, *legend])


@dataclass(frozen=True)
class _Scale:
    """From values to places in the figure."""

    low: float
    high: float
    begin: float
    end: float

    @classmethod
    def around(cls, values: Sequence[float], *, least: float, begin: float, end: float) -> _Scale:
        """With some room on both sides of the values, which span ``least`` at least."""
        middle, span = (min(values) + max(values)) / 2, max(max(values) - min(values), least)
        return cls(middle - 0.62 * span, middle + 0.62 * span, begin, end)

    def __call__(self, value: float) -> float:
        return self.begin + (value - self.low) / (self.high - self.low) * (self.end - self.begin)


def _axes(across: _Scale, up: _Scale, shown: Points) -> list[str]:
    """Title, grid, ticks and names of both axes."""
    parts = [drawing.text(WIDTH / 2, 30, shown.title, size=16, anchor="middle")]
    for tick in _powers(across.low, across.high):
        x = across(math.log10(tick))
        parts.append(drawing.line(x, up.begin, x, up.end, colour="#e5e5e5"))
        parts.append(drawing.text(x, up.begin + 18, f"{tick:,.6g}", anchor="middle"))
    for tick in _ticks(up.low, up.high):
        y = up(tick)
        parts.append(drawing.line(across.begin, y, across.end, y, colour="#e5e5e5"))
        parts.append(drawing.text(across.begin - 8, y + 4, f"{tick:.2f}", anchor="end"))
    parts.append(drawing.frame(across.begin, up.end, across.end - across.begin, up.begin - up.end, colour="#888"))
    parts.append(drawing.text((across.begin + across.end) / 2, HEIGHT - 22, shown.unit, size=14, anchor="middle"))
    parts.append(drawing.text(24, (up.begin + up.end) / 2, "PSNR on Y, in dB", size=14, anchor="middle", turn=-90))
    return parts


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten between two exponents."""
    exponents = range(math.floor(low), math.ceil(high) + 1)
    values = [factor * 10.0**exponent for exponent in exponents for factor in (1, 2, 5)]
    return [value for value in values if low <= math.log10(value) <= high]


def _ticks(low: float, high: float) -> list[float]:
    """About six round numbers between two."""
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _pairs(points: Sequence[Point], places: Sequence[tuple[float, float]], colours: Mapping[str, str]) -> list[str]:
    """Lines from what the authors of a network print to what was measured of it."""
    return [
        drawing.line(*places[one], *places[other], colour=colours[points[one].family])
        for one, other in itertools.combinations(range(len(points)), 2)
        if points[one].label == points[other].label and points[one].measured != points[other].measured
    ]


def _legend(colours: Mapping[str, str], *, measured: bool) -> tuple[list[str], Box]:
    """What colours and filling mean, at the lower right, and the room that it takes."""
    entries = [(name, colour, True) for name, colour in colours.items()]
    entries = [*entries, ("printed by the authors", "#888888", False)]
    entries += [("measured here", "#888888", True)] if measured else []
    width = 30 + drawing.LETTER * _LETTERS * max(len(name) for name, _, _ in entries)
    left, top = WIDTH - _RIGHT - width - 8, HEIGHT - _BOTTOM - 18 * len(entries) - 12
    parts = []
    for row, (name, colour, filled) in enumerate(entries):
        y = top + 16 + 18 * row
        parts.append(drawing.circle(left + 12, y - 4, radius=_RADIUS - 1, colour=colour, filled=filled))
        parts.append(drawing.text(left + 24, y, name, size=_LETTERS))
    return parts, (left, top, WIDTH - _RIGHT, HEIGHT - _BOTTOM)


@dataclass(frozen=True)
class _Label:
    text: str
    box: Box


def _place_labels(points: Sequence[Point], places: Sequence[tuple[float, float]], *, taken: Box) -> list[_Label | None]:
    """A place for each point's label, near it and free of points and other labels; None for a label's second point.

    The labels in the densest places choose first, each the nearest place that is free, or else the least covered one.
    """
    marks = [(x - _RADIUS - 2, y - _RADIUS - 2, x + _RADIUS + 2, y + _RADIUS + 2) for x, y in places]
    inside = (_LEFT + 2, _TOP + 2, WIDTH - _RIGHT - 2, HEIGHT - _BOTTOM - 2)
    boxes = [*marks, taken]
    first = {point.label: number for number, point in reversed(list(enumerate(points)))}
    crowd = {n: sum(math.dist(places[n], other) < 80 for other in places) for n in first.values()}
    labels: list[_Label | None] = [None] * len(points)
    for number in sorted(crowd, key=lambda n: -crowd[n]):
        label = points[number].label
        size = drawing.LETTER * _LETTERS * len(label), 1.25 * _LETTERS
        candidates = [_beside(places[number], size, angle, gap) for gap in (9, 18, 30, 45, 62, 80) for angle in _ANGLES]
        others = [box for other, box in enumerate(boxes) if other != number]
        box = min(candidates, key=lambda box: _badness(box, places[number], others, inside))
        labels[number] = _Label(label, box)
        boxes.append(box)
    return labels


_ANGLES = (0, 180, -90, 90, -30, 30, -150, 150, -60, 60, -120, 120)  # to the right first; upwards is negative


def _beside(place: tuple[float, float], size: tuple[float, float], angle: float, gap: float) -> Box:
    """A box of a size whose nearest edge or corner lies in a direction from a place."""
    along, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    (width, height), (x, y) = size, (place[0] + gap * along, place[1] + gap * down)
    left = x - width * (1 - along) / 2
    top = y - height * (1 - down) / 2
    return left, top, left + width, top + height


def _badness(box: Box, place: tuple[float, float], others: Sequence[Box], room: Box) -> float:
    """What speaks against a label: area that is covered or outside, and boxes that the line to its point crosses."""
    near = _nearest(box, place)
    line = [(place[0] + share * (near[0] - place[0]), place[1] + share * (near[1] - place[1])) for share in _SHARES]
    crossed = sum(any(_nearest(other, point) == point for point in line) for other in others)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _shared(box, room)
    return sum(_shared(box, other) for other in others) + outside + 50 * crossed


_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of a line from its point, where it is looked whether it crosses something


def _nearest(box: Box, place: tuple[float, float]) -> tuple[float, float]:
    """The point of a box that is nearest to a place."""
    return min(max(place[0], box[0]), box[2]), min(max(place[1], box[1]), box[3])


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)
