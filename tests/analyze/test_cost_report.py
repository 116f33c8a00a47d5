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
    assert report.as_json() == {"rows": [row.as_json() for row in report.rows], "published": [], "machine": None}


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
