"""``finescale upscale``: pictures in, larger pictures out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from finescale.cli import console

if TYPE_CHECKING:
    from collections.abc import Callable

    from finescale.engines import EngineName, Precision
    from finescale.upscale import Upscaler
    from finescale.upscale.outputs import Job
    from finescale.upscale.report import UpscaleReport

SOME_FAILED = 2

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def upscale(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT...", help="Pictures, folders, or patterns like '*.jpg'.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder for the results, or the result's name; default beside each input."),
    ] = None,
    more_inputs: Annotated[
        list[str] | None, typer.Option("-i", "--input", help="One more picture, folder or pattern; may be repeated.")
    ] = None,
    network: Annotated[
        str,
        typer.Option("-n", "--network", metavar="MODEL", help="A known network, owner/name on the hub, a weight file."),
    ] = "default",
    scale: Annotated[
        int | None, typer.Option("-s", "--scale", help="2, 3 or 4; default 4, or what the weight file is made for.")
    ] = None,
    tile: Annotated[
        str, typer.Option("-t", "--tile", help="'auto', 0 for the whole picture, or the largest side in input pixels.")
    ] = "auto",
    overlap: Annotated[int | None, typer.Option(help="Input pixels that neighbouring tiles share.")] = None,
    tile_rule: Annotated[
        str | None,
        typer.Option(
            metavar="RULE", help="blend, or as a paper's code tiles: chop (HiT-SR, DAT), pad, average (DRCT)."
        ),
    ] = None,
    chop: Annotated[bool, typer.Option("--chop", help="Short for --tile-rule chop.")] = False,
    recursive: Annotated[bool, typer.Option(help="Also look into the folders below a named folder.")] = True,
    format: Annotated[str, typer.Option("--format", help="png, jpg, webp, tif, bmp or avif.")] = "png",
    quality: Annotated[int | None, typer.Option(help="1 to 100, for JPEG, WebP and AVIF.")] = None,
    suffix: Annotated[str | None, typer.Option(help="What is added to each name, in place of '_x4'.")] = None,
    name: Annotated[str | None, typer.Option(help="Template of the names, with {stem}, {scale} and {network}.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make results anew that exist already.")] = False,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="Average over 8 flips and turns: a little better, 8 times slower.")
    ] = False,
    precision: Annotated[str, typer.Option(help="auto, float32, bf16 or fp16.")] = "auto",
    engine: Annotated[str | None, typer.Option(help="What computes: torch (default), compile or openvino.")] = None,
    compile: Annotated[bool, typer.Option("--compile", help="Short for --engine compile, PyTorch's compiler.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps; default cuda where there is one.")] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="What a tile may take on the device, such as 800M or 4G.")
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(help="Refuse pictures with more pixels than this; default 250 million.")
    ] = None,
    outscale: Annotated[float | None, typer.Option(help="Size of the result as a multiple of the input's.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of the result in pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Height of the result in pixels.")] = None,
    long_side: Annotated[int | None, typer.Option(help="Longer side of the result in pixels.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="What the weight file does not show; may be repeated."),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Touch no network: take published weights only if fetched before.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a report on standard output.")] = False,
) -> None:
    """Upscale pictures. Inputs are never touched, existing results are kept unless --overwrite."""
    import torch

    from finescale import weights
    from finescale.images import MAX_PIXELS, WRITABLE_SUFFIXES
    from finescale.settings import parse_settings, read_overrides
    from finescale.system.interrupt import deferred_interrupt
    from finescale.upscale import Tiling, Upscaler
    from finescale.upscale.batch import run_jobs
    from finescale.upscale.inputs import find_inputs
    from finescale.upscale.outputs import OutputSettings, plan_jobs

    named = [*(inputs or ()), *(more_inputs or ())]
    if not named:
        raise typer.BadParameter("no INPUT: name pictures, folders or patterns")
    if suffix is not None and name is not None:
        raise typer.BadParameter("--suffix and --name exclude one another")
    if chop and tile_rule not in (None, "chop"):
        raise typer.BadParameter(f"--chop and --tile-rule {tile_rule} exclude one another")
    engine = console.engine_of(engine, compile=compile)
    if suffix is not None:
        name = "{stem}" + suffix.replace("{", "{{").replace("}", "}}")
    one_file = output is not None and not output.is_dir() and output.suffix.lower() in WRITABLE_SUFFIXES
    given = {
        "folder": None if one_file else output,
        "file": output if one_file else None,
        "name": name,
        "format": format,
        "quality": quality,
        "overwrite": overwrite,
        "outscale": outscale,
        "width": width,
        "height": height,
        "long_side": long_side,
    }
    output_as = parse_settings(OutputSettings, {k: v for k, v in given.items() if v is not None}, source="upscale")
    tiling = parse_settings(
        Tiling,
        {
            "tile": int(tile) if re.fullmatch(r"-?\d+", tile) else tile,
            "overlap": overlap,
            "rule": "chop" if chop else tile_rule or "blend",
            "max_memory": None if max_memory is None else _bytes(max_memory),
        },
        source="upscale",
    )
    with console.messages_of_the_library():
        upscaler = Upscaler.from_pretrained(
            network,
            scale=scale,
            tiling=tiling,
            ensemble=ensemble,
            device=device or ("cuda" if torch.cuda.is_available() and engine != "openvino" else "cpu"),
            precision=cast("Precision", precision),
            engine=cast("EngineName", engine),
            offline=offline,
            settings=read_overrides(settings or ()),
        )
    for note in upscaler.notes:
        console.say(f"note: {note}")
    console.say(f"computing in {_arithmetic(upscaler)} on {upscaler.device} by engine {upscaler.engine}")
    found = find_inputs(named, recursive=recursive, exclude=output_as.folder)
    for sentence in found.skipped:
        console.say(sentence)
    jobs, results = plan_jobs(found.images, output_as, scale=upscaler.scale, network=Path(network).stem)
    for path in results:
        console.say(f"{path}: left out, it has the name of another picture's result")

    photo_network = weights.for_photos(network, scale=upscaler.scale)
    reports, notes = list(found.failures), list(upscaler.notes)
    for report in found.failures:
        console.say(f"failed: {report.reason}")
    try:
        with deferred_interrupt() as is_interrupted, _progress(len(jobs)) as (show_tile, show_file):

            def on_tile(job: Job, done: int, total: int) -> None:
                if is_interrupted():
                    raise KeyboardInterrupt
                show_tile(job, done, total)

            for report in run_jobs(
                jobs,
                upscaler,
                output_as,
                max_pixels=max_pixels or MAX_PIXELS,
                detect_compression=photo_network is not None,
                on_tile=on_tile,
                stop=is_interrupted,
            ):
                reports.append(report)
                show_file(report)
            if is_interrupted():
                raise KeyboardInterrupt
    finally:
        if any(report.compression for report in reports):
            notes.append(f"{_compressed(reports)}: `-n {photo_network}` is made for such pictures")
            console.say(f"note: {notes[-1]}")
        console.say(_summary(reports, planned=len(jobs) + len(found.failures)))
        if as_json:
            console.print_json({"files": [report.as_json() for report in reports], "notes": notes})
    if any(report.status == "failed" for report in reports):
        raise typer.Exit(SOME_FAILED)


def _arithmetic(upscaler: Upscaler) -> str:
    """What the network computes in; a quantized one multiplies integers by OpenVINO alone."""
    from finescale.quantize import is_quantized, settings_of

    if not is_quantized(upscaler.network):
        return upscaler.precision
    bits = settings_of(upscaler.network).bits
    if upscaler.engine == "openvino":
        return f"integers of {bits} bits, all else in {upscaler.precision},"
    return f"{upscaler.precision} what integers of {bits} bits give ('--engine openvino' multiplies integers)"


def _bytes(text: str) -> int:
    """A size such as "4G" or "800 MiB" in bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", text.strip().lower())
    if not found:
        raise typer.BadParameter(f"--max-memory must be a size such as 800M or 4G, got {text!r}")
    return int(float(found[1]) * _UNITS[found[2]])


@contextmanager
def _progress(
    num_jobs: int,
) -> Iterator[tuple[Callable[[Job, int, int], None], Callable[[UpscaleReport], None]]]:
    """A bar with the time left on a terminal, else a line per picture: what to call for each tile and each file."""
    if not console.errors().is_terminal:
        yield lambda _job, _done, _total: None, _say_report
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from finescale.errors import printable_name

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.errors(), transient=True) as progress:
        files = progress.add_task("pictures", total=num_jobs)
        tiles = progress.add_task("tiles", total=None)

        def show_tile(job: Job, done: int, total: int) -> None:
            progress.update(tiles, description=printable_name(job.input.name), completed=done, total=total)

        def show_file(report: UpscaleReport) -> None:
            progress.advance(files)
            _say_report(report)

        yield show_tile, show_file


def _say_report(report: UpscaleReport) -> None:
    name = report.input
    if report.status == "failed":
        console.say(f"failed: {report.reason}")
    elif report.status == "kept":
        console.say(f"kept: {report.output}: {report.reason}")
    elif report.input_size and report.output_size:
        (height, width), (new_height, new_width) = report.input_size, report.output_size
        console.say(
            f"done: {name} ({width} x {height}) -> {report.output} ({new_width} x {new_height}), {report.seconds:.1f} s"
        )
        for note in report.notes:
            console.say(f"note: {name}: {note}")


def _compressed(reports: list[UpscaleReport]) -> str:
    """Which pictures look compressed, or how many, and how far."""
    found = [report for report in reports if report.compression]
    if len(found) == 1:
        return f"{found[0].input}: looks compressed ({found[0].compression})"
    qualities = [report.compression.quality for report in found if report.compression and report.compression.quality]
    told = f" (JPEG quality about {min(qualities)} to {max(qualities)})" if qualities else ""
    return f"{len(found)} of {len(reports)} pictures look compressed{told}"


def _summary(reports: list[UpscaleReport], *, planned: int) -> str:
    counts = {status: sum(report.status == status for report in reports) for status in ("done", "kept", "failed")}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nothing to do"
    left = planned - len(reports)
    return f"{told}, {left} not begun" if left else told
