"""Scatter plots over a logarithmic axis, with a label beside each point that covers no other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finescale.figures import svg
from finescale.figures.axes import Scale, grid, log_ticks, ticks

WIDTH, HEIGHT = 900, 600

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""
Place = tuple[float, float]
"""Position in the figure: x, y."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 30, 50, 70  # margins around the axes
_RADIUS = 6  # of a ring
_SMALLEST, _LARGEST = 5, 34  # radii of points whose area shows a quantity
_LABEL_SIZE = 12
_NEUTRAL = "#888"  # of the frame and of what holds for all groups
_OTHERS = "#444"  # of the last group
_ROW = 18  # height of a row of the legend
_APART = 22  # between the circles of a scale of areas
_MIN_DECADES = 0.3  # range of the horizontal axis
_MIN_COLUMNS = 4  # of its grid


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
    area: float | None = None
    """Positive value that its area shows, of every marker or of none."""


def draw_scatter(
    markers: Sequence[Marker],
    *,
    groups: Sequence[str],
    title: str,
    x_name: str,
    y_name: str,
    area_name: str | None = None,
    min_y_range: float,
    ring_means: str,
    dot_means: str,
) -> str:
    """Draw markers over a logarithmic horizontal axis, with labels that do not overlap.

    Args:
        markers: At least one.
        groups: All groups that there can be; each has the same colour in every figure, the last one gray. The legend
            shows those in use.
        title: Text above the axes.
        x_name: What the horizontal axis shows, with its unit.
        y_name: What the vertical axis shows, with its unit.
        area_name: What the areas of the markers show, with its unit; None draws equal markers.
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
    radii = _radii(markers) if area_name is not None else [_RADIUS] * len(markers)
    used = {marker.group for marker in markers}
    palette = [*svg.colours(len(groups) - 1), _OTHERS]
    colours = {group: colour for group, colour in zip(groups, palette, strict=True) if group in used}
    meanings = [(group, colour, True) for group, colour in colours.items()]
    meanings.append((ring_means, _NEUTRAL, False))
    if any(marker.filled for marker in markers):
        meanings.append((dot_means, _NEUTRAL, True))
    largest = max((marker.area or 0 for marker in markers), default=0)
    discs = [_around(place, radius) for place, radius in zip(places, radii, strict=True)]
    legend, legend_box = _legend(meanings, area_name, largest, discs)
    parts = [
        svg.text(WIDTH / 2, 30, title, size=16, anchor="middle"),
        *_axes(across, up, x_name, y_name),
        *_joining_lines(markers, places, colours),
    ]
    labels = _place_labels(markers, places, radii, taken=legend_box)
    drawn = sorted(zip(markers, places, radii, strict=True), key=lambda one: (-one[2], not one[0].filled))
    for marker, (x, y), radius in drawn:
        # Small markers are drawn after large ones, and rings, which are wider, after dots, so that all stay visible.
        shown = radius - 2 if marker.filled and area_name is None else radius
        opacity = 1.0 if area_name is None else 0.55 if marker.filled else 0.12
        is_filled = marker.filled or area_name is not None
        parts.append(svg.circle(x, y, radius=shown, colour=colours[marker.group], filled=is_filled, opacity=opacity))
    for place, radius, label in zip(places, radii, labels, strict=True):
        if label is not None:
            parts += _draw_label(label, place, radius)
    return svg.document(WIDTH, HEIGHT, [*parts, *legend])


def _radii(markers: Sequence[Marker]) -> list[float]:
    """Radii whose squares are proportional to the areas, down to a smallest one that can be seen."""
    largest = max(marker.area or 0 for marker in markers)
    return [max(_SMALLEST, _LARGEST * math.sqrt((marker.area or 0) / largest)) for marker in markers]


def _around(place: Place, radius: float) -> Box:
    """Box around a marker, with a little space."""
    (x, y), half = place, radius + 2
    return x - half, y - half, x + half, y + half


def _axes(across: Scale, up: Scale, x_name: str, y_name: str) -> list[str]:
    """Grid, frame and names of both axes."""
    return [
        *grid(
            across,
            up,
            columns={math.log10(value): f"{value:,.6g}" for value in _columns(across.low, across.high)},
            rows={tick: f"{tick:.2f}" for tick in up.ticks(num=7)},
        ),
        svg.outline(across.begin, up.end, across.end - across.begin, up.begin - up.end, colour=_NEUTRAL),
        svg.text((across.begin + across.end) / 2, HEIGHT - 22, x_name, size=14, anchor="middle"),
        svg.text(24, (up.begin + up.end) / 2, y_name, size=14, anchor="middle", turn=-90),
    ]


def _columns(low: float, high: float) -> list[float]:
    """Return round values between 10**low and 10**high, closer together where powers of ten give too few."""
    values = log_ticks(low, high)
    if len(values) >= _MIN_COLUMNS:
        return values
    first, last = 10.0**low, 10.0**high
    return [value for value in ticks(first, last, num=_MIN_COLUMNS + 2) if first <= value <= last]


def _joining_lines(markers: Sequence[Marker], places: Sequence[Place], colours: Mapping[str, str]) -> list[str]:
    """Lines between filled and hollow markers with the same label."""
    return [
        svg.line(*places[one], *places[other], colour=colours[markers[one].group])
        for one, other in itertools.combinations(range(len(markers)), 2)
        if markers[one].label == markers[other].label and markers[one].filled != markers[other].filled
    ]


def _legend(
    meanings: Sequence[tuple[str, str, bool]], area_name: str | None, largest: float, discs: Sequence[Box]
) -> tuple[list[str], Box]:
    """Legend in the corner that covers the least of the markers, and the box that it occupies.

    Args:
        meanings: Text, colour, and whether the marker is filled, for each row.
        area_name: What areas show; None without a scale of areas.
        largest: Largest value that an area shows.
        discs: Boxes of the markers.
    """
    sizes = _sizes(largest) if area_name is not None else []
    widths = [26 + svg.LETTER_WIDTH * _LABEL_SIZE * len(meaning) for meaning, _, _ in meanings]
    height, tallest = _ROW * len(meanings) + 12.0, 0.0
    if area_name is not None:
        tallest = 2 * max(radius for _, radius in sizes)
        widths += [svg.LETTER_WIDTH * _LABEL_SIZE * len(f"area: {area_name}")]
        widths += [sum(2 * radius + _APART for _, radius in sizes) - _APART]
        height += 2 * _ROW + tallest + 8
    width = max(widths) + 16
    left, top, right, bottom = _LEFT + 6, _TOP + 6, WIDTH - _RIGHT - 6, HEIGHT - _BOTTOM - 6
    corners = [(x, y) for y in (bottom - height, top) for x in (right - width, left)]
    boxes = [(x, y, x + width, y + height) for x, y in corners]
    box = min(boxes, key=lambda box: sum(_overlap(box, disc) for disc in discs))
    x, y = box[:2]
    parts = [svg.panel(x, y, width, height, colour="#ccc")]
    for row, (meaning, colour, filled) in enumerate(meanings):
        baseline = y + 18 + _ROW * row
        parts.append(svg.circle(x + 14, baseline - 4, radius=_RADIUS - 1, colour=colour, filled=filled))
        parts.append(svg.text(x + 26, baseline, meaning, size=_LABEL_SIZE))
    if area_name is not None:
        baseline = y + 18 + _ROW * len(meanings)
        parts.append(svg.text(x + 8, baseline, f"area: {area_name}", size=_LABEL_SIZE))
        ground, middle = baseline + 8 + tallest, x + 8.0
        for value, radius in sizes:
            middle += radius
            parts.append(svg.circle(middle, ground - radius, radius=radius, colour=_NEUTRAL, filled=False))
            parts.append(svg.text(middle, ground + 16, f"{value:,.6g}", size=_LABEL_SIZE, anchor="middle"))
            middle += radius + _APART
    return parts, box


def _sizes(largest: float) -> list[tuple[float, float]]:
    """Round values for a scale of areas, with their radii, from the smallest."""
    rounds = log_ticks(math.log10(largest) - 3, math.log10(largest))
    chosen = [next(value for value in reversed(rounds) if value <= largest / part) for part in (16, 4, 1)]
    return [(value, max(_SMALLEST, _LARGEST * math.sqrt(value / largest))) for value in dict.fromkeys(chosen)]


# ---- labels

_ANGLES = (0, 180, -90, 90, -30, 30, -150, 150, -60, 60, -120, 120)  # in order of preference; negative is up
_GAPS = (9, 18, 30, 45, 62, 80)  # between a point and its label
_SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)  # of the line from a point to its label: where crossings are sought


@dataclass(frozen=True)
class _Label:
    text: str
    box: Box


def _draw_label(label: _Label, place: Place, radius: float) -> list[str]:
    """Text, and a line to its marker where the two are far apart."""
    (left, _, right, bottom), x = label.box, place[0]
    near = _nearest(label.box, place)
    parts, distance = [], math.dist(place, near)
    if distance > radius + _RADIUS:
        share = radius / distance  # the line begins at the marker's rim
        rim = x + share * (near[0] - x), place[1] + share * (near[1] - place[1])
        parts.append(svg.line(*rim, *near, colour="#999", width=0.7))
    anchor, at = ("start", left) if x < left else ("end", right) if x > right else ("middle", (left + right) / 2)
    return [*parts, svg.text(at, bottom - 0.25 * _LABEL_SIZE, label.text, size=_LABEL_SIZE, anchor=anchor)]


def _place_labels(
    markers: Sequence[Marker], places: Sequence[Place], radii: Sequence[float], *, taken: Box
) -> list[_Label | None]:
    """Return a place for each marker's label, or None where an earlier marker carries the same label.

    Labels in crowded places choose first. Each takes the nearest free place, or the one that covers least.
    """
    discs = [_around(place, radius) for place, radius in zip(places, radii, strict=True)]
    inside = (_LEFT + 2, _TOP + 2, WIDTH - _RIGHT - 2, HEIGHT - _BOTTOM - 2)
    boxes = [*discs, taken]
    first = {marker.label: number for number, marker in reversed(list(enumerate(markers)))}
    crowd = {n: sum(math.dist(places[n], other) < 80 for other in places) for n in first.values()}
    labels: list[_Label | None] = [None] * len(markers)
    for number in sorted(crowd, key=lambda n: -crowd[n]):
        label = markers[number].label
        size = svg.LETTER_WIDTH * _LABEL_SIZE * len(label), 1.25 * _LABEL_SIZE
        further = radii[number] - _RADIUS
        candidates = [_beside(places[number], size, angle, gap + further) for gap in _GAPS for angle in _ANGLES]
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
