from __future__ import annotations

import itertools
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from finescale.analyze import plot
from finescale.analyze.plot import Point, Points, draw_plot, gather_points
from finescale.errors import DataError
from finescale.networks import FAMILIES, published

SVG = "{http://www.w3.org/2000/svg}"


def row(model: str, psnr: float, **others: Any) -> dict[str, Any]:
    return {"model": model, "scale": 4, "set": "Urban100", "psnr": psnr, **others}


def test_what_authors_print_is_shown_with_their_parameters() -> None:
    shown = gather_points(scale=4, axis="parameters", test_set="urban100")
    by_label = {point.label: point for point in shown.points}
    assert by_label["hit-srf"].psnr_db == published()["hit-srf", 4].scores["Urban100"][0] == 26.80
    assert by_label["hit-srf"].x == FAMILIES["hit-sr"].publication.costs["hit-srf", 4].num_parameters / 1e3
    assert by_label["hit-srf-df2k"].x == by_label["hit-srf"].x
    assert not any(point.measured for point in shown.points)
    assert shown.title == "Urban100, x4"


def test_results_of_ours_are_added_and_what_has_no_cost_is_told() -> None:
    results = [row("default", 25.1), row("bicubic", 23.1), row("span", 26.6), row("default", 37.0, scale=2)]
    results += [row("mine", 26.0), {**row("hit-sir", 26.0), "psnr": None}]
    shown = gather_points(scale=4, axis="parameters", test_set="Urban100", results=results)
    measured = {point.label: point for point in shown.points if point.measured}
    assert set(measured) == {"default", "sliding proxy"}
    assert measured["default"].family == "HiT-SR"
    assert measured["sliding proxy"].psnr_db == 26.6
    (sentence,) = shown.left_out
    assert sentence.startswith("mine: left out, its cost is not known (")


def test_multiply_adds_are_counted_for_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {key: facts for key, facts in published().items() if key[0] in ("hit-sir", "craft")}
    monkeypatch.setattr(plot, "published", lambda: few)
    shown = gather_points(scale=4, axis="multiply-adds", test_set="Set5", results=[])
    by_label = {point.label: point.x for point in shown.points}
    assert by_label["hit-sir"] == pytest.approx(52.97, abs=0.005)
    assert by_label["craft"] == pytest.approx(51.93, abs=0.005)


def cost_row(model: str, size: list[int], median_s: float | None) -> dict[str, Any]:
    timing = None if median_s is None else {"median_s": median_s}
    return {"model": model, "scale": 4, "input_size": size, "time": timing}


def test_times_are_those_at_the_input_that_most_were_timed_on() -> None:
    costs = [
        cost_row("hit-srf", [64, 64], 0.25),
        cost_row("craft", [64, 64], 0.5),
        cost_row("craft", [180, 320], 3.0),
        cost_row("dat", [64, 64], None),
    ]
    shown = gather_points(scale=4, axis="time", test_set="Urban100", costs=costs)
    assert {point.label: point.x for point in shown.points} == {"hit-srf": 250, "craft": 500}
    assert "dat: left out, its time was not measured" in shown.left_out
    assert "64x64" in shown.unit


def test_without_times_the_command_that_measures_them_is_told() -> None:
    with pytest.raises(DataError, match="no time is known at x4; measure with 'finescale analyze cost --time --json"):
        gather_points(scale=4, axis="time", test_set="Urban100", costs=[cost_row("dat", [64, 64], None)])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"axis": "beauty"}, "the axis must be parameters, multiply-adds, time, got 'beauty'"),
        ({"test_set": "Set6"}, "the set must be one of Set5, Set14, B100, Urban100, Manga109, got 'Set6'"),
        ({"scale": 8}, "scale must be 2, 3 or 4, got 8"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        gather_points(**{"scale": 4, "axis": "parameters", "test_set": "Set5", **arguments})


def test_a_row_without_a_field_is_refused() -> None:
    with pytest.raises(DataError, match="a row of a report has no 'psnr': model, scale, set"):
        gather_points(
            scale=4, axis="parameters", test_set="Set5", results=[{"model": "default", "scale": 4, "set": "Set5"}]
        )


# ---- the figure


@pytest.fixture(scope="module")
def shown() -> Points:
    results = [row("default", 25.1), row("span", 26.64), row("hit-srf", 26.7)]
    return gather_points(scale=4, axis="parameters", test_set="Urban100", results=results)


def boxes_of(shown: Points) -> dict[str, plot.Box]:
    """Where labels stand, by the estimated width of their letters."""
    found = {}
    for element in ElementTree.fromstring(draw_plot(shown)).iter(f"{SVG}text"):
        if element.text in {point.label for point in shown.points}:
            width = 0.62 * 12 * len(element.text)
            x, y = float(str(element.get("x"))), float(str(element.get("y")))
            left = x - {"start": 0, "middle": width / 2, "end": width}[str(element.get("text-anchor"))]
            found[element.text] = left, y - 11, left + width, y + 2
    return found


def test_each_network_has_a_label_and_no_label_lies_on_another_or_outside(shown: Points) -> None:
    boxes = boxes_of(shown)
    assert set(boxes) == {point.label for point in shown.points}
    for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one} lies on {other}"
    assert all(box[0] > 0 and box[1] > 0 and box[2] < plot.WIDTH and box[3] < plot.HEIGHT for box in boxes.values())


def test_each_point_stands_at_its_place_and_what_was_measured_is_filled(shown: Points) -> None:
    figure = ElementTree.fromstring(draw_plot(shown))
    circles = list(figure.iter(f"{SVG}circle"))[: len(shown.points)]
    filled = [circle for circle in circles if circle.get("fill") != "none"]
    assert len(filled) == sum(point.measured for point in shown.points) == 3
    ordered = sorted(shown.points, key=lambda point: not point.measured)
    for (one, a), (other, b) in itertools.pairwise(zip(ordered, circles, strict=True)):
        further = float(str(b.get("cx"))) - float(str(a.get("cx")))
        higher = float(str(a.get("cy"))) - float(str(b.get("cy")))
        assert further * (other.x - one.x) >= 0
        assert higher * (other.psnr_db - one.psnr_db) >= 0


def test_powers_of_ten_stand_at_equal_distances() -> None:
    points = [Point(label=f"{x}", family="others", x=x, psnr_db=30, measured=True) for x in (10.0, 100.0, 1000.0)]
    figure = draw_plot(Points(points=points, left_out=(), title="", unit=""))
    across = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', figure)[:3]]
    assert across[1] - across[0] == pytest.approx(across[2] - across[1], abs=0.2)


def test_a_single_point_can_be_drawn() -> None:
    point = Point(label="one", family="others", x=500, psnr_db=30, measured=True)
    assert "one" in draw_plot(Points(points=[point], left_out=(), title="alone", unit="parameters"))
