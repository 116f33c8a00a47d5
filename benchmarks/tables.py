"""Tables of what was measured: printed, compared with an earlier result, and written into the manual.

Usage: python benchmarks/tables.py      writes the newest results of every theme into docs/speed.md and docs/serve.md
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
DOCS = Path(__file__).parents[1] / "docs"

Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column of a table: what stands above it, and which field of a row in it."""

    heading: str
    field: str


_TIME = (Column("yards", "yards"), Column("median", "median_yards"), Column("spread", "spread"))
_PUBLISHED = (Column("published", "published_yards"), Column("times fewer", "times_fewer"))

THEMES: Mapping[str, Sequence[Column]] = {
    "forward": (Column("network", "subject"), *_TIME, Column("seconds", "seconds"), *_PUBLISHED),
    "backward": (Column("network", "subject"), *_TIME, Column("seconds", "seconds")),
    "memory": (
        Column("network", "subject"),
        Column("peak GB", "peak_gb"),
        Column("of it imports", "imports_gb"),
        Column("published", "published_gb"),
        Column("share of it", "share"),
    ),
    "start": (Column("what", "subject"), Column("seconds", "seconds"), *_TIME),
    "picture": (
        Column("network", "subject"),
        Column("seconds", "seconds"),
        Column("outside the network", "outside_seconds"),
        *_TIME,
    ),
    "spandrel": (
        Column("network", "subject"),
        *_TIME,
        Column("spandrel's yards", "spandrel_yards"),
        Column("times as fast", "times_as_fast"),
    ),
    "busy": (
        Column("beside", "subject"),
        Column("seconds", "plain"),
        Column("waiting threads spin", "spinning"),
        Column("one thread", "one_thread"),
        Column("times faster than spinning", "times_faster"),
        Column("times the best", "against_best"),
    ),
    "calls": (
        Column("network, pictures", "subject"),
        Column("PyTorch", "torch"),
        Column("PyTorch bf16", "torch_bf16"),
        Column("OpenVINO, first", "openvino_first"),
        Column("OpenVINO, again", "openvino_again"),
        Column("OpenVINO bf16", "openvino_bf16"),
        Column("ONNX Runtime", "onnxruntime"),
        Column("auto", "auto"),
        Column("auto is", "auto_is"),
        Column("times the best", "against_best"),
    ),
    "serve": (
        Column("input", "subject"),
        Column("pictures per second by `Upscaler`", "direct_per_second"),
        Column("by the server", "served_per_second"),
        Column("lost", "lost"),
        Column("seconds to answer, median", "latency_median_s"),
        Column("99 %", "latency_99_s"),
        Column("times faster in batches", "batch_speedup"),
        Column("batches equal to the bit", "batch_is_equal"),
    ),
}
"""What is measured, with the columns of its table."""

PAGES = {theme: "serve.md" if theme == "serve" else "speed.md" for theme in THEMES}
"""The page of the manual that has a theme's table."""

COST = {"memory": "peak_gb"}
"""The field by which results are compared, where it is not "yards"."""

COMPARED = (Column("before", "before"), Column("times less now", "times_less"))


def table(theme: str, rows: Sequence[Row]) -> str:
    """Rows as a table in Markdown, with what `compared` added where it did."""
    columns = [*THEMES[theme], *(COMPARED if any("before" in row for row in rows) else ())]
    lines = [[column.heading for column in columns], ["---"] * len(columns)]
    lines += [["" if (value := row.get(column.field)) is None else str(value) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compared(results: Mapping[str, Any], earlier: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of results, each with the cost that an earlier result has for it, and how many times less it is now.

    Raises:
        ValueError: The earlier result is of another theme, or was measured under other conditions.
    """
    for field in ("theme", "threads", "conditions"):
        if earlier.get(field) != results[field]:
            raise ValueError(
                f"the earlier result has {field} {earlier.get(field)!r}, not {results[field]!r}; compare with another"
            )
    cost = COST.get(results["theme"], "yards")
    before = {row["subject"]: row[cost] for row in earlier["rows"]}
    rows = []
    for row in results["rows"]:
        known = before.get(row["subject"])
        added = {} if known is None else {"before": known, "times_less": round(known / row[cost], 2)}
        rows.append({**row, **added})
    return rows


def merged(rows: Sequence[Row], earlier: Mapping[str, Any], results: Mapping[str, Any]) -> list[Row]:
    """Rows just measured, in place of those of a result under the same conditions, and the others of its rows."""
    if any(earlier.get(field) != results[field] for field in ("theme", "threads", "conditions")):
        return list(rows)
    by_subject: dict[str, Row] = {row["subject"]: row for row in earlier["rows"]}
    by_subject |= {row["subject"]: row for row in rows}
    return list(by_subject.values())


def filled(page: str, theme: str, rows: Sequence[Row]) -> str:
    """A page with the table of a theme between its two markers.

    Raises:
        ValueError: The page has no such markers.
    """
    between = re.compile(rf"(<!-- {theme} -->\n).*?(<!-- end of {theme} -->)", re.DOTALL)
    if not between.search(page):
        raise ValueError(f"the page has no markers <!-- {theme} --> and <!-- end of {theme} -->")
    return between.sub(lambda found: f"{found[1]}{table(theme, rows)}\n{found[2]}", page)


def newest(theme: str, folder: Path = RESULTS) -> Path | None:
    """The result file of a theme with the latest date; None where nothing was measured."""
    return max(folder.glob(f"{theme}_*.json"), key=lambda path: path.stem.rpartition("_")[2], default=None)


def current_pages() -> dict[Path, str]:
    """The pages with tables, with the newest results of every theme that has any."""
    pages = {DOCS / name: (DOCS / name).read_text(encoding="utf-8") for name in set(PAGES.values())}
    for theme, name in PAGES.items():
        if path := newest(theme):
            rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
            pages[DOCS / name] = filled(pages[DOCS / name], theme, rows)
    return pages


if __name__ == "__main__":
    for path, page in current_pages().items():
        path.write_text(page, encoding="utf-8")
