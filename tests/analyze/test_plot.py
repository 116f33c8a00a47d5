from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from finescale.analyze import plot
from finescale.analyze.plot import PlotData, draw_plot, gather_points, read_rows
from finescale.errors import DataError
from finescale.networks import FAMILIES, published

SVG = "{http://www.w3.org/2000/svg}"


def row(model: str, psnr: float, **others: Any) -> dict[str, Any]:
    return {"model": model, "scale": 4, "set": "Urban100", "psnr": psnr, **others}


def test_what_authors_print_is_shown_with_their_parameters() -> None:
    data = gather_points(scale=4, axis="parameters", test_set="urban100")
    by_label = {point.label: point for point in data.points}
    assert by_label["hit-srf"].psnr_db == published()["hit-srf", 4].scores["Urban100"][0] == 26.80
    assert by_label["hit-srf"].x == FAMILIES["hit-sr"].publication.costs["hit-srf", 4].num_parameters / 1e3
    assert by_label["hit-srf-df2k"].x == by_label["hit-srf"].x
    assert not any(point.measured for point in data.points)
    assert data.title == "Urban100, x4"


def test_results_of_ours_are_added_and_a_network_without_known_cost_is_named() -> None:
    results = [row("default", 25.1), row("bicubic", 23.1), row("span", 26.6), row("default", 37.0, scale=2)]
    results += [row("mine", 26.0), {**row("hit-sir", 26.0), "psnr": None}]
    data = gather_points(scale=4, axis="parameters", test_set="Urban100", results=results)
    measured = {point.label: point for point in data.points if point.measured}
    assert set(measured) == {"default", "sliding proxy"}
    assert measured["default"].family == "HiT-SR"
    assert measured["sliding proxy"].psnr_db == 26.6
    (sentence,) = data.left_out
    assert sentence.startswith("mine: left out, because its cost is unknown (")


def test_multiply_adds_are_counted_for_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    few = {key: facts for key, facts in published().items() if key[0] in ("hit-sir", "craft")}
    monkeypatch.setattr(plot, "published", lambda: few)
    data = gather_points(scale=4, axis="multiply-adds", test_set="Set5", results=[])
    by_label = {point.label: point.x for point in data.points}
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
    data = gather_points(scale=4, axis="time", test_set="Urban100", costs=costs)
    assert {point.label: point.x for point in data.points} == {"hit-srf": 250, "craft": 500}
    assert "dat: left out, because its time was not measured" in data.left_out
    assert "64x64" in data.x_name


def test_without_times_the_command_that_measures_them_is_named() -> None:
    with pytest.raises(DataError, match="no time is known at x4; measure with 'finescale analyze cost --time --json"):
        gather_points(scale=4, axis="time", test_set="Urban100", costs=[cost_row("dat", [64, 64], None)])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"axis": "beauty"}, "axis must be one of parameters, multiply-adds, time, got 'beauty'"),
        ({"test_set": "Set6"}, "test set must be one of Set5, Set14, B100, Urban100, Manga109, got 'Set6'"),
        ({"scale": 17}, "scale must be a whole number from 1 to 16, got 17"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        gather_points(**{"scale": 4, "axis": "parameters", "test_set": "Set5", **arguments})


def test_a_row_without_a_field_is_refused() -> None:
    with pytest.raises(DataError, match="a row of a report has no 'psnr', only model, scale, set"):
        gather_points(
            scale=4, axis="parameters", test_set="Set5", results=[{"model": "default", "scale": 4, "set": "Set5"}]
        )


# ---- the figure


@pytest.fixture(scope="module")
def data() -> PlotData:
    results = [row("default", 25.1), row("span", 26.64), row("hit-srf", 26.7)]
    return gather_points(scale=4, axis="parameters", test_set="Urban100", results=results)


def test_each_network_stands_at_its_place_and_what_was_measured_is_filled(data: PlotData) -> None:
    figure = ElementTree.fromstring(draw_plot(data))
    circles = list(figure.iter(f"{SVG}circle"))[: len(data.points)]
    filled = [circle for circle in circles if circle.get("fill") != "none"]
    assert len(filled) == sum(point.measured for point in data.points) == 3
    ordered = sorted(data.points, key=lambda point: not point.measured)
    for (one, a), (other, b) in itertools.pairwise(zip(ordered, circles, strict=True)):
        further = float(str(b.get("cx"))) - float(str(a.get("cx")))
        higher = float(str(a.get("cy"))) - float(str(b.get("cy")))
        assert further * (other.x - one.x) >= 0
        assert higher * (other.psnr_db - one.psnr_db) >= 0


def test_the_figure_names_networks_families_and_axes(data: PlotData) -> None:
    texts = {element.text for element in ElementTree.fromstring(draw_plot(data)).iter(f"{SVG}text")}
    assert {point.label for point in data.points} <= texts
    assert {point.family for point in data.points} <= texts
    assert {"Urban100, x4", "parameters, in thousands", "PSNR on Y, in dB"} <= texts


# ---- reports


def test_rows_of_several_reports_are_read_in_order(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for number, path in enumerate(paths):
        path.write_text(json.dumps({"rows": [{"number": number}]}))
    assert read_rows(paths) == [{"number": 0}, {"number": 1}]
