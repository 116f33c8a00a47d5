from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from finescale.figures.scatter import HEIGHT, WIDTH, Box, Marker, draw_scatter

SVG = "{http://www.w3.org/2000/svg}"
GROUPS = ("hit", "craft", "drct", "proxy", "dat", "others")

# What papers report at x4 on Urban100, over thousands of parameters: some stand close together.
CROWD = [
    Marker(label=label, group=group, x=x, y=y, filled=filled)
    for label, group, x, y, filled in (
        ("hit-sir", "hit", 791.54, 26.71, False),
        ("hit-sng", "hit", 1032.06, 26.75, False),
        ("hit-srf", "hit", 866.42, 26.8, False),
        ("hit-srf-df2k", "hit", 866.42, 27.0, False),
        ("craft", "craft", 753.344, 26.56, False),
        ("craft-8bit", "craft", 753.344, 26.49, False),
        ("craft-6bit", "craft", 753.344, 26.16, False),
        ("craft-4bit", "craft", 753.344, 24.5, False),
        ("drct", "drct", 14139.579, 28.06, False),
        ("drct-l", "drct", 27580.719, 28.7, False),
        ("dat-s", "dat", 11212.131, 27.68, False),
        ("dat", "dat", 14802.051, 27.87, False),
        ("dat-2", "dat", 11212.131, 27.86, False),
        ("dat-light", "dat", 572.766, 26.64, False),
        ("default", "hit", 297.318, 25.1, True),
        ("sliding proxy", "proxy", 519.156, 26.64, True),
        ("hit-srf", "hit", 866.42, 26.7, True),
    )
]


def draw(markers: Sequence[Marker]) -> str:
    return draw_scatter(
        markers,
        groups=GROUPS,
        title="a title",
        x_name="cost",
        y_name="quality",
        min_y_range=0.2,
        ring_means="reported",
        dot_means="measured",
    )


def texts_of(markers: Sequence[Marker]) -> set[str | None]:
    return {element.text for element in ElementTree.fromstring(draw(markers)).iter(f"{SVG}text")}


def boxes_of(markers: Sequence[Marker]) -> dict[str, Box]:
    """Where labels stand, by the estimated width of their letters."""
    found = {}
    for element in ElementTree.fromstring(draw(markers)).iter(f"{SVG}text"):
        if element.text in {marker.label for marker in markers}:
            width = 0.62 * 12 * len(element.text)
            x, y = float(str(element.get("x"))), float(str(element.get("y")))
            left = x - {"start": 0, "middle": width / 2, "end": width}[str(element.get("text-anchor"))]
            found[element.text] = left, y - 11, left + width, y + 2
    return found


def test_each_marker_has_a_label_and_no_label_lies_on_another_or_outside() -> None:
    boxes = boxes_of(CROWD)
    assert set(boxes) == {marker.label for marker in CROWD}
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one} lies on {other}"
    assert all(box[0] > 0 and box[1] > 0 and box[2] < WIDTH and box[3] < HEIGHT for box in boxes.values())


def test_markers_with_the_same_label_share_one_and_a_line_joins_dot_and_ring() -> None:
    figure = ElementTree.fromstring(draw(CROWD))
    assert sum(element.text == "hit-srf" for element in figure.iter(f"{SVG}text")) == 1
    circles = {(circle.get("cx"), circle.get("cy")) for circle in figure.iter(f"{SVG}circle")}
    ends = [
        ((line.get("x1"), line.get("y1")), (line.get("x2"), line.get("y2")))
        for line in figure.iter(f"{SVG}line")
        if line.get("stroke") == "#0072b2"
    ]
    assert len(ends) == 1
    assert set(ends[0]) <= circles


def test_powers_of_ten_stand_at_equal_distances() -> None:
    markers = [Marker(label=f"{x}", group="others", x=x, y=30, filled=True) for x in (10.0, 100.0, 1000.0)]
    across = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', draw(markers))[:3]]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)


def test_a_single_marker_can_be_drawn() -> None:
    assert "one" in draw([Marker(label="one", group="others", x=500, y=30, filled=True)])


def test_the_legend_shows_groups_in_use_and_dots_only_where_there_are_some() -> None:
    assert {"hit", "craft", "drct", "proxy", "dat", "reported", "measured"} <= texts_of(CROWD)
    assert "others" not in texts_of(CROWD)
    assert "measured" not in texts_of(CROWD[:4])


def test_a_group_has_the_same_colour_whichever_others_are_shown() -> None:
    alone = draw([marker for marker in CROWD if marker.group == "dat"])
    assert re.findall(r'<circle [^>]*stroke="(#e69f00)"', alone)
    assert re.findall(r'<circle [^>]*stroke="(#e69f00)"', draw(CROWD))


def test_areas_are_in_proportion_and_a_scale_of_round_values_stands_in_the_legend() -> None:
    markers = [
        Marker(label=str(x), group="hit", x=x, y=30 + x / 100, filled=False, area=area)
        for x, area in ((10.0, 1000.0), (100.0, 250.0), (1000.0, 0.001))
    ]
    figure = draw_scatter(
        markers, groups=GROUPS, title="", x_name="", y_name="", area_name="memory, in MiB", min_y_range=0.2,
        ring_means="reported", dot_means="measured",
    )  # fmt: skip
    radii = [float(r) for r in re.findall(r'<circle [^>]*r="([\d.]+)"[^>]*stroke="#0072b2"', figure)][:3]
    assert radii == [34, 17, 5]  # the last one is too small to be seen otherwise
    texts = [element.text for element in ElementTree.fromstring(figure).iter(f"{SVG}text")]
    assert "area: memory, in MiB" in texts
    assert {"50", "200", "1,000"} <= set(texts)


def test_the_legend_stands_where_no_marker_is() -> None:
    for x, y in itertools.product((10.0, 1000.0), (30.0, 31.0)):
        others = [(a, b) for a, b in itertools.product((10.0, 1000.0), (30.0, 31.0)) if (a, b) != (x, y)]
        markers = [Marker(label=f"{a} {b}", group="hit", x=a, y=b, filled=False) for a, b in others]
        (frame,) = [
            element for element in ElementTree.fromstring(draw(markers)).iter(f"{SVG}rect") if element.get("rx")
        ]
        is_left, is_upper = float(str(frame.get("x"))) < WIDTH / 2, float(str(frame.get("y"))) < HEIGHT / 2
        assert (is_left, is_upper) == (x == 10, y == 31)


def test_an_axis_of_less_than_a_power_of_ten_has_round_numbers_all_the_same() -> None:
    markers = [Marker(label=f"{x}", group="hit", x=x, y=30, filled=False) for x in (43.0, 64.0, 110.0)]
    assert {"40", "60", "80", "100"} <= texts_of(markers)


def test_the_last_group_is_gray() -> None:
    figure = draw([Marker(label="one", group="others", x=500, y=30, filled=False)])
    assert re.search(r'<circle [^>]*stroke="#444"', figure)
