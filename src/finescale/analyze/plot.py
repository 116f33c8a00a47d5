"""Plot of quality against cost: a point for each network, from published values and from own measurements."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finescale import weights, zoo
from finescale.analyze.cost_report import OUTPUT
from finescale.analyze.costs import input_for, subject
from finescale.analyze.published import BEYOND
from finescale.errors import DataError, WeightsError, printable_name
from finescale.figures.scatter import Marker, draw_scatter
from finescale.metrics.cost import count_operations, count_parameters
from finescale.networks import FAMILIES, SETS, check_scale, published

Axis = Literal["parameters", "multiply-adds", "time"]

AXES: Mapping[str, str] = {
    "parameters": "parameters, in thousands",
    "multiply-adds": "multiply-adds for a result of 1280 x 720 pixels, in 10⁹",
    "time": "time of one forward pass, in ms",
}
"""Quantities of the horizontal axis, and their names in the figure, with unit."""

OTHERS = "others"
"""Stands in for the family's title of a network that belongs to no known family."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One network in the plot."""

    label: str
    """Name shown beside it."""
    family: str
    """Title of its family, or `OTHERS`."""
    x: float
    """Cost, in the unit of the axis."""
    psnr_db: float
    """PSNR on Y."""
    measured: bool
    """Whether the PSNR was measured here; otherwise the authors report it."""


@dataclass(frozen=True, kw_only=True)
class PlotData:
    """Content of one plot."""

    points: Sequence[Point]
    """Published values first."""
    left_out: Sequence[str]
    """One sentence for each network whose cost is unknown on this axis, with the reason."""
    title: str
    """Text above the axes."""
    x_name: str
    """Name of the horizontal axis, with its unit."""


def gather_points(
    *,
    scale: int,
    axis: Axis,
    test_set: str,
    results: Iterable[Mapping[str, Any]] = (),
    costs: Iterable[Mapping[str, Any]] = (),
) -> PlotData:
    """Gather the points of a plot: published values, and results measured here.

    Args:
        scale: How many times the networks enlarge.
        axis: Measure of cost on the horizontal axis.
        test_set: One of the papers' sets, such as "Urban100".
        results: Rows of reports of ``finescale evaluate``, see `read_rows`.
        costs: Rows of reports of ``finescale analyze cost``; only the axis "time" needs them.

    Raises:
        ValueError: ``axis``, ``test_set`` or ``scale`` is unknown.
        DataError: A row lacks a field, no time is known, or no network has both a PSNR and a cost.
    """
    if axis not in AXES:
        raise ValueError(f"axis must be one of {', '.join(AXES)}, got {axis!r}")
    check_scale(scale)
    names = {name.lower(): name for name in SETS}
    if test_set.lower() not in names:
        raise ValueError(f"test set must be one of {', '.join(SETS)}, got {test_set!r}")
    test_set = names[test_set.lower()]
    x_name, times = AXES[axis], dict[str, float]()
    if axis == "time":
        times, size = _times(costs, scale)
        x_name = f"{x_name}, for {size[0]}x{size[1]} pixels on one machine"
    points, left_out, known = [], list[str](), dict[str, float | str]()
    for name, psnr_db, measured in (*_published(scale, test_set), *_measured(results, scale, test_set)):
        if name not in known:
            known[name] = _cost(name, scale, axis, times)
        x = known[name]
        if isinstance(x, str):
            left_out.append(x)
        else:
            points.append(_point(name, scale, x, psnr_db, measured=measured))
    if not points:
        raise DataError(f"no network has both a PSNR on {test_set} at x{scale} and a known cost; pass --results")
    title = f"{test_set}, x{scale}"
    return PlotData(points=points, left_out=list(dict.fromkeys(left_out)), title=title, x_name=x_name)


def read_rows(reports: Iterable[Path]) -> list[dict[str, Any]]:
    """Read the rows of JSON reports of ``finescale evaluate`` or ``finescale analyze cost``, in order.

    Raises:
        DataError: A file cannot be read, or is not such a report.
    """
    rows: list[dict[str, Any]] = []
    for path in reports:
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{printable_name(path)}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise DataError(f"{printable_name(path)}: not a report, because it is not JSON ({error})") from None
        if not isinstance(report, dict) or not isinstance(report.get("rows"), list):
            raise DataError(f"{printable_name(path)}: not a report, because it has no list named 'rows'")
        rows += report["rows"]
    return rows


def _published(scale: int, test_set: str) -> Iterator[tuple[str, float, bool]]:
    """Name and PSNR of every network with a published value on a test set."""
    for (name, its_scale), facts in published().items():
        if its_scale == scale and test_set in facts.scores:
            yield name, facts.scores[test_set][0], False


def _measured(results: Iterable[Mapping[str, Any]], scale: int, test_set: str) -> Iterator[tuple[str, float, bool]]:
    """Name and PSNR of every network in reports of ``finescale evaluate``, without the bicubic baseline."""
    for row in results:
        name, psnr_db = str(_field(row, "model")), _field(row, "psnr")
        wanted = _field(row, "scale") == scale and str(_field(row, "set")).lower() == test_set.lower()
        if wanted and name != "bicubic" and isinstance(psnr_db, float):
            yield name, psnr_db, True


def _field(row: Mapping[str, Any], name: str) -> Any:
    if name not in row:
        raise DataError(
            f"a row of a report has no {name!r}, only {', '.join(row) or 'nothing'}; use a report written by finescale"
        )
    return row[name]


def _times(costs: Iterable[Mapping[str, Any]], scale: int) -> tuple[dict[str, float], tuple[int, int]]:
    """Milliseconds of each network, and the input size: the one with most timings; of several, the largest."""
    by_size: dict[tuple[int, int], dict[str, float]] = {}
    for row in costs:
        timing = _field(row, "time")
        if _field(row, "scale") == scale and timing is not None:
            height, width = _field(row, "input_size")
            by_size.setdefault((height, width), {})[str(_field(row, "model"))] = 1000 * _field(timing, "median_s")
    if not by_size:
        raise DataError(
            f"no time is known at x{scale}; measure with 'finescale analyze cost --time --json > costs.json' and pass "
            "--costs costs.json"
        )
    size = max(by_size, key=lambda size: (len(by_size[size]), size))
    return by_size[size], size


def _cost(name: str, scale: int, axis: Axis, times: Mapping[str, float]) -> float | str:
    """Cost of a network in the unit of the axis, or a sentence that says why it is unknown."""
    if axis == "time":
        return times.get(name, f"{name}: left out, because its time was not measured")
    try:
        found = subject(name, scale=scale)
    except (ValueError, WeightsError) as error:
        return f"{name}: left out, because its cost is unknown ({error})"
    if axis == "parameters":
        return count_parameters(found.network) / 1e3
    shape = (1, found.network.in_channels, *input_for(OUTPUT, scale=scale))
    return count_operations(found.network, shape, beyond=BEYOND).multiply_adds / 1e9


def _point(name: str, scale: int, x: float, psnr_db: float, *, measured: bool) -> Point:
    families = {entry.name: entry.family for entry in zoo.models()}
    if name not in families:
        with suppress(ValueError, WeightsError):  # a name that only a report knows
            families[name] = weights.inspect(weights.find(name, scale=scale)).family
    about = FAMILIES[families[name]].about if name in families else None
    label, title = (about.label or Path(name).stem, about.title) if about else (Path(name).stem, OTHERS)
    return Point(label=label, family=title, x=x, psnr_db=psnr_db, measured=measured)


# ---- the figure

_MIN_RANGE_DB = 0.2


def draw_plot(data: PlotData) -> str:
    """Draw PSNR against cost as SVG, in one colour for each family."""
    return draw_scatter(
        [
            Marker(label=point.label, group=point.family, x=point.x, y=point.psnr_db, filled=point.measured)
            for point in data.points
        ],
        groups=[*(family.about.title for family in FAMILIES.values()), OTHERS],
        title=data.title,
        x_name=data.x_name,
        y_name="PSNR on Y, in dB",
        min_y_range=_MIN_RANGE_DB,
        ring_means="reported by the authors",
        dot_means="measured here",
    )
