"""Scatter plots over a logarithmic axis, with a label beside each point that covers no other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finescale.figures import svg
from finescale.figures.axes import Scale, grid, log_ticks

WIDTH, HEIGHT = 900, 600

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
Place = tuple[float, float]
"""Position in the figure: x, y."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 50, 70  # margins around the axes
_RADIUS = 6  # of a ring
_LABEL_SIZE = 12
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444")  # safe for the colour-blind
_NEUTRAL = "#888"  # of the frame and of what holds for all groups
_MIN_DECADES = 0.3  # range of the horizontal axis


@dataclass(frozen=True, kw_only=True)
class Marker:
    """One point of a scatter plot."""

    label: str
    """Text beside it; markers with the same label share one, and a line joins filled ones to hollow ones."""
    group: str
    """What its colour stands for."""
    x: float
    """Value on the logarithmic axis, positive."""
    y: float
    """Value on the vertical axis."""
    filled: bool
    """Whether it is a dot, not a ring."""


def draw_scatter(
    markers: Sequence[Marker],
    *,
    groups: Sequence[str],
    title: str,
    x_name: str,
    y_name: str,
    min_y_range: float,
    ring_means: str,
    dot_means: str,
) -> str:
    """Draw markers over a logarithmic horizontal axis, with labels that do not overlap.

    Args:
        markers: At least one.
        groups: All groups that there can be; each has the same colour in every figure, the legend shows those in use.
        title: Text above the axes.
        x_name: What the horizontal axis shows, with its unit.
        y_name: What the vertical axis shows, with its unit.
        min_y_range: Range of the vertical axis for markers that lie closer together.
        ring_means: What the legend says of hollow markers.
        dot_means: What it says of filled ones.

    Returns:
        An SVG document.
    """
    decades = [math.log10(marker.x) for marker in markers]
    heights = [marker.y for marker in markers]
    across = Scale.around(decades, min_range=_MIN_DECADES, begin=_LEFT, end=WIDTH - _RIGHT)
    up = Scale.around(heights, min_range=min_y_range, begin=HEIGHT - _BOTTOM, end=_TOP)
    places = [(across(x), up(y)) for x, y in zip(decades, heights, strict=True)]
    used = {marker.group for marker in markers}
    colours = {group: colour for group, colour in zip(groups, itertools.cycle(_COLOURS)) if group in used}
    meanings = [(group, colour, True) for group, colour in colours.items()]
    meanings.append((ring_means, _NEUTRAL, False))
    if any(marker.filled for marker in markers):
        meanings.append((dot_means, _NEUTRAL, True))
    legend, legend_box = _legend(meanings)
    parts = [
        svg.text(WIDTH / 2, 30, title, size=16, anchor="middle"),
        *_axes(across, up, x_name, y_name),
        *_joining_lines(markers, places, colours),
    ]
    for place, label in zip(places, _place_labels(markers, places, taken=legend_box), strict=True):
        if label is not None:
            parts += _draw_label(label, place)
    for marker, (x, y) in sorted(zip(markers, places, strict=True), key=lambda pair: not pair[0].filled):
        # Rings are drawn last and are wider, so that a dot below one stays visible.
        radius = _RADIUS - 2 if marker.filled else _RADIUS
        parts.append(svg.circle(x, y, radius=radius, colour=colours[marker.group], filled=marker.filled))
    return svg.document(WIDTH, HEIGHT, [*parts, *legend])


def _axes(across: Scale, up: Scale, x_name: str, y_name: str) -> list[str]:
    """Grid, frame and names of both axes."""
    return [
        *grid(
            across,
            up,
            columns={math.log10(value): f"{value:,.6g}" for value in log_ticks(across.low, across.high)},
            rows={tick: f"{tick:.2f}" for tick in up.ticks(num=7)},
        ),
        svg.outline(across.begin, up.end, across.end - across.begin, up.begin - up.end, colour=_NEUTRAL),
        svg.text((across.begin + across.end) / 2, HEIGHT - 22, x_name, size=14, anchor="middle"),
        svg.text(24, (up.begin + up.end) / 2, y_name, size=14, anchor="middle", turn=-90),
    ]


def _joining_lines(markers: Sequence[Marker], places: Sequence[Place], colours: Mapping[str, str]) -> list[str]:
    """Lines between filled and hollow markers with the same label."""
    return [
        svg.line(*places[one], *places[other], colour=colours[markers[one].group])
        for one, other in itertools.combinations(range(len(markers)), 2)
        if markers[one].label == markers[other].label and markers[one].filled != markers[other].filled
    ]


def _legend(meanings: Sequence[tuple[str, str, bool]]) -> tuple[list[str], Box]:
    """Legend in the lower right corner, from (text, colour, filled), and the box that it occupies."""
    width = 30 + svg.LETTER_WIDTH * _LABEL_SIZE * max(len(meaning) for meaning, _, _ in meanings)
    left, top = WIDTH - _RIGHT - width - 8, HEIGHT - _BOTTOM - 18 * len(meanings) - 12
    parts = []
    for row, (meaning, colour, filled) in enumerate(meanings):
        y = top + 16 + 18 * row
        parts.append(svg.circle(left + 12, y - 4, radius=_RADIUS - 1, colour=colour, filled=filled))
        parts.append(svg.text(left + 24, y, meaning, size=_LABEL_SIZE))
    return parts, (left, top, WIDTH - _RIGHT, HEIGHT - _BOTTOM)


# ---- labels

_ANGLES = (0, 180, -90, 90, -30, 30, -150, 150, -60, 60, -120, 120)  # in order of preference; negative is up
_GAPS = (9, 18, 30, 45, 62, 80)  # between a point and its label
_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the line from a point to its label: where crossings are sought


@dataclass(frozen=True)
class _Label:
    text: str
    box: Box


def _draw_label(label: _Label, place: Place) -> list[str]:
    """Text, and a line to its marker where the two are far apart."""
    (left, _, right, bottom), x = label.box, place[0]
    near = _nearest(label.box, place)
    parts = [svg.line(*place, *near, colour="#999", width=0.7)] if math.dist(place, near) > 2 * _RADIUS else []
    anchor, at = ("start", left) if x < left else ("end", right) if x > right else ("middle", (left + right) / 2)
    return [*parts, svg.text(at, bottom - 0.25 * _LABEL_SIZE, label.text, size=_LABEL_SIZE, anchor=anchor)]


def _place_labels(markers: Sequence[Marker], places: Sequence[Place], *, taken: Box) -> list[_Label | None]:
    """Return a place for each marker's label, or None where an earlier marker carries the same label.

    Labels in crowded places choose first. Each takes the nearest free place, or the one that covers least.
    """
    discs = [(x - _RADIUS - 2, y - _RADIUS - 2, x + _RADIUS + 2, y + _RADIUS + 2) for x, y in places]
    inside = (_LEFT + 2, _TOP + 2, WIDTH - _RIGHT - 2, HEIGHT - _BOTTOM - 2)
    boxes = [*discs, taken]
    first = {marker.label: number for number, marker in reversed(list(enumerate(markers)))}
    crowd = {n: sum(math.dist(places[n], other) < 80 for other in places) for n in first.values()}
    labels: list[_Label | None] = [None] * len(markers)
    for number in sorted(crowd, key=lambda n: -crowd[n]):
        label = markers[number].label
        size = svg.LETTER_WIDTH * _LABEL_SIZE * len(label), 1.25 * _LABEL_SIZE
        candidates = [_beside(places[number], size, angle, gap) for gap in _GAPS for angle in _ANGLES]
        others = [box for other, box in enumerate(boxes) if other != number]
        box = min(candidates, key=lambda box: _penalty(box, places[number], others, inside))
        labels[number] = _Label(label, box)
        boxes.append(box)
    return labels


def _beside(place: Place, size: tuple[float, float], angle: float, gap: float) -> Box:
    """Box of a (width, height) whose nearest edge or corner lies at an angle and a distance from a place."""
    along, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    (width, height), (x, y) = size, (place[0] + gap * along, place[1] + gap * down)
    left = x - width * (1 - along) / 2
    top = y - height * (1 - down) / 2
    return left, top, left + width, top + height


def _penalty(box: Box, place: Place, others: Sequence[Box], inside: Box) -> float:
    """Area of a label that overlaps others or lies outside, and 50 for each box that the line to its point crosses."""
    near = _nearest(box, place)
    line = [(place[0] + share * (near[0] - place[0]), place[1] + share * (near[1] - place[1])) for share in _SHARES]
    crossed = sum(any(_nearest(other, point) == point for point in line) for other in others)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - _overlap(box, inside)
    return sum(_overlap(box, other) for other in others) + outside + 50 * crossed


def _nearest(box: Box, place: Place) -> Place:
    """The point of a box that is nearest to a place."""
    return min(max(place[0], box[0]), box[2]), min(max(place[1], box[1]), box[3])


def _overlap(one: Box, other: Box) -> float:
    """Area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)
