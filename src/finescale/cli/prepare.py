"""``finescale prepare``: data sets for training and testing, and their check."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finescale.cli import console, options
from finescale.cli.progress import bars
from finescale.cli.shards import REPORT, ShareReport
from finescale.system.cores import available_cores
from finescale.system.shards import Shard, deal

if TYPE_CHECKING:
    from finescale.system.jobs import FileReport

app = typer.Typer(
    help="Prepare data sets: low-resolution pictures, sub-images, caches, LMDBs; and check them.",
    rich_markup_mode=None,
)

Originals = Annotated[list[Path], typer.Argument(metavar="HR", help="Folders of originals.")]
Output = Annotated[Path, typer.Option("-o", "--output", metavar="OUT", help="Folder for the results.")]


@app.command()
def downsample(
    folders: Originals,
    output: Output,
    scale: Annotated[
        str, typer.Option("-s", "--scale", metavar="N,...", help="Scales, 1 to 16; 1 needs --degradation.")
    ] = "2,3,4",
    variant: Annotated[
        str, typer.Option(help="Which bicubic to reproduce: uint8, double or uint8-replicate; also A, B, C.")
    ] = "uint8",
    layout: Annotated[
        str, typer.Option(help="edsr: X4/birdx4.png; basicsr: LRbicx4/bird.png; rcan: x4/bird_LRBI_x4.png.")
    ] = "edsr",
    cut_hr: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Also write the originals, cropped to a multiple of all scales; for rcan, of each: x4/bird_HR_x4.png.",
        ),
    ] = None,
    degradation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yml", help="Also degrade the pictures; the file has the fields of data.degradation."
        ),
    ] = None,
    seed: options.Seed = 0,
    workers: options.Workers = None,
    shard: options.ShardText = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Make low-resolution pictures from originals: bit-exact with MATLAB, or degraded like pictures from the web."""
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
    paths, share_report = _share(find_hr_images(folders), options.shard_of(shard), output)
    _run(
        downsample_files(paths, settings, workers=workers or available_cores()),
        total=len(paths),
        output=output,
        as_json=as_json,
        share_report=share_report,
    )


@app.command()
def crops(
    folders: Originals,
    output: Output,
    size: Annotated[int, typer.Option(help="Height and width of a part, in pixels of the original.")] = 480,
    step: Annotated[int, typer.Option(help="Distance from one part to the next, in pixels of the original.")] = 240,
    threshold: Annotated[
        int, typer.Option(help="The rest at the far border becomes one more part if it is wider than this.")
    ] = 0,
    keep_small: Annotated[
        bool, typer.Option("--keep-small", help="Keep pictures smaller than a part; default: leave them out.")
    ] = False,
    lr: Annotated[
        Path | None, typer.Option("--lr", metavar="FOLDER", help="Folder of the low-resolution pictures, cut alike.")
    ] = None,
    lr_output: Annotated[
        Path | None,
        typer.Option("--lr-output", metavar="FOLDER", help="Folder for their parts, which have the same names."),
    ] = None,
    scale: Annotated[
        int | None, typer.Option("-s", "--scale", help="How many times smaller the low-resolution pictures are.")
    ] = None,
    workers: options.Workers = None,
    shard: options.ShardText = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Cut originals, or pairs of pictures, into overlapping parts."""
    from finescale.data import CropSettings, FileReport, crop_files, find_hr_images, find_images, match_pairs
    from finescale.errors import printable_name
    from finescale.settings import parse_settings

    if len({lr is None, lr_output is None, scale is None}) > 1:
        raise typer.BadParameter("--lr, --lr-output and --scale must be given together")
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
    own_shard = options.shard_of(shard)
    paths, share_report = _share(paths, own_shard, output, first=unpaired)
    unpaired = unpaired if own_shard.number == 1 else []
    reports = crop_files(paths, settings, lr=pairs, workers=workers or available_cores())
    _run(reports, total=len(paths), output=output, as_json=as_json, first=unpaired, share_report=share_report)


@app.command()
def cache(
    folders: Originals,
    output: Output,
    workers: options.Workers = None,
    shard: options.ShardText = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Decode originals into one memory-mapped file, or into one for each shard."""
    from finescale.data import find_hr_images, write_cache

    own_shard = options.shard_of(shard)
    paths, share_report = _share(find_hr_images(folders), own_shard, output.parent)
    if own_shard.count > 1:
        output = output.with_name(f"{output.name}.{own_shard.file_suffix}")
    reports = write_cache(paths, output, overwrite=overwrite, workers=workers or available_cores())
    _run(reports, total=len(paths), output=output, as_json=as_json, share_report=share_report)


@app.command()
def lmdb(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Folders of pictures.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="OUT.lmdb", help="The LMDB, a folder.")],
    drop_ending: Annotated[
        str,
        typer.Option(
            metavar="TEXT",
            help="Text removed from the end of every name, such as x4, so that pairs have the same keys.",
        ),
    ] = "",
    workers: options.Workers = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write pictures into an LMDB in the format of BasicSR."""
    from finescale.data import find_hr_images, write_lmdb

    paths = find_hr_images(folders)
    reports = write_lmdb(
        paths, output, drop_ending=drop_ending, overwrite=overwrite, workers=workers or available_cores()
    )
    _run(reports, total=len(paths), output=output, as_json=as_json)


@app.command()
def check(
    folders: Annotated[list[Path] | None, typer.Argument(metavar="HR", help="Folders of originals.")] = None,
    lr: Annotated[
        Path | None, typer.Option("--lr", metavar="FOLDER", help="Folder of the low-resolution pictures of HR.")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="ROOT", help="Folder of test sets, in any of their published layouts.")
    ] = None,
    sets: Annotated[str | None, typer.Option(metavar="SET,...", help="Test sets below ROOT; default: all.")] = None,
    scale: Annotated[
        str | None,
        typer.Option("-s", "--scale", metavar="N,...", help="Scale of --lr; scales of --root, default: 2,3,4."),
    ] = None,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """List every picture that is missing, unreadable, of the wrong size, or a duplicate."""
    from finescale.data import PictureSet, benchmark_sets, check_pictures, plan_check
    from finescale.system.interrupt import deferred_interrupt

    if bool(folders) == (root is not None):
        raise typer.BadParameter("give either folders of originals or --root")
    if root is None:
        if sets is not None:
            raise typer.BadParameter("--sets needs --root")
        scales = () if scale is None else _scales(scale)
        if (lr is None) != (not scales) or (lr is not None and len(folders or ()) + len(scales) > 2):
            raise typer.BadParameter("--lr and one --scale must be given together, for one folder of originals")
        smaller = {} if lr is None else {scales[0]: lr}
        chosen = [PictureSet(folder, smaller) for folder in folders or ()]
    elif lr is not None:
        raise typer.BadParameter("--lr and --root are mutually exclusive")
    else:
        chosen = benchmark_sets(root, options.names_of(sets), scales=_scales(scale or "2,3,4"))

    checklist = plan_check(chosen)
    problems = list(checklist.problems)
    for problem in problems:
        console.say(f"{problem.kind}: {problem.reason}")
    num_checked, total = 0, len(checklist.pictures)
    results = check_pictures(checklist, workers=workers or available_cores())
    try:
        with closing(results), deferred_interrupt() as is_interrupted, bars() as shown:
            shown.show("pictures", 0, total)
            for checked in results:
                num_checked += 1
                for problem in checked.problems:
                    problems.append(problem)
                    console.say(f"{problem.kind}: {problem.reason}")
                shown.show("pictures", num_checked, total)
                if is_interrupted():
                    raise KeyboardInterrupt
    finally:
        is_whole = num_checked == total
        left = "" if is_whole else f", {total - num_checked} not checked"
        console.say(f"originals: {num_checked}, pairs: {checklist.num_pairs}, problems: {len(problems)}{left}")
        if as_json:
            facts = {"whole": is_whole, "originals": num_checked, "pairs": checklist.num_pairs}
            console.print_json({**facts, "problems": [problem.as_json() for problem in problems]})
    if problems:
        raise typer.Exit(console.SOME_FAILED)


def _share(
    paths: list[Path], shard: Shard, folder: Path, *, first: Iterable[FileReport] = ()
) -> tuple[list[Path], ShareReport | None]:
    """Return the files of a shard, dealt out by their bytes, and its report; files of one stem stay together.

    Args:
        paths: All files.
        shard: The shard; the report of all of the work is None.
        folder: Where the report is written.
        first: Reports of other files, which the first shard has.
    """
    from finescale.system.jobs import collision_key

    if shard.count == 1:
        return paths, None
    shares = deal(
        paths, shard.count, size=lambda path: path.stat().st_size, together=lambda path: collision_key(path.stem)
    )
    planned = [[(str(path), str(folder)) for path in share] for share in shares]
    planned[0] += [(str(report.input), "") for report in first]
    return shares[shard.number - 1], ShareReport(folder / REPORT, shard, planned)


def _run(
    reports: Generator[FileReport, None, None],
    *,
    total: int,
    output: Path,
    as_json: bool,
    first: Iterable[FileReport] = (),
    share_report: ShareReport | None = None,
) -> None:
    """Print reports as they arrive, then their summary, and exit with the code that they call for."""
    from finescale.system.interrupt import deferred_interrupt

    taken = list(first)
    total += len(taken)
    for report in taken:
        _say_report(report)
    is_whole = False
    try:
        with closing(reports), deferred_interrupt() as is_interrupted, bars() as shown:
            shown.show("pictures", len(taken), total)
            for report in reports:
                taken.append(report)
                _say_report(report)
                shown.show("pictures", len(taken), total)
                if share_report is not None:
                    share_report.add([one.as_json() for one in taken])
                if is_interrupted():
                    raise KeyboardInterrupt
        is_whole = True
    finally:
        if share_report is not None:
            share_report.end([report.as_json() for report in taken])
        console.say(console.summary_of((report.status for report in taken), planned=total))
        if as_json:
            files = [report.as_json() for report in taken]
            console.print_json({"output": str(output), "whole": is_whole, "files": files})
    if any(report.status == "failed" for report in taken):
        raise typer.Exit(console.SOME_FAILED)


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


def _scales(text: str) -> tuple[int, ...]:
    """Parse scales such as "2,3,4"."""
    if not re.fullmatch(r"\d{1,2}(,\d{1,2})*", text):
        raise typer.BadParameter(f"--scale must be one or several numbers such as 2,3,4, got {text!r}")
    return tuple(int(number) for number in text.split(","))
