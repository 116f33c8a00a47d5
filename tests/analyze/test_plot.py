from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from finescale import weights
from finescale.analyze import plot
from finescale.analyze.plot import PlotData, draw_plot, gather_points, read_rows
from finescale.analyze.points import GivenPoint
from finescale.errors import DataError
from finescale.networks import FAMILIES, published
from finescale.system.files import sha256

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


def cost_row(model: str, size: list[int], median_s: float | None, memory_mib: float | None = None) -> dict[str, Any]:
    timing = None if median_s is None else {"median_s": median_s}
    return {"model": model, "scale": 4, "input_size": size, "time": timing, "memory_mib": memory_mib}


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


def test_memory_is_that_of_the_same_input_and_files_are_found_by_the_name_of_their_report() -> None:
    costs = [cost_row("somewhere/mine.pth", [64, 64], 0.25, 300), cost_row("hit-srf", [64, 64], 0.5, 120)]
    results = [row("mine", 26.0)]
    data = gather_points(
        scale=4, axis="time", area="memory", test_set="Urban100", results=results, costs=costs, only=["mine", "hit-srf"]
    )
    assert {point.label: (point.x, point.area) for point in data.points} == {"mine": (250, 300), "hit-srf": (500, 120)}
    assert data.area_name == "memory, in MiB"


# ---- networks of a file, and points given by hand


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "own.safetensors"
    family = FAMILIES["craft"]
    weights.save(family.network(settings=next(iter(family.tiny.values())), scale=4), path, source="a test")
    return path


def of_file(path: Path, psnr: float = 26.0, **others: Any) -> dict[str, Any]:
    return row("own", psnr, weights_sha256=sha256(path), **{"weights_file": str(path), **others})


def test_the_cost_of_a_network_trained_here_is_counted_from_its_file(own: Path) -> None:
    results = [of_file(own)]
    data = gather_points(scale=4, axis="parameters", test_set="Urban100", results=results, only=["own"])
    (point,) = data.points
    expected = sum(value.numel() for value in weights.load(own).network.parameters())
    assert (point.label, point.family, point.measured) == ("own", "CRAFT", True)
    assert point.x == expected / 1e3


@pytest.mark.parametrize("axis", ["parameters", "multiply-adds"])
def test_the_cost_of_a_third_party_network_is_counted_from_its_file(
    spandrel: ModuleType, tmp_path: Path, axis: Any
) -> None:
    theirs = spandrel.architectures.ESRGAN.ESRGAN(in_nc=3, num_filters=8, num_blocks=1, scale=4)
    torch.save(theirs.state_dict(), tmp_path / "own.pth")
    results = [of_file(tmp_path / "own.pth")]
    data = gather_points(scale=4, axis=axis, test_set="Urban100", results=results, only=["own"])
    (point,) = data.points
    assert (point.label, point.family) == ("own", "others")
    if axis == "parameters":
        assert point.x == sum(value.numel() for value in theirs.parameters()) / 1e3
    else:
        convolutions = [layer for layer in theirs.modules() if isinstance(layer, torch.nn.Conv2d)]
        at_most = 16 * 180 * 320 * sum(layer.weight.numel() for layer in convolutions)  # all at the size of the result
        assert at_most / 16 < 1e9 * point.x < at_most


def test_a_file_that_was_moved_or_has_changed_is_told_and_its_new_place_can_be_given(own: Path, tmp_path: Path) -> None:
    moved = of_file(own, weights_file=str(tmp_path / "gone.safetensors"))
    arguments: dict[str, Any] = {"scale": 4, "axis": "parameters", "test_set": "Urban100", "only": ["own"]}
    with pytest.raises(DataError, match=r"there is no file .*gone.safetensors; give the file .* by -n FILE"):
        gather_points(results=[moved], **arguments)
    other = {**of_file(own), "weights_sha256": "0" * 64}
    with pytest.raises(DataError, match=r"own.safetensors has changed since it was measured"):
        gather_points(results=[other], **arguments)
    assert len(gather_points(results=[moved], files=[own], **arguments).points) == 1
    with pytest.raises(DataError, match="cannot be read"):
        gather_points(results=[moved], files=[tmp_path / "none.pth"], **arguments)


def test_points_given_by_hand_stand_beside_the_others_unless_they_belong_elsewhere() -> None:
    given = [
        GivenPoint(name="ELAN-light", psnr_db=26.54, parameters=601e3, multiply_adds=43.2e9, family="ELAN"),
        GivenPoint(name="twin", psnr_db=26.6, parameters=500e3, family="hit-sr", set="Urban100", scale=4),
        GivenPoint(name="other set", psnr_db=30, parameters=1e6, set="Set5"),
        GivenPoint(name="other scale", psnr_db=30, parameters=1e6, scale=2),
        GivenPoint(name="unknown cost", psnr_db=26.6),
    ]
    data = gather_points(scale=4, axis="parameters", test_set="Urban100", given=given)
    by_label = {point.label: point for point in data.points}
    assert (by_label["ELAN-light"].x, by_label["ELAN-light"].family, by_label["ELAN-light"].measured) == (
        601, "ELAN", False,
    )  # fmt: skip
    assert by_label["twin"].family == "HiT-SR"
    assert not {"other set", "other scale", "unknown cost"} & set(by_label)
    assert data.left_out == ["unknown cost: left out, because its parameters is not given"]
    texts = {element.text for element in ElementTree.fromstring(draw_plot(data)).iter(f"{SVG}text")}
    assert "ELAN" in texts


def test_times_may_be_given_by_hand_alone() -> None:
    given = [GivenPoint(name="A", psnr_db=26, time_ms=20, memory_mib=100)]
    data = gather_points(scale=4, axis="time", area="memory", test_set="Urban100", given=given)
    assert [(point.label, point.x, point.area) for point in data.points] == [("A", 20, 100)]
    assert data.x_name == "time of one forward pass, in ms"


def test_without_times_the_command_that_measures_them_is_named() -> None:
    with pytest.raises(DataError, match="no time is known at x4; measure with 'finescale analyze cost --time --json"):
        gather_points(scale=4, axis="time", test_set="Urban100", costs=[cost_row("dat", [64, 64], None)])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"axis": "beauty"}, "axis must be one of parameters, multiply-adds, time, memory, got 'beauty'"),
        ({"area": "beauty"}, "area must be one of parameters, multiply-adds, time, memory, got 'beauty'"),
        ({"only": ["hit-srv"]}, "no network of this plot is called 'hit-srv'; it has craft, craft-4bit, "),
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
