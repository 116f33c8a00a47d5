"""Plot of quality against cost: a point for each network, from published values and from own measurements."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finescale import zoo
from finescale.analyze.points import GivenPoint
from finescale.analyze.prices import QUANTITIES, Candidate, Prices, Quantity, field_of, name_in_reports
from finescale.errors import DataError, printable_name
from finescale.figures.scatter import Marker, draw_scatter
from finescale.networks import FAMILIES, SETS, Frame, check_scale, family_of, published

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
    """Whether the PSNR was measured here; otherwise it is reported by others."""
    area: float | None
    """Cost that the area of the point shows, in its unit; None where all points are equal."""


@dataclass(frozen=True, kw_only=True)
class PlotData:
    """Content of one plot."""

    points: Sequence[Point]
    """Published values first, then given ones."""
    left_out: Sequence[str]
    """One sentence for each network whose cost is unknown, with the reason."""
    title: str
    """Text above the axes."""
    x_name: str
    """Name of the horizontal axis, with its unit."""
    area_name: str | None
    """What the areas of the points show, with its unit; None where all points are equal."""


def gather_points(
    *,
    scale: int,
    axis: Quantity,
    test_set: str,
    area: Quantity | None = None,
    results: Iterable[Mapping[str, Any]] = (),
    costs: Iterable[Mapping[str, Any]] = (),
    given: Iterable[GivenPoint] = (),
    files: Iterable[Path] = (),
    only: Sequence[str] = (),
) -> PlotData:
    """Gather the points of a plot: published values, points given by hand, and results measured here.

    Args:
        scale: How many times the networks enlarge.
        axis: Measure of cost on the horizontal axis.
        test_set: One of the papers' sets, such as "Urban100".
        area: Measure of cost that the areas of the points show.
        results: Rows of reports of ``finescale evaluate``, see `read_rows`.
        costs: Rows of reports of ``finescale analyze cost``; only "time" and "memory" need them.
        given: Points given by hand.
        files: Weight files of networks in ``results`` that are no longer where they were measured.
        only: Names of the networks to show; none shows all.

    Raises:
        ValueError: ``axis``, ``area``, ``test_set``, ``scale`` or a name in ``only`` is unknown.
        DataError: A row lacks a field, a file cannot be read, no time is known, or no network has both a PSNR and a
            cost.
    """
    for what, quantity in (("axis", axis), ("area", area)):
        if quantity is not None and quantity not in QUANTITIES:
            raise ValueError(f"{what} must be one of {', '.join(QUANTITIES)}, got {quantity!r}")
    check_scale(scale)
    names = {name.lower(): name for name in SETS}
    if test_set.lower() not in names:
        raise ValueError(f"test set must be one of {', '.join(SETS)}, got {test_set!r}")
    test_set = names[test_set.lower()]
    candidates = [*_published(scale, test_set), *_given(given, scale, test_set), *_measured(results, scale, test_set)]
    candidates = _selected(candidates, only)
    quantities = [axis] if area is None else [axis, area]
    prices = Prices(scale=scale, rows=list(costs), files=files)
    if prices.size is None and not any(one.given for one in candidates):
        for quantity in quantities:
            if quantity in ("time", "memory"):
                raise DataError(
                    f"no {quantity} is known at x{scale}; measure with 'finescale analyze cost --time --json > "
                    "costs.json' and pass --costs costs.json"
                )
    points, left_out = [], list[str]()
    for one in candidates:
        found = [prices.cost_of(one, quantity) for quantity in quantities]
        known = [cost for cost in found if not isinstance(cost, str)]
        if len(known) == len(found):
            label, family = _label_and_family(one, prices)
            points.append(
                Point(
                    label=label,
                    family=family,
                    x=known[0],
                    psnr_db=one.psnr_db,
                    measured=one.measured,
                    area=None if area is None else known[1],
                )
            )
        else:
            left_out.append(next(cost for cost in found if isinstance(cost, str)))
    if not points:
        reason = f" ({left_out[0]})" if left_out else ""
        raise DataError(
            f"no network has both a PSNR on {test_set} at x{scale} and a known cost; pass --results or --point{reason}"
        )
    return PlotData(
        points=points,
        left_out=list(dict.fromkeys(left_out)),
        title=f"{test_set}, x{scale}",
        x_name=prices.title_of(axis),
        area_name=None if area is None else prices.title_of(area, briefly=True),
    )


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


def _published(scale: int, test_set: str) -> Iterator[Candidate]:
    """Every network with a published value on a test set."""
    for (name, its_scale), facts in published().items():
        if its_scale == scale and test_set in facts.scores:
            yield Candidate(name=name, psnr_db=facts.scores[test_set][0], measured=False)


def _given(points: Iterable[GivenPoint], scale: int, test_set: str) -> Iterator[Candidate]:
    """Every point given by hand for a scale and a test set."""
    for point in points:
        if point.scale in (None, scale) and point.set in (None, test_set):
            yield Candidate(name=point.name, psnr_db=point.psnr_db, measured=False, given=point)


def _measured(results: Iterable[Mapping[str, Any]], scale: int, test_set: str) -> Iterator[Candidate]:
    """Every network in reports of ``finescale evaluate``, without the bicubic baseline."""
    for row in results:
        name, psnr_db = str(field_of(row, "model")), field_of(row, "psnr")
        wanted = field_of(row, "scale") == scale and str(field_of(row, "set")).lower() == test_set.lower()
        if wanted and name != "bicubic" and isinstance(psnr_db, float):
            yield Candidate(
                name=name,
                psnr_db=psnr_db,
                measured=True,
                weights=row.get("weights_sha256"),
                file=row.get("weights_file"),
            )


def _selected(candidates: Sequence[Candidate], names: Sequence[str]) -> list[Candidate]:
    """Return the named candidates in their order; without names, all.

    Raises:
        ValueError: A name is none of theirs.
    """
    known = {one.name for one in candidates}
    names = [name_in_reports(name) for name in names]
    for name in names:
        if name not in known:
            raise ValueError(f"no network of this plot is called {name!r}; it has {', '.join(sorted(known)) or 'none'}")
    return [one for one in candidates if not names or one.name in names]


def _label_and_family(one: Candidate, prices: Prices) -> tuple[str, str]:
    """Return the name in the figure, and the title of the family."""
    titles = {title.lower(): title for title in _titles()}
    if one.given is not None:
        family = one.given.family or OTHERS
        return one.name, titles.get(family.lower(), family)
    families = {entry.name: entry.family for entry in zoo.models()}
    if one.file is None and one.name in families:
        about = FAMILIES[families[one.name]].about
        return about.label or one.name, about.title
    found = prices.subject_of(one)
    if isinstance(found, str) or not isinstance(found.network, Frame):
        return one.name, OTHERS
    return one.name, family_of(found.network).about.title


def _titles() -> list[str]:
    return [family.about.title for family in FAMILIES.values()]


# ---- the figure

_MIN_RANGE_DB = 0.2


def draw_plot(data: PlotData) -> str:
    """Draw PSNR against cost as SVG, in one colour for each family."""
    titles = _titles()
    further = [point.family for point in data.points if point.family not in (*titles, OTHERS)]
    return draw_scatter(
        [
            Marker(
                label=point.label,
                group=point.family,
                x=point.x,
                y=point.psnr_db,
                filled=point.measured,
                area=point.area,
            )
            for point in data.points
        ],
        groups=[*titles, *dict.fromkeys(further), OTHERS],
        title=data.title,
        x_name=data.x_name,
        y_name="PSNR on Y, in dB",
        area_name=data.area_name,
        min_y_range=_MIN_RANGE_DB,
        ring_means="reported",
        dot_means="measured here",
    )
