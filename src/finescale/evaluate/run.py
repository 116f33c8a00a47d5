"""Measurement of every model on every picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

from torch import Tensor

from finescale.data import Pair
from finescale.errors import DataError, FinescaleError
from finescale.evaluate.cases import Case, cases_of
from finescale.evaluate.folder import ResultsFolder, rounded
from finescale.evaluate.models import Model, network_model
from finescale.evaluate.perceptual import PerceptualMetric
from finescale.evaluate.protocol import PAPERS, Protocol
from finescale.upscale import Upscaler

OnCaseTile = Callable[[Model, Case, int, int], None]
"""Called after each tile with model, case, the tiles done and the tiles in all."""


@dataclass(frozen=True)
class Score:
    """Values of one model on one picture."""

    model: str
    """Name of the model."""
    set: str
    """Name of the test set."""
    image: str
    """Name of the picture."""
    psnr: float | None
    """In dB, infinite for equal images; None without an original."""
    ssim: float | None
    """None without an original."""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    """Further metrics by name; None where one needs an original that is missing."""
    is_reused: bool = field(default=False, compare=False)
    """Whether it was taken from an earlier run."""

    def as_text(self) -> str:
        """Return the result as a line of a log."""
        value = "" if self.psnr is None or self.ssim is None else f": {self.psnr:.4f} dB, {self.ssim:.4f}"
        return f"{'kept' if self.is_reused else 'done'}: {self.model}: {self.set} {self.image}{value}"


@dataclass(frozen=True)
class Failure:
    """A picture without a result."""

    set: str
    """Name of the test set."""
    image: str
    """Name of the picture."""
    model: str | None
    """Name of the model that failed on it; None where the pair of pictures is unusable."""
    reason: str
    """One sentence."""

    def as_text(self) -> str:
        """Return the result as a line of a log."""
        return f"failed: {self.reason}"


def evaluate(upscaler: Upscaler, pairs: Iterable[Pair], protocol: Protocol = PAPERS) -> list[Score]:
    """Measure a network on pairs of pictures.

    Args:
        upscaler: The network, with its tiles, ensemble and precision.
        pairs: Pictures and their originals; the value of a test set is the mean over its scores.
        protocol: How to measure.

    Raises:
        ImageReadError: A file is missing, or is not a picture.
        DataError: The sizes of a pair do not match, or it is too small to be measured.
        NumericalError: The network's answer is not finite.
        DeviceError: The device has too little memory.
    """
    model = network_model(upscaler, "network", follow_published_padding=protocol.padding == "published")
    scores = []
    for case in cases_of(pairs, set=""):
        lr, hr = case.read(scale=upscaler.scale)
        sr = model.upscale(lr, None)
        scores.append(_score(model, case, sr, hr, scale=upscaler.scale, protocol=protocol, metrics=()))
    return scores


def run(
    models: Sequence[Model],
    cases: Iterable[Case],
    *,
    scale: int,
    protocol: Protocol = PAPERS,
    metrics: Sequence[PerceptualMetric] = (),
    other_channel: bool = False,
    results: ResultsFolder | None = None,
    on_tile: OnCaseTile | None = None,
) -> Iterator[Score | Failure]:
    """Measure models on pictures, one picture after the other, each by all models; a failure never stops the rest.

    Args:
        models: What is measured.
        cases: The pictures.
        scale: How many times the models enlarge.
        protocol: How to measure.
        metrics: What to measure besides PSNR and SSIM.
        other_channel: Also measure PSNR and SSIM of the channel that the protocol does not compare, as metrics
            "psnr_rgb" and "ssim_rgb", or "psnr_y" and "ssim_y".
        results: Stores results, and returns finished ones as long as nothing that they depend on has changed.
        on_tile: Called after each tile.

    Raises:
        DataError: The folder of results cannot be written to.
        ImageWriteError: An upscaled picture cannot be written.
    """
    if results:
        results.begin()
    other = protocol.with_other_channel() if other_channel else None
    measured = [*(metric.name for metric in metrics), *(other.columns if other else ())]
    for case in cases:
        keys = {model.name: _key(model, case, scale=scale, protocol=protocol, metrics=measured) for model in models}
        kept = {name: results.find(key) if results else None for name, key in keys.items()}
        lr, hr = None, None
        if None in kept.values():
            try:
                lr, hr = case.read(scale=scale)
            except FinescaleError as error:
                yield Failure(case.set, case.name, None, str(error))
                continue
        for model in models:
            values = kept[model.name]
            if values is not None:
                yield Score(model.name, case.set, case.name, **_without_picture(values), is_reused=True)
                continue
            assert lr is not None
            try:
                sr = model.upscale(lr, on_tile and partial(on_tile, model, case))
                score = _score(model, case, sr, hr, scale=scale, protocol=protocol, metrics=metrics, other=other)
            except FinescaleError as error:
                yield Failure(case.set, case.name, model.name, f"{case.set} {case.name}: {error}")
                continue
            if results:
                values = {"psnr": score.psnr, "ssim": score.ssim, "metrics": dict(score.metrics)}
                results.add(keys[model.name], values, rounded(sr))
            yield score


def upscaled(model: Model, case: Case, *, scale: int, results: ResultsFolder) -> Tensor:
    """Return a model's picture (3, H, W) in [0, 1] with 8-bit values: the stored one, or else computed again."""
    kept = results.read_picture(model.name, case.set, case.name)
    return rounded(model.upscale(case.read(scale=scale)[0], None)) if kept is None else kept


def _score(
    model: Model,
    case: Case,
    sr: Tensor,
    hr: Tensor | None,
    *,
    scale: int,
    protocol: Protocol,
    metrics: Sequence[PerceptualMetric],
    other: Protocol | None = None,
) -> Score:
    further = {metric.name: metric(rounded(sr), hr) for metric in metrics}
    if hr is None:
        return Score(model.name, case.set, case.name, None, None, further)
    try:
        psnr, ssim = protocol.scores(sr, hr, scale=scale)
        if other is not None:
            further.update(zip(other.columns, other.scores(sr, hr, scale=scale), strict=True))
    except DataError as error:
        raise DataError(f"{case.hr}: {error}") from None
    return Score(model.name, case.set, case.name, psnr, ssim, further)


def _key(model: Model, case: Case, *, scale: int, protocol: Protocol, metrics: Sequence[str]) -> dict[str, Any]:
    """Everything that a result depends on."""
    return {
        "model": model.name,
        "set": case.set,
        "image": case.name,
        "scale": scale,
        "files": case.fingerprint(),
        "conditions": dict(model.conditions),
        "protocol": protocol.model_dump(),
        "metrics": list(metrics),
        "finescale": version("finescale"),
    }


def _without_picture(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != "picture"}
