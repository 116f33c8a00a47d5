"""Points of plots given by hand: networks that nobody measured here, from text or a CSV file."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finescale.errors import DataError, printable_name
from finescale.networks import SETS
from finescale.settings import suggest

_UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}


@dataclass(frozen=True, kw_only=True)
class GivenPoint:
    """Facts of one network; what is not known is None."""

    name: str
    """Name shown beside the point."""
    psnr_db: float
    """PSNR on Y."""
    parameters: float | None = None
    """Number of parameters."""
    multiply_adds: float | None = None
    """Multiply-adds for a result of 1280x720 pixels."""
    time_ms: float | None = None
    """Time of one forward pass."""
    memory_mib: float | None = None
    """Peak memory of one forward pass."""
    family: str | None = None
    """Whose colour the point has: a known family, or any other name."""
    set: str | None = None
    """Test set of the PSNR; None takes that of the plot."""
    scale: int | None = None
    """Scale; None takes that of the plot."""

    @property
    def costs(self) -> dict[str, float | None]:
        """Costs in the units of figures: thousands of parameters, 10⁹ multiply-adds, milliseconds, MiB."""
        return {
            "parameters": None if self.parameters is None else self.parameters / 1e3,
            "multiply-adds": None if self.multiply_adds is None else self.multiply_adds / 1e9,
            "time": self.time_ms,
            "memory": self.memory_mib,
        }


def point_from_text(text: str) -> GivenPoint:
    """Read NAME,PSNR,PARAMETERS,MULTIPLY-ADDS,TIME_MS,MEMORY_MIB; values may be empty, and those at the end missing.

    Numbers may end in K, M, G or T, such as 866K or 58.0G.

    Raises:
        ValueError: A value is missing that each point needs, or is not a positive number.
    """
    cells = [cell.strip() for cell in text.split(",")]
    if len(cells) > len(_BY_HAND):
        raise ValueError(f"a point has at most {len(_BY_HAND)} values, {','.join(_BY_HAND)}, got {text!r}")
    return _point(dict(zip(_BY_HAND, cells, strict=False)))


def read_points(path: Path) -> list[GivenPoint]:
    """Read a CSV file whose first line names the columns; name and psnr are required.

    Raises:
        DataError: The file cannot be read, has no such columns, or a line has a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{printable_name(path)}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{printable_name(path)}: not a CSV file, because it is not text in UTF-8") from None
    return list(_points(text, of=printable_name(path)))


def _points(text: str, *, of: str) -> Iterator[GivenPoint]:
    rows = csv.reader(io.StringIO(text))
    columns = [_column(title) for title in next(rows, [])]
    for title in columns:
        if title not in _COLUMNS:
            raise DataError(f"{of}: no column is called {title!r}{suggest(title, _COLUMNS)}; use {', '.join(_COLUMNS)}")
    missing = [title for title in ("name", "psnr") if title not in columns]
    if missing:
        raise DataError(f"{of}: has no column {missing[0]!r}; its first line must name the columns, such as name,psnr")
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(columns):
            raise DataError(f"{of}, line {rows.line_num}: has {len(row)} values for {len(columns)} columns")
        try:
            yield _point(dict(zip(columns, row, strict=True)))
        except ValueError as error:
            raise DataError(f"{of}, line {rows.line_num}: {error}") from None


def _column(title: str) -> str:
    """Return a title in lower case with underscores, such as "multiply_adds" of "Multiply-adds"."""
    return re.sub(r"[\s-]+", "_", title.strip().lower())


def _point(cells: Mapping[str, str]) -> GivenPoint:
    """Build a point from texts by column; an empty one is unknown."""
    known = {column: cell.strip() for column, cell in cells.items() if cell.strip()}
    missing = [column for column in ("name", "psnr") if column not in known]
    if missing:
        raise ValueError(f"a point needs a name and a PSNR, got no {missing[0]} in {','.join(cells.values())!r}")
    values: dict[str, Any] = {}
    for column, cell in known.items():
        field, read = _COLUMNS[column]
        values[field] = read(column, cell)
    return GivenPoint(**values)


def _number(column: str, text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?)\s*([KMGT]?)", text, flags=re.IGNORECASE)
    number = float(found[1]) * _UNITS[found[2].upper()] if found else 0.0
    if not found or not 0 < number < math.inf:
        raise ValueError(f"{column} must be a positive number such as 26.8, 866K or 58.0G, got {text!r}")
    return number


def _text(_column: str, text: str) -> str:
    return text


def _set(column: str, text: str) -> str:
    found = next((name for name in SETS if name.lower() == text.lower()), None)
    if found is None:
        raise ValueError(f"{column} must be one of {', '.join(SETS)}, got {text!r}")
    return found


def _scale(column: str, text: str) -> int:
    found = re.fullmatch(r"[x×]?([234])", text.lower())
    if not found:
        raise ValueError(f"{column} must be 2, 3 or 4, got {text!r}")
    return int(found[1])


_COLUMNS: Mapping[str, tuple[str, Callable[[str, str], Any]]] = {
    "name": ("name", _text),
    "psnr": ("psnr_db", _number),
    "parameters": ("parameters", _number),
    "multiply_adds": ("multiply_adds", _number),
    "time_ms": ("time_ms", _number),
    "memory_mib": ("memory_mib", _number),
    "family": ("family", _text),
    "set": ("set", _set),
    "scale": ("scale", _scale),
}
"""Columns of a CSV file, each with the field that it fills and how its text is read."""

_BY_HAND = tuple(_COLUMNS)[:6]
"""Order of the values of a point that is given as text."""
