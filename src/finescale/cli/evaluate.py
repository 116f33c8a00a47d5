"""``finescale evaluate``: networks on test sets, beside what their authors print."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from finescale.cli import console

if TYPE_CHECKING:
    from finescale.engines import EngineName, Precision
    from finescale.evaluate import Case, Failure, Model, Protocol, Report, Score
    from finescale.upscale import Tiling

SOME_FAILED = 2

_RESULTS = Path("results")


def evaluate(
    options: Annotated[
        Path | None, typer.Argument(metavar="[OPTIONS.yml]", help="A published option file for testing, run as it is.")
    ] = None,
    option_file: Annotated[Path | None, typer.Option(metavar="FILE.yml", help="The same.")] = None,
    network: Annotated[
        list[str] | None,
        typer.Option("-n", "--network", metavar="MODEL", help="A known network or a weight file; may be repeated."),
    ] = None,
    scale: Annotated[int | None, typer.Option("-s", "--scale", help="2, 3 or 4; default that of the network.")] = None,
    data: Annotated[Path | None, typer.Option(metavar="ROOT", help="The folder in which the test sets lie.")] = None,
    sets: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Such as Set5,Set14,B100; default all that there are.")
    ] = None,
    lr: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Pictures without originals, to be upscaled; no --data then."),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="papers (default), rgb, no-border, no-rounding or network-padding.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Further metrics of pyiqa, such as lpips,niqe.")
    ] = None,
    tile: Annotated[
        str | None, typer.Option("-t", "--tile", help="0 (default) for whole pictures, 'auto', or the largest side.")
    ] = None,
    overlap: Annotated[int | None, typer.Option(help="Input pixels that neighbouring tiles share.")] = None,
    tile_rule: Annotated[
        str | None, typer.Option(metavar="RULE", help="blend (default), or a published rule, such as chop.")
    ] = None,
    ensemble: Annotated[bool, typer.Option("--ensemble", help="Average over 8 flips and turns.")] = False,
    precision: Annotated[str, typer.Option(help="auto, float32, bf16 or fp16.")] = "float32",
    engine: Annotated[str | None, typer.Option(help="What computes: torch (default), compile or openvino.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Short for --engine compile, PyTorch's compiler.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Where the results go.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Results go to results/NAME; default: models and scale.")] = None,
    save_images: Annotated[
        bool | None, typer.Option("--save-images/--no-save-images", help="Keep the upscaled pictures; default: do.")
    ] = None,
    compare_picture: Annotated[
        bool, typer.Option("--compare-picture", help="Make a picture for each set: one detail by each model.")
    ] = False,
    crop: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="The detail, in pixels of the original.")] = None,
    picture: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Name of the picture to take the detail from.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="What the weight files do not show; may be repeated."),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use downloaded weights only.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Measure anew what is finished already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report on standard output.")] = False,
) -> None:
    """Measure PSNR and SSIM on test sets, by the papers' protocol, beside the bicubic and the published values."""
    import torch

    from finescale.evaluate import BICUBIC, Failure, Report, ResultsFolder, perceptual_metrics, run
    from finescale.settings import read_overrides
    from finescale.system.interrupt import deferred_interrupt

    if options is not None and option_file is not None:
        raise typer.BadParameter("one option file at a time")
    if output is not None and name is not None:
        raise typer.BadParameter("-o and --name exclude one another")
    if not compare_picture and (crop, picture) != (None, None):
        raise typer.BadParameter("--crop and --picture go with --compare-picture")
    detail = None if crop is None else _crop(crop)
    engine = console.engine_of(engine, compile=compile)
    using = _Using(
        device=device or ("cuda" if torch.cuda.is_available() and engine != "openvino" else "cpu"),
        precision=precision,
        engine=engine,
        ensemble=ensemble,
        offline=offline,
        settings=read_overrides(settings or ()),
    )
    file = options or option_file
    if file is not None:
        flags = {
            "-n": network, "-s": scale, "--data": data, "--sets": sets, "--lr": lr, "--protocol": protocol,
            "-t": tile, "--overlap": overlap, "--tile-rule": tile_rule, "--set": settings,
        }  # fmt: skip
        given = [flag for flag, value in flags.items() if value is not None]
        if given:
            raise typer.BadParameter(f"an option file says all of this itself: leave out {', '.join(given)}")
        plan = _plan_of_file(file, using)
    else:
        plan = _plan(
            network or [], using, scale=scale, data=data, sets=sets, lr=lr, protocol=protocol,
            tiling=_tiling(tile, overlap, tile_rule),
        )  # fmt: skip
    further = perceptual_metrics(_names(metrics), device=using.device)
    keep_pictures = plan.keep_pictures if save_images is None else save_images
    folder = output or _RESULTS / (name or plan.name)
    results = ResultsFolder(folder, overwrite=overwrite, keep_pictures=keep_pictures, suffix=plan.suffix)

    for note in plan.notes:
        console.say(f"note: {note}")
    scores: list[Score] = []
    failures: list[Failure] = []
    with _resumable(plan, scores), deferred_interrupt() as is_interrupted, _progress(plan) as (show_tile, show):

        def on_tile(model: Model, case: Case, done: int, total: int) -> None:
            if is_interrupted():
                raise KeyboardInterrupt
            show_tile(model, case, done, total)

        found = run(
            plan.models, plan.cases, scale=plan.scale, protocol=plan.protocol, metrics=further, results=results,
            on_tile=on_tile,
        )  # fmt: skip
        for entry in found:
            show(entry)
            if isinstance(entry, Failure):
                failures.append(entry)
            else:
                scores.append(entry)
            if is_interrupted():
                raise KeyboardInterrupt
    report = Report(
        models=plan.models,
        scale=plan.scale,
        protocol=plan.protocol,
        scores=scores,
        failures=failures,
        made_lr=plan.made_lr,
        notes=plan.notes,
    )
    results.write("report.json", json.dumps(report.as_json(), indent=2) + "\n")
    results.write("report.csv", report.as_csv())
    results.write("report.md", report.as_markdown())
    if compare_picture:
        from finescale.evaluate.gallery import write_comparisons

        for path in write_comparisons(report, plan.cases, results, image=picture, crop=detail, baseline=BICUBIC):
            console.say(f"picture: {path}")
    if as_json:
        console.print_json(report.as_json())
    else:
        _print_tables(report)
    console.say(f"results: {folder}")
    if failures:
        raise typer.Exit(SOME_FAILED)


# ---- what is asked for


@dataclass(frozen=True, kw_only=True)
class _Using:
    """How networks are run."""

    device: str
    precision: str
    engine: str
    ensemble: bool
    offline: bool
    settings: Mapping[str, Any]


@dataclass(frozen=True, eq=False, kw_only=True)
class _Plan:
    """All that is to be measured."""

    name: str
    scale: int
    models: Sequence[Model]
    cases: Sequence[Case]
    protocol: Protocol
    keep_pictures: bool
    suffix: str
    made_lr: Sequence[str]
    notes: Sequence[str]


def _plan(
    names: Sequence[str],
    using: _Using,
    *,
    scale: int | None,
    data: Path | None,
    sets: str | None,
    lr: Path | None,
    protocol: str | None,
    tiling: Tiling,
) -> _Plan:
    """What the flags ask for."""
    from finescale import weights
    from finescale.evaluate import (
        BICUBIC,
        PAPERS,
        benchmark_cases,
        bicubic,
        cases_without_originals,
        labels_of,
        network_model,
        protocol_named,
    )
    from finescale.upscale import Upscaler

    if not names:
        raise typer.BadParameter(f"no MODEL: name a network or a weight file by -n, or {BICUBIC}")
    if (data is None) == (lr is None):
        raise typer.BadParameter("give --data, the folder of the test sets, or --lr, pictures without originals")
    if lr is not None and sets is not None:
        raise typer.BadParameter("--sets goes with --data")
    rules = PAPERS if protocol is None else protocol_named(protocol)
    names = [one for one in dict.fromkeys(names) if one != BICUBIC]
    labels = labels_of(names)
    bundled = {model for model, _ in weights.bundled()}
    models: list[Model] = []
    notes: list[str] = []
    for one, label in zip(names, labels, strict=True):
        with console.messages_of_the_library():
            path = weights.find(one, scale=scale, offline=using.offline)
        upscaler = Upscaler.from_pretrained(
            one,
            scale=scale,
            tiling=tiling,
            ensemble=using.ensemble,
            device=using.device,
            precision=cast("Precision", using.precision),
            engine=cast("EngineName", using.engine),
            offline=using.offline,
            settings=using.settings,
        )
        if scale not in (None, upscaler.scale):
            raise ValueError(f"all models must have one scale: {one} has {upscaler.scale}, not {scale}")
        scale = upscaler.scale
        notes += upscaler.notes
        is_known = not Path(one).is_file() and one not in bundled
        models.append(
            network_model(
                upscaler,
                label,
                weights=path,
                published_as=one if is_known else None,
                settings=using.settings,
                follow_published_padding=rules.padding == "published",
            )
        )
    if scale is None:
        raise typer.BadParameter(f"{BICUBIC} has no scale of its own: give one by -s")
    if scale < 1:
        raise typer.BadParameter(f"--scale must be 2, 3 or 4, got {scale}")
    if data is not None:
        cases = benchmark_cases(data, _names(sets), scale=scale)
    else:
        assert lr is not None
        cases = cases_without_originals(lr)
    made = list(dict.fromkeys(case.set for case in cases if case.lr is None))
    told = [f"{one}: no low-resolution pictures at x{scale}; made of the originals, as MATLAB would" for one in made]
    return _Plan(
        name=f"{'_'.join(labels) or BICUBIC}_x{scale}",
        scale=scale,
        models=[bicubic(scale=scale), *models],
        cases=cases,
        protocol=rules,
        keep_pictures=True,
        suffix=f"x{scale}",
        made_lr=made,
        notes=[*notes, *told],
    )


def _plan_of_file(path: Path, using: _Using) -> _Plan:
    """What a published option file asks for."""
    from finescale.basicsr.testing import load_option_file
    from finescale.evaluate import bicubic, labels_of, network_model
    from finescale.upscale import Upscaler

    asked = load_option_file(path)
    upscaler = Upscaler(
        asked.network,
        tiling=asked.tiling,
        ensemble=using.ensemble,
        device=using.device,
        precision=cast("Precision", using.precision),
        engine=cast("EngineName", using.engine),
    )
    (label,) = labels_of([str(asked.weights)])
    notes = [f"{path}: without effect here: {', '.join(asked.ignored)}"] if asked.ignored else []
    return _Plan(
        name=asked.name,
        scale=asked.scale,
        models=[bicubic(scale=asked.scale), network_model(upscaler, label, weights=asked.weights)],
        cases=asked.cases,
        protocol=asked.protocol,
        keep_pictures=asked.keep_pictures,
        suffix=asked.suffix,
        made_lr=[],
        notes=notes,
    )


def _tiling(tile: str | None, overlap: int | None, rule: str | None) -> Tiling:
    """Whole pictures, unless something else is asked for; a published rule has its own sizes."""
    from finescale.settings import parse_settings
    from finescale.upscale import Tiling

    if tile is None and rule in (None, "blend"):
        tile = "auto" if overlap is not None else "0"
    given = {
        "tile": int(tile) if tile is not None and re.fullmatch(r"-?\d+", tile) else tile,
        "overlap": overlap,
        "rule": rule,
    }
    return parse_settings(Tiling, {key: value for key, value in given.items() if value is not None}, source="evaluate")


def _names(text: str | None) -> list[str]:
    return [] if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _crop(text: str) -> tuple[int, int, int, int]:
    found = re.fullmatch(r"(\d+),(\d+),([1-9]\d*),([1-9]\d*)", text.replace(" ", ""))
    if not found:
        raise typer.BadParameter(f"--crop must be x,y,width,height such as 120,40,80,80, got {text!r}")
    x, y, width, height = map(int, found.groups())
    return x, y, width, height


# ---- what is told


@contextmanager
def _resumable(plan: _Plan, scores: Sequence[Score]) -> Iterator[None]:
    """Says how far it was when it is interrupted."""
    try:
        yield
    except KeyboardInterrupt:
        total = len(plan.models) * len(plan.cases)
        console.say(f"{len(scores)} of {total} results are finished; the same command goes on there")
        raise


@contextmanager
def _progress(
    plan: _Plan,
) -> Iterator[tuple[Callable[[Model, Case, int, int], None], Callable[[Score | Failure], None]]]:
    """A bar with the time left on a terminal, else a line per result: what to call for each tile and each result."""
    total = len(plan.models) * len(plan.cases)
    if not console.errors().is_terminal:
        yield lambda _model, _case, _done, _total: None, _say
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from finescale.errors import printable_name
    from finescale.evaluate import Failure

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.errors(), transient=True) as progress:
        pictures = progress.add_task("pictures", total=total)
        tiles = progress.add_task("tiles", total=None)

        def show_tile(model: Model, case: Case, done: int, total: int) -> None:
            told = printable_name(f"{model.name}: {case.set} {case.name}")
            progress.update(tiles, description=told, completed=done, total=total)

        def show(entry: Score | Failure) -> None:
            progress.advance(pictures, 1 if entry.model is not None else len(plan.models))
            if isinstance(entry, Failure):
                _say(entry)

        yield show_tile, show


def _say(entry: Score | Failure) -> None:
    from finescale.evaluate import Failure

    if isinstance(entry, Failure):
        console.say(f"failed: {entry.reason}")
        return
    value = "" if entry.psnr is None or entry.ssim is None else f": {entry.psnr:.4f} dB, {entry.ssim:.4f}"
    console.say(f"{'kept' if entry.is_reused else 'done'}: {entry.model}: {entry.set} {entry.image}{value}")


def _print_tables(report: Report) -> None:
    """Tables with a blank line between them; colours and the terminal's width only where there is a terminal."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from finescale.errors import printable_name

    output = Console(highlight=False, width=None if sys.stdout.isatty() else console.PIPE_WIDTH)
    for number, table in enumerate(report.tables()):
        if number:
            output.print()
        output.print(Text(table.title))
        shown = Table(box=None, pad_edge=False, header_style="bold")
        for title in table.header:
            is_name = title in ("model", "models", "set")
            shown.add_column(Text(title), overflow="fold", justify="left" if is_name else "right")
        for row in table.rows:
            shown.add_row(*(Text(printable_name(cell)) for cell in row))
        output.print(shown)
