"""``finescale prepare``: folders of pictures made ready for training and testing, and looked over."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli import console

if TYPE_CHECKING:
    from finescale.system.jobs import FileReport

SOME_FAILED = 2

app = typer.Typer(
    help="Make data sets ready: low-resolution pictures, sub-images, caches, LMDBs; and find what is wrong with them.",
    rich_markup_mode=None,
)

Originals = Annotated[list[Path], typer.Argument(metavar="HR", help="Folders of originals.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Folder for what is made.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, metavar="N", help="Pictures at once; default: one per processor core.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make anew what exists already.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a report on standard output.")]


@app.command()
def downsample(
    folders: Originals,
    output: Output,
    scale: Annotated[str, typer.Option("-s", "--scale", metavar="N,...", help="Scales, 2 to 16.")] = "2,3,4",
    variant: Annotated[
        str, typer.Option(help="uint8, double or uint8-replicate, also A, B, C: whose bicubic to reproduce.")
    ] = "uint8",
    layout: Annotated[str, typer.Option(help="edsr: X4/birdx4.png; basicsr: LRbicx4/bird.png.")] = "edsr",
    cut_hr: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also keep the originals, cut to a multiple of all scales."),
    ] = None,
    degradation: Annotated[
        Path | None,
        typer.Option(metavar="FILE.yml", help="Degrade them besides, by the fields of a training's data.degradation."),
    ] = None,
    seed: Annotated[int, typer.Option(help="With each picture's name decides how it is degraded.")] = 0,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Make the low-resolution pictures of originals, bit for bit as MATLAB makes them, or as the web has them."""
    from finescale.data import DegradationSettings, DownsampleSettings, downsample_files, find_hr_images
    from finescale.settings import load_settings, parse_settings

    given = {
        "folder": output,
        "scales": _scales(scale),
        "variant": variant,
        "layout": layout,
        "cut_folder": cut_hr,
        "degradation": None if degradation is None else load_settings(DegradationSettings, degradation),
        "seed": seed,
        "overwrite": overwrite,
    }
    settings = parse_settings(DownsampleSettings, given, source="downsample")
    paths = find_hr_images(folders)
    _run(downsample_files(paths, settings, workers=_workers(workers)), total=len(paths), output=output, as_json=as_json)


@app.command()
def crops(
    folders: Originals,
    output: Output,
    size: Annotated[int, typer.Option(help="Height and width of a part, in pixels of the original.")] = 480,
    step: Annotated[int, typer.Option(help="From one part to the next, in pixels of the original.")] = 240,
    threshold: Annotated[
        int, typer.Option(help="A rest at the far border gets a part of its own if it is wider than this.")
    ] = 0,
    keep_small: Annotated[
        bool, typer.Option("--keep-small", help="Keep pictures smaller than a part; by default they are left out.")
    ] = False,
    lr: Annotated[
        Path | None, typer.Option("--lr", metavar="FOLDER", help="Folder of low-resolution pictures, to be cut alike.")
    ] = None,
    lr_output: Annotated[
        Path | None, typer.Option("--lr-output", metavar="FOLDER", help="Folder for their parts, of the same names.")
    ] = None,
    scale: Annotated[int | None, typer.Option("-s", "--scale", help="How many times smaller they are.")] = None,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Cut originals, or pairs, into overlapping parts."""
    from finescale.data import CropSettings, FileReport, crop_files, find_hr_images, find_images, match_pairs
    from finescale.errors import printable_name
    from finescale.settings import parse_settings

    if len({lr is None, lr_output is None, scale is None}) > 1:
        raise typer.BadParameter("--lr, --lr-output and --scale go together")
    given = {
        "folder": output,
        "size": size,
        "step": step,
        "threshold": threshold,
        "keep_small": keep_small,
        "scale": scale,
        "lr_folder": lr_output,
        "overwrite": overwrite,
    }
    settings = parse_settings(CropSettings, given, source="crops")
    paths = find_hr_images(folders)
    pairs, unpaired = None, []
    if lr is not None and scale is not None:
        matching = match_pairs(paths, find_images(lr), scale=scale)
        pairs = matching.pairs
        for path in matching.without_hr:
            unpaired.append(FileReport(path, "failed", reason=f"{printable_name(path)}: its original is missing"))
    reports = crop_files(paths, settings, lr=pairs, workers=_workers(workers))
    _run(reports, total=len(paths), output=output, as_json=as_json, first=unpaired)


@app.command()
def cache(
    folders: Originals,
    output: Output,
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Decode originals into one file that is mapped into memory."""
    from finescale.data import find_hr_images, write_cache

    paths = find_hr_images(folders)
    reports = write_cache(paths, output, overwrite=overwrite, workers=_workers(workers))
    _run(reports, total=len(paths), output=output, as_json=as_json)


@app.command()
def lmdb(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Folders of pictures.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.lmdb", help="The LMDB, a folder.")],
    drop_ending: Annotated[
        str, typer.Option(metavar="TEXT", help="Taken off every name, such as x4, so that pairs have the same keys.")
    ] = "",
    workers: Workers = None,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Write pictures into an LMDB as BasicSR reads it."""
    from finescale.data import find_hr_images, write_lmdb

    paths = find_hr_images(folders)
    reports = write_lmdb(paths, output, drop_ending=drop_ending, overwrite=overwrite, workers=_workers(workers))
    _run(reports, total=len(paths), output=output, as_json=as_json)


@app.command()
def check(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="HR", help="Folders of originals.")] = None,
    lr: Annotated[
        Path | None, typer.Option("--lr", metavar="FOLDER", help="Folder of the low-resolution pictures of one HR.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="Folder of test sets, in any of their published layouts.")
    ] = None,
    sets: Annotated[str | None, typer.Option(metavar="SET,...", help="Which sets below ROOT; default: all.")] = None,
    scale: Annotated[
        str | None, typer.Option("-s", "--scale", metavar="N,...", help="The scale of --lr; of --root, default 2,3,4.")
    ] = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """List every picture that is missing, unreadable, of the wrong size, or there twice."""
    from finescale.data import PictureSet, benchmark_sets, check_pictures, plan_check
    from finescale.system.interrupt import deferred_interrupt

    if bool(folders) == (root is not None):
        raise typer.BadParameter("name either folders of originals or --root")
    if root is None:
        if sets is not None:
            raise typer.BadParameter("--sets are those below --root")
        scales = () if scale is None else _scales(scale)
        if (lr is None) != (not scales) or (lr is not None and len(folders or ()) + len(scales) > 2):
            raise typer.BadParameter("--lr and one --scale go together, and belong to one folder of originals")
        smaller = {} if lr is None else {scales[0]: lr}
        chosen = [PictureSet(folder, smaller) for folder in folders or ()]
    elif lr is not None:
        raise typer.BadParameter("--lr belongs to a folder of originals, not to --root")
    else:
        names = [] if sets is None else [name for name in sets.split(",") if name]
        chosen = benchmark_sets(root, names, scales=_scales(scale or "2,3,4"))

    checklist = plan_check(chosen)
    problems = list(checklist.problems)
    for problem in problems:
        console.say(f"{problem.kind}: {problem.reason}")
    num_checked = 0
    results = check_pictures(checklist, workers=_workers(workers))
    try:
        with closing(results), deferred_interrupt() as is_interrupted, _progress(len(checklist.pictures)) as advance:
            for checked in results:
                num_checked += 1
                for problem in checked.problems:
                    problems.append(problem)
                    console.say(f"{problem.kind}: {problem.reason}")
                advance()
                if is_interrupted():
                    raise KeyboardInterrupt
    finally:
        is_whole = num_checked == len(checklist.pictures)
        left = "" if is_whole else f", {len(checklist.pictures) - num_checked} not looked at"
        console.say(f"originals: {num_checked}, pairs: {checklist.num_pairs}, problems: {len(problems)}{left}")
        if as_json:
            facts = {"whole": is_whole, "originals": num_checked, "pairs": checklist.num_pairs}
            console.print_json({**facts, "problems": [problem.as_json() for problem in problems]})
    if problems:
        raise typer.Exit(SOME_FAILED)


def _run(
    reports: Generator[FileReport, None, None],
    *,
    total: int,
    output: Path,
    as_json: bool,
    first: Iterable[FileReport] = (),
) -> None:
    """Take reports as they come, say and count them, and end with the exit code that they deserve."""
    from finescale.system.interrupt import deferred_interrupt

    taken = list(first)
    total += len(taken)
    for report in taken:
        _say_report(report)
    is_whole = False
    try:
        with closing(reports), deferred_interrupt() as is_interrupted, _progress(total) as advance:
            for report in reports:
                taken.append(report)
                _say_report(report)
                advance()
                if is_interrupted():
                    raise KeyboardInterrupt
        is_whole = True
    finally:
        console.say(_summary(taken, planned=total))
        if as_json:
            files = [report.as_json() for report in taken]
            console.print_json({"output": str(output), "whole": is_whole, "files": files})
    if any(report.status == "failed" for report in taken):
        raise typer.Exit(SOME_FAILED)


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], Any]]:
    """A bar with the time left, on a terminal: what to call for each picture."""
    if not console.errors().is_terminal:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console.errors(), transient=True) as progress:
        pictures = progress.add_task("pictures", total=total)
        yield lambda: progress.advance(pictures)


def _say_report(report: FileReport) -> None:
    if report.status == "done":
        made = report.outputs[0] if len(report.outputs) == 1 else f"{len(report.outputs)} pictures"
        console.say(f"done: {report.input} -> {made}")
    elif report.status == "kept":
        console.say(f"kept: {report.input}: {report.reason}")
    else:
        console.say(f"{report.status}: {report.reason}")
    for note in report.notes:
        console.say(f"note: {report.input}: {note}")


def _summary(reports: list[FileReport], *, planned: int) -> str:
    statuses = ("done", "kept", "left out", "failed")
    counts = {status: sum(report.status == status for report in reports) for status in statuses}
    told = ", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nothing done"
    left = planned - len(reports)
    return f"{told}, {left} not begun" if left else told


def _scales(text: str) -> tuple[int, ...]:
    """Scales such as "2,3,4"."""
    if not re.fullmatch(r"\d{1,2}(,\d{1,2})*", text):
        raise typer.BadParameter(f"--scale must be one or several numbers such as 2,3,4, got {text!r}")
    return tuple(int(number) for number in text.split(","))


def _workers(given: int | None) -> int:
    if given is not None:
        return given
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
