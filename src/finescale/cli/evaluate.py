"""``finescale evaluate``: networks on test sets, beside the published values."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from finescale.cli import console, options
from finescale.cli.progress import bars
from finescale.cli.shards import REPORT, ShareReport
from finescale.system.shards import Shard, deal

if TYPE_CHECKING:
    from finescale import engines
    from finescale.evaluate import Case, Failure, Model, Plan, Report, ResultsFolder, Score
    from finescale.evaluate.perceptual import PerceptualMetric
    from finescale.evaluate.run import OnCaseTile

_RESULTS = Path("results")


def evaluate(
    option_file: Annotated[
        Path | None,
        typer.Argument(metavar="[OPTIONS.yml]", help="A published option file for testing, in the format of BasicSR."),
    ] = None,
    same_file: Annotated[
        Path | None,
        typer.Option(
            "--option-file", "-opt", "--opt", metavar="FILE.yml", help="The same as OPTIONS.yml, as in BasicSR."
        ),
    ] = None,
    networks: Annotated[
        list[str] | None,
        typer.Option(
            "-n",
            "--network",
            "--model_path",
            metavar="MODEL",
            help="A known network, owner/name on the hub, or a path to a weight file; may be repeated.",
        ),
    ] = None,
    scale: options.Scale = None,
    data: Annotated[Path | None, typer.Option(metavar="ROOT", help="Folder of all test sets.")] = None,
    sets: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Test sets, such as Set5,Set14,B100; default: all below ROOT.")
    ] = None,
    hr: Annotated[
        Path | None,
        typer.Option(
            "--hr", "--input", metavar="FOLDER", help="In place of --data: originals; luma and RGB are both measured."
        ),
    ] = None,
    lr: Annotated[
        Path | None,
        typer.Option(
            "--lr",
            "--folder_lq",
            metavar="FOLDER",
            help="Low-resolution pictures of --hr; without it, pictures that are only upscaled.",
        ),
    ] = None,
    protocol: Annotated[
        str | None, typer.Option(help="papers (default), rgb, no-border, no-rounding or network-padding.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Further metrics of pyiqa, such as lpips,niqe.")
    ] = None,
    tile: options.Tile = None,
    overlap: options.Overlap = None,
    tile_rule: options.TileRule = None,
    ensemble: options.Ensemble = False,
    precision: options.Precision = "float32",
    engine: Annotated[str | None, typer.Option(help="torch (default), compile or openvino.")] = None,
    compile: options.Compile = False,
    device: options.Device = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FOLDER", help="Folder for the results.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Results go to results/NAME; default: the models and the scale.")
    ] = None,
    save_images: Annotated[
        bool | None, typer.Option("--save-images/--no-save-images", help="Keep the upscaled pictures; default: keep.")
    ] = None,
    compare_picture: Annotated[
        bool, typer.Option("--compare-picture", help="Write a picture for each set: one detail by each model.")
    ] = False,
    crop: Annotated[str | None, typer.Option(metavar="X,Y,W,H", help="The detail, in pixels of the original.")] = None,
    picture: Annotated[
        str | None, typer.Option(metavar="IMAGE", help="Name of the picture that the detail is taken from.")
    ] = None,
    settings: options.NetworkSettings = None,
    offline: options.Offline = False,
    shard: options.ShardText = None,
    overwrite: options.Overwrite = False,
    launcher: options.Launcher = None,
    auto_resume: options.AutoResume = False,
    local_rank: options.LocalRank = None,
    as_json: options.AsJson = False,
    _threads: options.Threads = None,
) -> None:
    """Measure PSNR and SSIM on test sets, by the papers' protocol, beside the bicubic and the published values.

    Pictures are upscaled whole unless -t, --overlap or --tile-rule is given.
    """
    from finescale.data import check_name
    from finescale.evaluate import (
        BICUBIC,
        PAPERS,
        Execution,
        ResultsFolder,
        carry_out,
        check_metrics,
        check_results_folder,
        perceptual_metrics,
        plan_evaluation,
        protocol_named,
        tiling_of,
    )
    from finescale.settings import read_overrides

    launch = options.notes_on_launch(launcher, auto_resume=auto_resume, local_rank=local_rank)
    if not options.is_first_process():
        return  # one process evaluates; the others that torchrun has started have nothing to do
    if option_file is not None and same_file is not None:
        raise typer.BadParameter("name one option file, got two")
    file = option_file or same_file
    if output is not None and name is not None:
        raise typer.BadParameter("-o and --name are mutually exclusive")
    if not compare_picture and (crop, picture) != (None, None):
        raise typer.BadParameter("--crop and --picture need --compare-picture")
    detail = None if crop is None else _crop(crop)
    engine_name = options.engine_of(engine, compile=compile, default="torch")
    execution = Execution(
        device=options.device_of(device, engine=engine_name),
        precision=cast("engines.Precision", precision),
        engine=engine_name,
        ensemble=ensemble,
    )
    if name is not None:
        check_name(name, what="--name")
    folder = output or (None if name is None else _RESULTS / name)
    if folder is not None:
        check_results_folder(folder)
    check_metrics(options.names_of(metrics))
    overrides = read_overrides(settings or ())
    if file is not None:
        flags = {
            "-n": networks, "-s": scale, "--data": data, "--sets": sets, "--hr": hr, "--lr": lr, "--protocol": protocol,
            "-t": tile, "--overlap": overlap, "--tile-rule": tile_rule, "--set": settings,
        }  # fmt: skip
        given = [flag for flag, value in flags.items() if value is not None]
        if given:
            raise typer.BadParameter(f"an option file already states all of this; omit {', '.join(given)}")
        from finescale.basicsr.evaluation import plan_option_file

        plan = plan_option_file(file, execution=execution)
    else:
        if not networks:
            raise typer.BadParameter(f"no MODEL: name a network or a weight file by -n, or {BICUBIC}")
        if (data is None) == (hr is None and lr is None):
            raise typer.BadParameter(
                "give --data, the folder of the test sets, or --hr and --lr, two folders, or --lr, pictures without "
                "originals"
            )
        if data is None and sets is not None:
            raise typer.BadParameter("--sets needs --data")
        rules = PAPERS if protocol is None else protocol_named(protocol)
        tiling = tiling_of(tile=None if tile is None else options.read_tile(tile), overlap=overlap, rule=tile_rule)
        with console.messages_of_the_library():
            plan = plan_evaluation(
                networks, data=data, sets=options.names_of(sets), hr=hr, lr=lr, scale=scale, protocol=rules,
                tiling=tiling, execution=execution, offline=offline, settings=overrides,
            )  # fmt: skip
    further = perceptual_metrics(options.names_of(metrics), device=execution.device)
    keep_pictures = plan.keep_pictures if save_images is None else save_images
    if folder is None:
        check_name(plan.name, what="the name of the results")
        folder = _RESULTS / plan.name
    own_shard = options.shard_of(shard)
    results = ResultsFolder(
        folder,
        overwrite=overwrite,
        keep_pictures=keep_pictures,
        suffix=plan.suffix,
        visualized=plan.visualized,
        shard=own_shard.file_suffix if own_shard.count > 1 else "",
    )
    if own_shard.count > 1:
        _run_share(plan, own_shard, metrics=further, results=results)
        return

    for note in (*launch, *plan.notes):
        console.say(f"note: {note}")
    with _watched(plan) as (on_tile, on_result):
        report = carry_out(plan, metrics=further, results=results, on_tile=on_tile, on_result=on_result)
    if compare_picture:
        from finescale.evaluate.gallery import write_comparisons

        for path in write_comparisons(report, plan.cases, results, image=picture, crop=detail, baseline=BICUBIC):
            console.say(f"picture: {path}")
    if as_json:
        console.print_json(report.as_json())
    else:
        _print_tables(report)
    console.say(f"results: {folder}")
    if report.failures:
        raise typer.Exit(console.SOME_FAILED)


def _run_share(plan: Plan, shard: Shard, *, metrics: Sequence[PerceptualMetric], results: ResultsFolder) -> None:
    """Measure the pictures of one shard into a folder that all share; the command without a shard makes the tables."""
    from finescale.evaluate import Failure
    from finescale.evaluate.plan import measure

    shares = deal(plan.cases, shard.count, size=lambda case: sum(facts[0] for facts in case.fingerprint() if facts))
    results.begin()
    planned = [[(f"{case.set}/{case.name}", str(results.path)) for case in share] for share in shares]
    share_report = ShareReport(results.path / REPORT, shard, planned)
    plan = replace(plan, cases=shares[shard.number - 1])
    reasons: dict[str, list[str]] = {f"{case.set}/{case.name}": [] for case in plan.cases}
    num_found = dict.fromkeys(reasons, 0)
    try:
        with _watched(plan) as (on_tile, on_result):
            for found in measure(plan, metrics=metrics, results=results, on_tile=on_tile):
                name = f"{found.set}/{found.image}"
                num_found[name] += len(plan.models) if found.model is None else 1
                if isinstance(found, Failure):
                    reasons[name].append(found.reason)
                on_result(found)
    finally:
        finished = [name for name, count in num_found.items() if count == len(plan.models)]
        share_report.end(
            [
                {
                    "input": name,
                    "status": "failed" if reasons[name] else "done",
                    "reason": "; ".join(reasons[name]) or None,
                }
                for name in finished
            ]
        )
    if any(reasons.values()):
        raise typer.Exit(console.SOME_FAILED)


def _crop(text: str) -> tuple[int, int, int, int]:
    found = re.fullmatch(r"(\d+),(\d+),([1-9]\d*),([1-9]\d*)", text.replace(" ", ""))
    if not found:
        raise typer.BadParameter(f"--crop must be x,y,width,height such as 120,40,80,80, got {text!r}")
    x, y, width, height = map(int, found.groups())
    return x, y, width, height


@contextmanager
def _watched(plan: Plan) -> Iterator[tuple[OnCaseTile, Callable[[Score | Failure], None]]]:
    """Show the progress of an evaluation and end it on an interrupt; yield what is called for each tile and result."""
    from finescale.evaluate import Failure
    from finescale.system.interrupt import deferred_interrupt

    total = len(plan.models) * len(plan.cases)
    num_done, num_scores = 0, 0
    try:
        with deferred_interrupt() as is_interrupted, bars() as shown:
            shown.show("pictures", 0, total)

            def on_tile(model: Model, case: Case, done: int, tiles: int) -> None:
                if is_interrupted():
                    raise KeyboardInterrupt
                shown.show("tiles", done, tiles, label=f"{model.name}: {case.set} {case.name}")

            def on_result(result: Score | Failure) -> None:
                nonlocal num_done, num_scores
                num_done += 1 if result.model is not None else len(plan.models)
                num_scores += not isinstance(result, Failure)
                shown.show("pictures", num_done, total)
                if isinstance(result, Failure) or not shown.are_drawn:
                    console.say(result.as_text())
                if is_interrupted():
                    raise KeyboardInterrupt

            yield on_tile, on_result
    except KeyboardInterrupt:
        console.say(f"{num_scores} of {total} results are finished; run the same command to continue")
        raise


def _print_tables(report: Report) -> None:
    """Print the tables of a report on standard output, with their titles and a blank line between them."""
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
