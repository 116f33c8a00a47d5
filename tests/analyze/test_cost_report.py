from __future__ import annotations

from pathlib import Path

import pytest

from finescale import weights
from finescale.analyze.cost_report import CostReport
from finescale.errors import DeviceError
from finescale.networks import FAMILIES


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A weight file of a tiny network."""
    path = tmp_path / "tiny.safetensors"
    family = FAMILIES["hit-sr"]
    weights.save(family.network(settings=family.tiny["hit-sir"], scale=4), path, source="a test")
    return str(path)


def test_costs_are_counted_for_the_usual_result_and_a_small_input(model: str) -> None:
    report = CostReport(scale=4)
    report.add(model)
    assert [row.input_size for row in report.rows] == [(180, 320), (64, 64)]
    rows = [row.as_json() for row in report.rows]
    assert report.as_json() == {"rows": rows, "pairs": [], "published": [], "machine": None}


def test_each_timing_is_announced(model: str) -> None:
    report = CostReport(scale=4, sizes=[(8, 8), (8, 12)], timed=True, runs=1)
    announced: list[tuple[str, tuple[int, int]]] = []
    report.add(model, before_timing=lambda model, size: announced.append((model, size)))
    assert announced == [(model, (8, 8)), (model, (8, 12))]
    assert all(row["time"]["runs"] == 1 for row in report.as_json()["rows"])
    assert report.as_json()["machine"]["device"] == "cpu"


def test_a_failure_leaves_what_was_counted_before(model: str) -> None:
    report = CostReport(scale=4, sizes=[(8, 8)])
    report.add(model)
    with pytest.raises(ValueError, match="no model is called 'hit-xyz'"):
        report.add("hit-xyz")
    assert [row.model for row in report.rows] == [model]


def test_an_unknown_device_is_refused_before_anything_is_counted() -> None:
    with pytest.raises(DeviceError, match="device 'tpux' cannot be used here"):
        CostReport(timed=True, device="tpux")


# ---- beside the hierarchical network


def test_a_network_is_counted_beside_its_hierarchical_counterpart() -> None:
    report = CostReport(scale=2, sizes=[(64, 64)], hierarchical=True)
    report.add("swinir-light")
    assert [row.model for row in report.rows] == ["swinir-light", "hit-sir"]
    (pair,) = report.as_json()["pairs"]
    assert (pair["model"], pair["hierarchical"], pair["time_ratio"]) == ("swinir-light", "hit-sir", None)
    assert pair["parameters_ratio"] == 772_064 / 910_152
    before, after = (row.operations.multiply_adds for row in report.rows)
    assert pair["multiply_adds_ratio"] == after / before


def test_a_file_has_a_counterpart_of_its_own_size_and_both_are_timed(tmp_path: Path) -> None:
    family = FAMILIES["srformer"]
    settings = family.variants["srformer-light"].model_copy(update={"depths": (1,), "num_heads": (6,)})
    path = str(tmp_path / "file.safetensors")
    weights.save(family.network(settings=settings, scale=4), path, source="a test")
    report = CostReport(scale=4, sizes=[(8, 8)], timed=True, runs=1, hierarchical=True)
    report.add(path)
    ((base, converted),) = report.pairs
    assert (base.model, converted.model) == (path, f"{path}, hierarchical")
    assert base.timing is not None
    assert converted.timing is not None
    ratio = report.as_json()["pairs"][0]["time_ratio"]
    assert ratio == pytest.approx(converted.timing.median_s / base.timing.median_s)


def test_a_network_that_cannot_be_converted_is_refused(model: str) -> None:
    report = CostReport(scale=4, sizes=[(8, 8)], hierarchical=True)
    with pytest.raises(
        ValueError, match=r"tiny.safetensors has no hierarchical counterpart; SwinIR, SwinIR-NG and SRF"
    ):
        report.add(model)
    assert report.rows == []
