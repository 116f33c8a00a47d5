"""Costs of the networks in a plot: counted on the network, read from a report, or given by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from finescale import weights, zoo
from finescale.analyze.cost_report import OUTPUT
from finescale.analyze.costs import Subject, input_for, subject
from finescale.analyze.points import GivenPoint
from finescale.analyze.published import beyond
from finescale.errors import DataError, WeightsError, printable_name
from finescale.metrics.cost import count_operations, count_parameters
from finescale.system.files import sha256

Quantity = Literal["parameters", "multiply-adds", "time", "memory"]

QUANTITIES: Mapping[str, str] = {
    "parameters": "parameters, in thousands",
    "multiply-adds": "multiply-adds for a result of 1280 x 720 pixels, in 10⁹",
    "time": "time of one forward pass, in ms",
    "memory": "peak memory of one forward pass, in MiB",
}
"""Measures of cost, and their names in a figure, with unit."""

_BRIEFLY: Mapping[str, str] = {
    "parameters": "parameters, in thousands",
    "multiply-adds": "multiply-adds, in 10⁹",
    "time": "time, in ms",
    "memory": "memory, in MiB",
}

_IN_REPORTS = ("time", "memory")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network with a PSNR, whose cost is to be found."""

    name: str
    """Its name, in a report or as published."""
    psnr_db: float
    """PSNR on Y."""
    measured: bool
    """Whether it was measured here."""
    weights: str | None = None
    """SHA-256 of its weight file, where a report states it."""
    file: str | None = None
    """Path of that file, where a report states it."""
    given: GivenPoint | None = None
    """Its facts, if it was given by hand."""

    @property
    def key(self) -> str:
        """What tells its network from others: files of the same name may hold different ones."""
        return self.weights or self.name


class Prices:
    """Finder of costs.

    Args:
        scale: 2, 3 or 4.
        rows: Rows of reports of ``finescale analyze cost``, for time and memory.
        files: Weight files of networks that are no longer where a report says.

    Raises:
        DataError: One of the files cannot be read, or a row lacks a field.

    Attributes:
        size: (height, width) of the inputs whose time and memory are taken: the one on which most networks were timed;
            of several, the largest. None where no network was timed.
    """

    def __init__(self, *, scale: int, rows: Sequence[Mapping[str, Any]], files: Iterable[Path]) -> None:
        self._scale = scale
        self._subjects: dict[str, Subject | str] = {}
        self._counts: dict[tuple[str, str], float] = {}
        try:
            self._files = {sha256(path): str(path) for path in files}
        except OSError as error:
            raise DataError(f"{printable_name(error.filename)}: cannot be read ({error.strerror})") from None
        by_size: dict[tuple[int, int], dict[str, Mapping[str, Any]]] = {}
        for row in rows:
            if field_of(row, "time") is not None and field_of(row, "scale") == scale:
                height, width = field_of(row, "input_size")
                by_size.setdefault((height, width), {})[name_in_reports(str(field_of(row, "model")))] = row
        self.size = max(by_size, key=lambda size: (len(by_size[size]), size), default=None)
        self._timed = by_size[self.size] if self.size is not None else {}

    def title_of(self, quantity: Quantity, *, briefly: bool = False) -> str:
        """Return the name of a quantity in a figure with its unit, and unless ``briefly`` its conditions."""
        if briefly:
            return _BRIEFLY[quantity]
        if quantity in _IN_REPORTS and self.size is not None:
            return f"{QUANTITIES[quantity]}, for {self.size[0]}x{self.size[1]} pixels on one machine"
        return QUANTITIES[quantity]

    def cost_of(self, one: Candidate, quantity: Quantity) -> float | str:
        """Return a network's cost in the unit of a figure, or a sentence that says why it is unknown."""
        if one.given is not None:
            value = one.given.costs[quantity]
            return f"{one.name}: left out, because its {quantity} is not given" if value is None else value
        if quantity in _IN_REPORTS:
            row = self._timed.get(one.name)
            if row is None:
                return f"{one.name}: left out, because its {quantity} was not measured"
            return float(
                1000 * field_of(row["time"], "median_s") if quantity == "time" else field_of(row, "memory_mib")
            )
        found = self.subject_of(one)
        if isinstance(found, str):
            return found
        if (one.key, quantity) not in self._counts:
            self._counts[one.key, quantity] = self._count(found, quantity)
        return self._counts[one.key, quantity]

    def subject_of(self, one: Candidate) -> Subject | str:
        """Return the network of a candidate that was not given by hand, or a sentence that says why it is unknown."""
        if one.key not in self._subjects:
            try:
                self._subjects[one.key] = subject(self._model_of(one), scale=self._scale)
            except (ValueError, WeightsError, DataError) as error:
                self._subjects[one.key] = f"{one.name}: left out, because its cost is unknown ({error})"
        return self._subjects[one.key]

    def _count(self, found: Subject, quantity: Quantity) -> float:
        if quantity == "parameters":
            return count_parameters(found.network) / 1e3
        shape = (1, found.network.in_channels, *input_for(OUTPUT, scale=self._scale))
        return count_operations(found.network, shape, beyond=beyond()).multiply_adds / 1e9

    def _model_of(self, one: Candidate) -> str:
        """Return the file or the name of a network; a file must be what was measured.

        Raises:
            DataError: The file is missing or has changed.
        """
        if one.weights in self._files:
            return self._files[one.weights]
        if one.file is None or one.weights is None:
            return one.name
        path = Path(one.file)
        remedy = "give the file that was measured by -n FILE"
        if not path.is_file():
            raise DataError(f"there is no file {printable_name(path)}; {remedy}")
        if sha256(path) != one.weights:
            raise DataError(f"{printable_name(path)} has changed since it was measured; measure it again, or {remedy}")
        return one.file


def name_in_reports(model: str) -> str:
    """Return the name of a model in reports of ``finescale evaluate``: of a file, without folder and suffix."""
    is_known = model in {name for name, _ in weights.bundled()} or model in {entry.name for entry in zoo.models()}
    path = Path(model)
    return model if is_known else path.stem if path.suffix else path.name


def field_of(row: Mapping[str, Any], name: str) -> Any:
    """Return a field of a row of a report.

    Raises:
        DataError: The row does not have it.
    """
    if name not in row:
        raise DataError(
            f"a row of a report has no {name!r}, only {', '.join(row) or 'nothing'}; use a report written by finescale"
        )
    return row[name]
