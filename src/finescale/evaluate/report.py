"""Report of an evaluation: rows, values by picture and differences, as JSON, CSV, Markdown and tables."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import mean
from typing import Any

from finescale.evaluate.compare import Difference, paired_difference
from finescale.evaluate.models import BICUBIC, Model
from finescale.evaluate.protocol import Protocol
from finescale.evaluate.run import Failure, Score

_CHANNELS = {"y": "luma (BT.601)", "rgb": "RGB"}
_CHANNEL_COLUMNS = [f"{metric}_{channel}" for metric in ("psnr", "ssim") for channel in _CHANNELS]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model on one test set."""

    model: str
    """Name of the model; the baseline is "bicubic"."""
    scale: int
    """How many times it enlarges."""
    set: str
    """Name of the set."""
    psnr: float | None
    """Mean over the pictures, in dB; None without originals."""
    ssim: float | None
    """Mean over the pictures; None without originals."""
    published_psnr: float | None
    """Published value; None for other protocols than the papers'."""
    published_ssim: float | None
    """Published value, likewise."""
    images: int
    """Number of pictures that were measured."""
    failed: int
    """Number of pictures left out because they, or the model on them, failed."""
    metrics: Mapping[str, float | None]
    """Means of further metrics, by name."""
    conditions: Mapping[str, Any]
    """Everything that the values depend on, see `finescale.evaluate.Model`."""
    weights_file: str | None
    """Path of the weight file, of a model that was named by it."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on one test set, picture by picture."""

    set: str
    """Name of the set."""
    model: str
    """Name of the model."""
    other: str
    """Name of the model that is subtracted from it."""
    metric: str
    """"psnr", "ssim" or the name of a further metric."""
    difference: Difference
    """Mean and 95 % confidence interval."""


@dataclass(frozen=True)
class Table:
    """Text in rows and columns."""

    title: str
    """One line."""
    header: Sequence[str]
    """Title of each column."""
    rows: Sequence[Sequence[str]]
    """A cell for each column."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of an evaluation."""

    models: Sequence[Model]
    """In the order of the rows."""
    scale: int
    """How many times they enlarge."""
    protocol: Protocol
    """Rules of the measurement."""
    scores: Sequence[Score]
    """Values by model and picture."""
    failures: Sequence[Failure] = ()
    """Pictures that are left out."""
    made_lr: Sequence[str] = ()
    """Sets whose low-resolution pictures were made from the originals."""
    notes: Sequence[str] = field(default=())
    """Further remarks, one sentence each."""

    @property
    def sets(self) -> list[str]:
        """Names of the test sets, in their order."""
        of_scores, of_failures = ([entry.set for entry in entries] for entries in (self.scores, self.failures))
        return list(dict.fromkeys([*of_scores, *of_failures]))

    @property
    def metrics(self) -> list[str]:
        """Names of the further metrics."""
        return list(dict.fromkeys(name for score in self.scores for name in score.metrics))

    def rows(self) -> list[Row]:
        """Return a row for each model and set."""
        return [self._row(model, name) for model in self.models for name in self.sets]

    def comparisons(self) -> list[Comparison]:
        """Compare each model with each one above it."""
        found = []
        for name in self.sets:
            for other, model in combinations(self.models, 2):
                for metric in ("psnr", "ssim", *self.metrics):
                    one, another = (self._values(each.name, name, metric) for each in (model, other))
                    difference = paired_difference(one, another)
                    if difference is not None:
                        found.append(
                            Comparison(
                                set=name, model=model.name, other=other.name, metric=metric, difference=difference
                            )
                        )
        return found

    def as_json(self) -> dict[str, Any]:
        """Return plain values; an infinite PSNR is the text "inf"."""
        return {
            "rows": [self._plain(row) for row in self.rows()],
            "differences": [
                {
                    "set": one.set,
                    "model": one.model,
                    "other": one.other,
                    "metric": one.metric,
                    **asdict(one.difference),
                    "confidence": 0.95,
                    "interval": "Student t",
                }
                for one in self.comparisons()
            ],
            "images": [
                {
                    "model": score.model,
                    "set": score.set,
                    "image": score.image,
                    "psnr": _finite(score.psnr),
                    "ssim": score.ssim,
                    "metrics": {name: _finite(value) for name, value in score.metrics.items()},
                }
                for score in self.scores
            ],
            "failed": [asdict(failure) for failure in self.failures],
            "notes": list(self.notes),
        }

    def as_csv(self) -> str:
        """Return a line for each model and picture."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["model", "scale", "set", "image", "psnr", "ssim", *self.metrics, "protocol"])
        for score in self.scores:
            values = [score.psnr, score.ssim, *(score.metrics.get(name) for name in self.metrics)]
            cells = ["" if value is None else repr(value) for value in values]
            writer.writerow([score.model, self.scale, score.set, score.image, *cells, self.protocol.name])
        return text.getvalue()

    def as_markdown(self) -> str:
        """Return a page with all tables."""
        parts = [f"# x{self.scale}, protocol `{self.protocol.name}`"]
        for table in self.tables():
            lines = [table.header, ["---"] * len(table.header), *table.rows]
            cells = ("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
            parts.append(f"{table.title}\n\n" + "\n".join(cells))
        if self.failures:
            failed = "\n".join(f"- {failure.reason}" for failure in self.failures)
            parts.append(f"{len(self.failures)} left out:\n\n{failed}")
        parts.append("\n".join([f"- {sentence}" for sentence in (*self._how(), *self.notes)]))
        return "\n\n".join(parts) + "\n"

    def tables(self) -> Iterator[Table]:
        """Yield tables in the style of papers (a row per model, a column per set), of metrics, and of differences."""
        if any(score.psnr is not None for score in self.scores):
            yield self._main_table()
        for protocol in (self.protocol, self.protocol.with_other_channel()):
            if set(protocol.columns) <= set(self.metrics):
                yield self._channel_table(protocol)
        for metric in self.metrics:
            if metric in _CHANNEL_COLUMNS:
                continue
            rows = [
                [model.name, *(_decimals(self._row(model, name).metrics.get(metric), 4) for name in self.sets)]
                for model in self.models
            ]
            yield Table(metric, ["model", *self.sets], rows)
        comparisons = self.comparisons()
        if comparisons:
            yield self._difference_table(comparisons)

    def _main_table(self) -> Table:
        rows = []
        for model in self.models:
            of_model = [self._row(model, name) for name in self.sets]
            rows.append([model.name, *(_pair(row.psnr, row.ssim) for row in of_model)])
            if any(row.published_psnr is not None for row in of_model):
                rows.append(["  published", *(_pair(row.published_psnr, row.published_ssim) for row in of_model)])
                rows.append(["  difference", *(_pair(*_gain(row), signed=True) for row in of_model)])
        title = f"PSNR (dB) / SSIM at x{self.scale}, protocol {self.protocol.name}"
        return Table(title, ["model", *self.sets], rows)

    def _channel_table(self, protocol: Protocol) -> Table:
        """Table of PSNR and SSIM of the channel that the protocol does not compare."""
        rows = [
            [model.name, *(_pair(*(row.metrics.get(column) for column in protocol.columns)) for row in of_model)]
            for model in self.models
            for of_model in [[self._row(model, name) for name in self.sets]]
        ]
        title = f"PSNR (dB) / SSIM at x{self.scale} on {_CHANNELS[protocol.channel]}"
        return Table(title, ["model", *self.sets], rows)

    def as_messages(self) -> Iterator[str]:
        """Yield a message of several lines for each model and set, in the form of BasicSR's logs."""
        for row in self.rows():
            values = {"psnr": row.psnr, "ssim": row.ssim, **row.metrics}
            lines = [f"\t # {name}: {value:.4f}" for name, value in values.items() if value is not None]
            yield "\n".join([f"Validation {row.set}, {row.model}", *lines])

    def _difference_table(self, comparisons: Sequence[Comparison]) -> Table:
        metrics = list(dict.fromkeys(one.metric for one in comparisons))
        cells: dict[tuple[str, str, str], dict[str, Difference]] = {}
        for one in comparisons:
            cells.setdefault((one.set, one.model, one.other), {})[one.metric] = one.difference
        rows = [
            [
                name,
                f"{model} - {other}",
                *(_interval(found.get(metric), 3 if metric == "psnr" else 4) for metric in metrics),
                str(max(difference.images for difference in found.values())),
            ]
            for (name, model, other), found in cells.items()
        ]
        titles = [{"psnr": "PSNR (dB)", "ssim": "SSIM"}.get(metric, metric) for metric in metrics]
        title = "Mean paired difference, with its 95 % confidence interval (Student t over the pictures)"
        return Table(title, ["set", "models", *titles, "images"], rows)

    def _how(self) -> Iterator[str]:
        protocol = self.protocol
        channel = _CHANNELS[protocol.channel]
        rounding = "rounded to 8 bits" if protocol.rounding == "8-bit" else "not rounded"
        yield f"Measured on {channel}, {protocol.border_at(self.scale)} pixels left out on every side, {rounding}."
        yield "The value of a set is the mean of its pictures' values."
        for model in self.models:
            if model.name != BICUBIC:
                conditions = (f"{name} {value}" for name, value in model.conditions.items() if value is not None)
                yield f"`{model.name}`: {'; '.join(conditions)}."

    def _row(self, model: Model, name: str) -> Row:
        scores = [score for score in self.scores if (score.model, score.set) == (model.name, name)]
        follows_papers = self.protocol.name == "papers"
        published = model.published.get(name, (None, None)) if follows_papers else (None, None)
        return Row(
            model=model.name,
            scale=self.scale,
            set=name,
            psnr=_mean([score.psnr for score in scores]),
            ssim=_mean([score.ssim for score in scores]),
            published_psnr=published[0],
            published_ssim=published[1],
            images=len(scores),
            failed=sum(one.set == name and one.model in (None, model.name) for one in self.failures),
            metrics={metric: _mean([score.metrics.get(metric) for score in scores]) for metric in self.metrics},
            conditions=model.conditions,
            weights_file=model.weights_file,
        )

    def _plain(self, row: Row) -> dict[str, Any]:
        protocol = self.protocol
        psnr, ssim = _gain(row)
        return {
            "model": row.model,
            "scale": row.scale,
            "set": row.set,
            "psnr": _finite(row.psnr),
            "ssim": row.ssim,
            "published_psnr": row.published_psnr,
            "published_ssim": row.published_ssim,
            "psnr_difference": _finite(psnr),
            "ssim_difference": ssim,
            "images": row.images,
            "failed": row.failed,
            "protocol": protocol.name,
            "border": protocol.border_at(self.scale),
            "channel": protocol.channel,
            "rounding": protocol.rounding,
            **row.conditions,
            "weights_file": row.weights_file,
            "low_resolution": "made" if row.set in self.made_lr else "files",
            "metrics": {name: _finite(value) for name, value in row.metrics.items()},
        }

    def _values(self, model: str, name: str, metric: str) -> dict[str, float]:
        """Values of a model on a set, by picture."""
        found = {}
        for score in self.scores:
            if (score.model, score.set) == (model, name):
                value = getattr(score, metric) if metric in ("psnr", "ssim") else score.metrics.get(metric)
                if value is not None:
                    found[score.image] = value
        return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _gain(row: Row) -> tuple[float | None, float | None]:
    """Our value minus the published one."""
    psnr = None if row.psnr is None or row.published_psnr is None else row.psnr - row.published_psnr
    ssim = None if row.ssim is None or row.published_ssim is None else row.ssim - row.published_ssim
    return psnr, ssim


def _finite(value: float | None) -> float | str | None:
    return "inf" if value == math.inf else value


def _decimals(value: float | None, decimals: int, *, signed: bool = False) -> str:
    return "-" if value is None else f"{value:{'+' if signed else ''}.{decimals}f}"


def _pair(psnr: float | None, ssim: float | None, *, signed: bool = False) -> str:
    if psnr is None and ssim is None:
        return "-"
    return f"{_decimals(psnr, 2, signed=signed)} / {_decimals(ssim, 4, signed=signed)}"


def _interval(difference: Difference | None, decimals: int) -> str:
    if difference is None:
        return "-"
    centre = _decimals(difference.mean, decimals, signed=True)
    if difference.low is None:
        return centre
    low, high = (_decimals(end, decimals, signed=True) for end in (difference.low, difference.high))
    return f"{centre} [{low}, {high}]"
