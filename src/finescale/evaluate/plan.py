"""A whole evaluation: which networks are measured on which pictures, and its report in a folder of results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finescale import weights
from finescale.engines import EngineName, Precision
from finescale.evaluate.cases import Case, benchmark_cases, cases_without_originals, check_benchmarks, paired_cases
from finescale.evaluate.folder import ResultsFolder, check_results_folder
from finescale.evaluate.models import BICUBIC, Model, bicubic, labels_of, network_model
from finescale.evaluate.perceptual import PerceptualMetric, check_metrics, perceptual_metrics
from finescale.evaluate.protocol import PAPERS, Protocol
from finescale.evaluate.report import Report
from finescale.evaluate.run import Failure, OnCaseTile, Score, run
from finescale.networks import check_scale
from finescale.settings import parse_settings
from finescale.system.text_log import TextLog
from finescale.upscale import Tiling, Upscaler

WHOLE = Tiling(tile=0)
"""No tiles: the papers upscale whole pictures."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How networks are computed, see `finescale.Upscaler`."""

    device: str = "cpu"
    """"cpu", "cuda", "cuda:1" or "mps"."""
    precision: Precision = "float32"
    """"float32", "bf16", "fp16", or "auto"."""
    engine: EngineName = "torch"
    """"torch", "compile" or "openvino"."""
    ensemble: bool = False
    """Average over eight flips and rotations."""

    def __post_init__(self) -> None:
        if self.engine == "auto":
            raise ValueError(
                "engine must be 'torch', 'compile', 'openvino' in an evaluation, got 'auto': digits must not depend on "
                "what is installed"
            )


ON_CPU = Execution()
"""The papers' setting: float32, by PyTorch."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """All that an evaluation measures, and how."""

    name: str
    """Name for the folder of results."""
    scale: int
    """How many times the models enlarge."""
    models: Sequence[Model]
    """What is measured, the baseline first."""
    cases: Sequence[Case]
    """The pictures."""
    protocol: Protocol
    """How to measure."""
    keep_pictures: bool = True
    """Whether upscaled pictures are kept."""
    suffix: str
    """Follows the names of upscaled pictures, after an underscore."""
    other_channel: bool = False
    """Whether the channel that the protocol does not compare is measured too."""
    visualized: str | None = None
    """Model whose pictures are kept in ``visualization/``, as by BasicSR."""
    notes: Sequence[str] = ()
    """What a reader of the report should know, one sentence each."""

    @property
    def made_lr(self) -> list[str]:
        """Sets whose low-resolution pictures are made from the originals."""
        return list(dict.fromkeys(case.set for case in self.cases if case.lr is None))


def evaluate_networks(
    names: Sequence[str],
    data: Path,
    *,
    sets: Sequence[str] = (),
    scale: int | None = None,
    protocol: Protocol = PAPERS,
    metrics: Sequence[str] = (),
    tiling: Tiling = WHOLE,
    execution: Execution = ON_CPU,
    results: Path | None = None,
    offline: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Report:
    """Measure networks on test sets, beside the bicubic and the published values.

    Args:
        names: Networks, see `finescale.weights.find`; "bicubic" or none measures the baseline alone.
        data: The folder of all test sets.
        sets: Names of the sets, such as "Set5"; none takes all.
        scale: 1 to 16; None takes that of the first network. At 1, sets must have the pictures to restore.
        protocol: How to measure, see `finescale.evaluate.PROTOCOLS`.
        metrics: Further metrics, by pyiqa's names.
        tiling: How images are cut; by default they are upscaled whole, as in the papers.
        execution: Device, precision, engine and ensemble.
        results: Folder for the reports and the upscaled pictures; an evaluation that was interrupted resumes there.
            None writes nothing.
        offline: Never access the internet: use only weights that are already downloaded.
        settings: Settings of the networks that their files do not show, see `finescale.load`.

    Raises:
        DataError: There are no such test sets, or ``results`` contains other files or cannot be written to.
        ValueError: As for `plan_evaluation`.
        MissingExtraError: pyiqa or the client of the hub is not installed.
        WeightsError: A weight file cannot be used.
        DownloadError: Weights cannot be downloaded.
        DeviceError: The device does not exist.
    """
    check_metrics(metrics)
    if results is not None:
        check_results_folder(results)
    plan = plan_evaluation(
        names,
        data=data,
        sets=sets,
        scale=scale,
        protocol=protocol,
        tiling=tiling,
        execution=execution,
        offline=offline,
        settings=settings,
    )
    return carry_out(
        plan,
        metrics=perceptual_metrics(metrics, device=execution.device),
        results=None if results is None else ResultsFolder(results, suffix=plan.suffix),
    )


def plan_evaluation(
    names: Sequence[str],
    *,
    data: Path | None = None,
    sets: Sequence[str] = (),
    hr: Path | None = None,
    lr: Path | None = None,
    scale: int | None = None,
    protocol: Protocol = PAPERS,
    tiling: Tiling = WHOLE,
    execution: Execution = ON_CPU,
    offline: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Plan:
    """Find the pictures of an evaluation, and only then load its networks; each argument is as for `evaluate_networks`.

    Args:
        names: Networks, besides the baseline.
        data: The folder of all test sets.
        sets: Names of the sets.
        hr: In place of ``data``, a folder of originals; luma and RGB are measured both.
        lr: Their low-resolution pictures, which are made from the originals if None; without ``hr`` and ``data``,
            pictures without originals, which are only upscaled.
        scale: 1 to 16, or None.
        protocol: How to measure.
        tiling: How images are cut.
        execution: Device, precision, engine and ensemble.
        offline: Never access the internet.
        settings: Settings of the networks that their files do not show.

    Raises:
        ValueError: ``data`` is given besides ``hr`` or ``lr``, or none of them is; no scale is known, networks have
            different scales or equal labels, a name is unknown, or a value of ``execution`` is.
        DataError: There are no such test sets, or no pictures.
        WeightsError: A weight file cannot be used.
        DownloadError: Weights cannot be downloaded.
        MissingExtraError: The client of the hub is not installed, or the engine is not.
        DeviceError: The device does not exist.
    """
    names = [name for name in dict.fromkeys(names) if name != BICUBIC]
    labels = labels_of(names)
    if (data is None) == (hr is None and lr is None):
        raise ValueError(
            "name either a folder of test sets or one of pictures without originals, or two folders by hr and lr"
        )
    if scale is None and not names:
        raise ValueError(f"{BICUBIC} has no scale of its own; state a scale")
    if scale is not None:
        check_scale(scale)
    cases: Sequence[Case] | None = None

    def cases_at(scale: int) -> Sequence[Case]:
        if hr is not None:
            return paired_cases(hr, lr, scale=scale)
        return benchmark_cases(data, sets, scale=scale) if data is not None else ()

    if hr is None and lr is not None:
        cases = cases_without_originals(lr)
    elif scale is not None:
        cases = cases_at(scale)
    elif hr is not None:
        paired_cases(hr, lr, scale=1)  # missing folders are refused before a network is loaded
    elif data is not None:
        check_benchmarks(data, sets)
    models: list[Model] = []
    notes: list[str] = []
    for name, label in zip(names, labels, strict=True):
        upscaler = Upscaler.from_pretrained(
            name,
            scale=scale,
            tiling=tiling,
            ensemble=execution.ensemble,
            device=execution.device,
            precision=execution.precision,
            engine=execution.engine,
            offline=offline,
            settings=settings,
        )
        if scale not in (None, upscaler.scale):
            raise ValueError(f"all models must have one scale: {name} has {upscaler.scale}, not {scale}")
        if cases is None:
            cases = cases_at(upscaler.scale)
        path = weights.find(name, scale=upscaler.scale, offline=offline)
        scale = upscaler.scale
        notes += upscaler.notes
        models.append(
            network_model(
                upscaler,
                label,
                weights=path,
                weights_file=name if Path(name).is_file() else None,
                published_as=name if _is_published(name) else None,
                settings=settings,
                follow_published_padding=protocol.padding == "published",
            )
        )
    assert scale is not None
    assert cases is not None
    plan = Plan(
        name=f"{'_'.join(labels) or BICUBIC}_x{scale}",
        scale=scale,
        models=[bicubic(scale=scale), *models],
        cases=cases,
        protocol=protocol,
        suffix=f"x{scale}",
        other_channel=hr is not None,
    )
    made = [
        f"{one}: no low-resolution pictures at x{scale}; made from the originals, as by MATLAB" for one in plan.made_lr
    ]
    return replace(plan, notes=[*notes, *made])


def tiling_of(*, tile: Any = None, overlap: int | None = None, rule: str | None = None) -> Tiling:
    """Return the tiling of an evaluation: whole pictures unless a value is given; published rules have their own sizes.

    Args:
        tile: See `Tiling.tile`.
        overlap: See `Tiling.overlap`; without ``tile`` it takes "auto".
        rule: See `Tiling.rule`.

    Raises:
        SettingsError: A value is wrong, or they contradict each other.
    """
    if tile is None and rule in (None, "blend"):
        tile = 0 if overlap is None else "auto"
    given = {"tile": tile, "overlap": overlap, "rule": rule}
    return parse_settings(Tiling, {key: value for key, value in given.items() if value is not None}, source="evaluate")


def measure(
    plan: Plan,
    *,
    metrics: Sequence[PerceptualMetric] = (),
    results: ResultsFolder | None = None,
    on_tile: OnCaseTile | None = None,
) -> Iterator[Score | Failure]:
    """Measure what a plan asks for, one picture after the other; arguments and errors as in `carry_out`."""
    return run(
        plan.models,
        plan.cases,
        scale=plan.scale,
        protocol=plan.protocol,
        metrics=metrics,
        other_channel=plan.other_channel,
        results=results,
        on_tile=on_tile,
    )


def carry_out(
    plan: Plan,
    *,
    metrics: Sequence[PerceptualMetric] = (),
    results: ResultsFolder | None = None,
    on_tile: OnCaseTile | None = None,
    on_result: Callable[[Score | Failure], None] = lambda _result: None,
) -> Report:
    """Measure what a plan asks for, and write the reports where a folder is given.

    Args:
        plan: See `plan_evaluation`.
        metrics: What to measure besides PSNR and SSIM.
        results: Folder for ``report.json``, ``report.csv``, ``report.md``, a text log and the upscaled pictures;
            finished results are taken from there.
        on_tile: Called after each tile.
        on_result: Called with each result; what it raises ends the evaluation, and a later one resumes there.

    Raises:
        DataError: The folder cannot be written to.
        ImageWriteError: An upscaled picture cannot be written.
    """
    scores: list[Score] = []
    failures: list[Failure] = []
    log = None
    if results is not None:
        results.begin()
        log = TextLog(results.path, "test")
    for found in measure(plan, metrics=metrics, results=results, on_tile=on_tile):
        if isinstance(found, Failure):
            failures.append(found)
        else:
            scores.append(found)
        if log is not None:
            log.add(found.as_text())
        on_result(found)
    report = Report(
        models=plan.models,
        scale=plan.scale,
        protocol=plan.protocol,
        scores=scores,
        failures=failures,
        made_lr=plan.made_lr,
        notes=plan.notes,
    )
    if results is not None and log is not None:
        for message in report.as_messages():
            log.add(message)
        results.write("report.json", json.dumps(report.as_json(), indent=2) + "\n")
        results.write("report.csv", report.as_csv())
        results.write("report.md", report.as_markdown())
    return report


def _is_published(name: str) -> bool:
    """Whether a name is that of a published network, so that its values are shown beside ours."""
    return not Path(name).is_file() and name not in {model for model, _ in weights.bundled()}
