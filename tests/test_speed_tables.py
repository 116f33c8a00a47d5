"""Tables of measurements: what they show, what they are compared with, and that the manual has the newest."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_tables", BENCHMARKS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def result(*rows: dict[str, Any], **other: Any) -> dict[str, Any]:
    return {"theme": "memory", "threads": 2, "conditions": {"scale": 4}, "rows": list(rows), **other}


def test_a_table_has_a_line_for_each_row_and_leaves_free_what_is_not_known(tables: ModuleType) -> None:
    rows = [{"subject": "craft", "peak_gb": 0.4, "imports_gb": 0.25, "published_gb": None, "share": None}]
    assert tables.table("memory", rows).splitlines() == [
        "| network | peak GB | of it imports | published | share of it |",
        "| --- | --- | --- | --- | --- |",
        "| craft | 0.4 | 0.25 |  |  |",
    ]


def test_a_comparison_tells_how_many_times_less_is_taken_now(tables: ModuleType) -> None:
    earlier = result({"subject": "craft", "peak_gb": 0.9})
    now = result({"subject": "craft", "peak_gb": 0.3}, {"subject": "span", "peak_gb": 0.5})
    rows = tables.compared(now, earlier)
    assert rows == [
        {"subject": "craft", "peak_gb": 0.3, "before": 0.9, "times_less": 3.0},
        {"subject": "span", "peak_gb": 0.5},
    ]
    assert tables.table("memory", rows).splitlines()[2:] == [
        "| craft | 0.3 |  |  |  | 0.9 | 3.0 |",
        "| span | 0.5 |  |  |  |  |  |",
    ]


def test_times_are_compared_in_yards(tables: ModuleType) -> None:
    slow, fast = ({"subject": "craft", "yards": yards, "seconds": 1.0} for yards in (8.0, 2.0))
    rows = tables.compared(result(fast, theme="forward"), result(slow, theme="forward"))
    assert rows[0]["times_less"] == 4.0


@pytest.mark.parametrize(
    ("field", "value"), [("theme", "forward"), ("threads", 4), ("conditions", {"scale": 2}), ("theme", None)]
)
def test_a_result_of_another_kind_is_refused(tables: ModuleType, field: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"the earlier result has {field} "):
        tables.compared(result(), result(**{field: value}))


def test_rows_that_were_not_measured_again_stay_where_conditions_are_equal(tables: ModuleType) -> None:
    earlier = result({"subject": "craft", "peak_gb": 0.9}, {"subject": "span", "peak_gb": 0.5})
    anew = [{"subject": "craft", "peak_gb": 0.3}]
    assert tables.merged(anew, earlier, result()) == [*anew, earlier["rows"][1]]
    assert tables.merged(anew, result(*earlier["rows"], threads=1), result()) == anew


def test_a_table_is_written_between_its_markers_alone(tables: ModuleType) -> None:
    page = "before\n<!-- memory -->\nold\n<!-- end of memory -->\n<!-- start -->\nkept\n<!-- end of start -->\n"
    rows = [{"subject": "craft"}]
    assert tables.filled(page, "memory", rows) == page.replace("old", tables.table("memory", rows))
    with pytest.raises(ValueError, match="no markers <!-- forward -->"):
        tables.filled(page, "forward", rows)


def test_the_newest_result_is_found_by_its_date(tables: ModuleType, tmp_path: Path) -> None:
    for name in ("start_b-2-threads_2026-01-02", "start_a-2-threads_2026-03-01", "picture_a-2-threads_2026-04-01"):
        (tmp_path / f"{name}.json").touch()
    assert tables.newest("start", tmp_path).name == "start_a-2-threads_2026-03-01.json"
    assert tables.newest("memory", tmp_path) is None


def test_the_manual_shows_the_newest_results(tables: ModuleType) -> None:
    pages = tables.current_pages()
    assert {path.name for path in pages} == {"speed.md", "serve.md"}
    for path, page in pages.items():
        assert path.read_text(encoding="utf-8") == page, "`make docs` writes the newest results"
