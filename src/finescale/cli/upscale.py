"""``finescale upscale``: pictures in, larger pictures out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from finescale.cli import console, options
from finescale.cli.progress import bars
from finescale.cli.shards import REPORT, ShareReport

if TYPE_CHECKING:
    from finescale.engines import EngineName
    from finescale.system.places import Place
    from finescale.upscale import Upscaler
    from finescale.upscale.forecast import Forecast
    from finescale.upscale.outputs import Job
    from finescale.upscale.report import UpscaleReport

_LONG = timedelta(minutes=1)
"""From here on, the time left is told without a terminal too, once."""


def upscale(
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="INPUT...", help="Pictures, folders, or patterns like '*.jpg'; paths or URLs."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            "--output_dir",
            metavar="PATH",
            help="Folder for the results, or the result's name, a path or a URL; default: beside each input.",
        ),
    ] = None,
    more_inputs: Annotated[
        list[str] | None,
        typer.Option("-i", "--input", "--input_dir", help="One more picture, folder or pattern; may be repeated."),
    ] = None,
    network: Annotated[
        str,
        typer.Option(
            "-n",
            "--network",
            "--model_path",
            metavar="MODEL",
            help="A known network, owner/name on the hub, a path to a weight file, or auto: chosen for each picture.",
        ),
    ] = "auto",
    scale: options.Scale = None,
    tile: options.Tile = "auto",
    overlap: options.Overlap = None,
    tile_rule: options.TileRule = None,
    chop: Annotated[bool, typer.Option("--chop", help="Short for --tile-rule chop.")] = False,
    recursive: Annotated[bool, typer.Option(help="Also search the folders below a named folder.")] = True,
    format: Annotated[str, typer.Option("--format", help="png, jpg, webp, tif, bmp, avif or dzi.")] = "png",
    quality: Annotated[int | None, typer.Option(help="1 to 100, for JPEG, WebP, AVIF and DZI.")] = None,
    suffix: Annotated[str | None, typer.Option(help="Text added to each name, in place of '_x4'.")] = None,
    name: Annotated[str | None, typer.Option(help="Template of the names, with {stem}, {scale} and {network}.")] = None,
    overwrite: options.Overwrite = False,
    ensemble: options.Ensemble = False,
    precision: options.Precision = "auto",
    engine: options.Engine = None,
    compile: options.Compile = False,
    device: options.Device = None,
    devices: Annotated[
        str | None,
        typer.Option(metavar="DEVICE,...", help="Several devices, such as cuda:0,cuda:1: a process for each."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, metavar="N", help="Processes on the CPU or --device; actors of --ray."),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="[ADDRESS]", help="Use a Ray cluster: HOST:PORT, local, or auto, the default."),
    ] = None,
    gpus_per_actor: Annotated[
        float | None, typer.Option(metavar="SHARE", help="With --ray: GPUs of each actor, such as 0.5; default: 1.")
    ] = None,
    shard: options.ShardText = None,
    report_file: Annotated[
        str | None,
        typer.Option("--report", metavar="FILE.json", help="Write a report; a shard's number is put into its name."),
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Device memory for one tile, such as 800M or 4G.")
    ] = None,
    max_pixels: Annotated[
        int | None, typer.Option(help="Refuse pictures with more pixels; default: 250 million, more on disk.")
    ] = None,
    stream: Annotated[
        bool | None,
        typer.Option("--stream/--no-stream", help="Work on disk, or in memory; default: by each picture's size."),
    ] = None,
    pyramid: Annotated[
        bool, typer.Option("--pyramid", help="Store TIFF files with reduced copies, for viewers.")
    ] = False,
    outscale: Annotated[float | None, typer.Option(help="Size of the result as a multiple of the input's.")] = None,
    width: Annotated[int | None, typer.Option(help="Width of the result in pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Height of the result in pixels.")] = None,
    long_side: Annotated[int | None, typer.Option(help="Longer side of the result in pixels.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Start even where results may not fit on the disk.")] = False,
    settings: options.NetworkSettings = None,
    offline: options.Offline = False,
    as_json: options.AsJson = False,
    _threads: options.Threads = None,
) -> None:
    """Upscale pictures. Inputs are never changed, existing results are kept unless --overwrite is given."""
    from finescale import weights
    from finescale.settings import parse_settings, read_overrides
    from finescale.system.cores import threads_each
    from finescale.system.places import place_of
    from finescale.system.remote import check_output
    from finescale.system.shards import WHOLE, deal
    from finescale.upscale import Tiling
    from finescale.upscale.batch import likely_pixels, run_jobs, size_of
    from finescale.upscale.distributed import upscale_distributed
    from finescale.upscale.forecast import forecast
    from finescale.upscale.inputs import find_inputs
    from finescale.upscale.outputs import (
        OUTPUT_SUFFIXES,
        OutputSettings,
        check_folder_name,
        check_one_result,
        is_folder_of_results,
        plan_jobs,
    )
    from finescale.upscale.workers import run_on_workers

    named = [*(inputs or ()), *(more_inputs or ())]
    if not named:
        raise typer.BadParameter("no INPUT: name pictures, folders or patterns")
    if suffix is not None and name is not None:
        raise typer.BadParameter("--suffix and --name are mutually exclusive")
    if chop and tile_rule not in (None, "chop"):
        raise typer.BadParameter(f"--chop and --tile-rule {tile_rule} are mutually exclusive")
    engine_name = options.engine_of(engine, compile=compile)
    if ray is None:
        on_devices, own_shard = _devices(devices, workers=workers, device=device), options.shard_of(shard)
        if gpus_per_actor is not None:
            raise typer.BadParameter("--gpus-per-actor needs --ray")
    else:
        _check_ray(ray, device=device, devices=devices, shard=shard, gpus_per_actor=gpus_per_actor)
        on_devices, own_shard = None, WHOLE
    if engine_name == "auto" and on_devices is not None and set(on_devices) != {"cpu"}:
        engine_name = "torch"
    if device is None and on_devices is None and own_shard.count > 1:
        device = _device_of_launcher()
    if suffix is not None:
        name = "{stem}" + suffix.replace("{", "{{").replace("}", "}}")
    place = None if output is None else place_of(output)
    report_place = None if report_file is None else place_of(report_file)
    if place is not None:
        try:
            check_folder_name(place)
        except ValueError as error:
            raise typer.BadParameter(f"-o {place}: {error}") from None
    for written in (place, report_place):
        if written is not None:
            check_output(written)
    one_file = place is not None and place.suffix.lower() in OUTPUT_SUFFIXES and not is_folder_of_results(place)
    given = {
        "folder": None if one_file else place,
        "file": place if one_file else None,
        "name": name,
        "format": format,
        "quality": quality,
        "overwrite": overwrite,
        "stream": stream,
        "pyramid": pyramid,
        "outscale": outscale,
        "width": width,
        "height": height,
        "long_side": long_side,
    }
    output_as = parse_settings(OutputSettings, {k: v for k, v in given.items() if v is not None}, source="upscale")
    tiling = parse_settings(
        Tiling,
        {
            "tile": "auto" if tile is None else options.read_tile(tile),
            "overlap": overlap,
            "rule": "chop" if chop else tile_rule or "blend",
            "max_memory": None if max_memory is None else options.read_bytes("--max-memory", max_memory),
        },
        source="upscale",
    )
    overrides = read_overrides(settings or ())
    found = find_inputs(named, recursive=recursive, exclude=output_as.folder)
    check_one_result(found.images, output_as)
    for sentence in found.skipped:
        console.say(sentence)
    for report in found.failures:
        console.say(f"failed: {report.reason}")
    if not found.images:  # no need to load a network
        _print_end(found.failures, [], planned=len(found.failures), as_json=as_json)
        raise typer.Exit(console.SOME_FAILED)

    build = partial(
        _build,
        network,
        {
            "scale": scale,
            "tiling": tiling,
            "ensemble": ensemble,
            "precision": precision,
            "offline": offline,
            "settings": overrides,
        },
        engine=engine_name,
    )
    with console.messages_of_the_library():
        is_elsewhere = on_devices is not None or ray is not None
        upscaler = build("cpu" if is_elsewhere else options.device_of(device, engine=engine_name))
    for note in upscaler.notes:
        console.say(f"note: {note}")
    jobs, results = plan_jobs(found.images, output_as, scale=upscaler.scale, network=Path(network).stem)
    for path in results:
        console.say(f"{path}: left out, it has the name of another picture's result")
    read_size_of = cache(size_of)  # of each header once

    def pixels_of(job: Job) -> int:
        return likely_pixels(job, read_size_of(job))

    why = ""
    # Chosen by the whole batch, so that all shards and processes have one engine; by Ray's actors on their devices.
    if upscaler.engine == "auto" and ray is None:
        choice = upscaler.choose_engine(map(read_size_of, jobs))
        with console.messages_of_the_library():
            upscaler = upscaler.by(choice.engine)
        build = partial(build, engine=choice.engine)
        why = f", since {choice.reason}"
    arithmetic = "" if is_elsewhere else f"in {_arithmetic(upscaler)} "
    where = "Ray" if ray is not None else ", ".join(on_devices) if on_devices else str(upscaler.device)
    console.say(f"computing {arithmetic}on {where} by engine {upscaler.engine}{why}")
    shares = [jobs] if own_shard.count == 1 else deal(jobs, own_shard.count, size=pixels_of)
    share = shares[own_shard.number - 1]
    expected = forecast(share, output_as, scale=upscaler.scale, size_of=read_size_of)
    if len(share) > 1:
        _check_forecast(expected, force=force)
    reports: list[UpscaleReport] = list(found.failures) if own_shard.number == 1 else []
    notes = list(upscaler.notes)
    share_report = None
    if report_place is not None or own_shard.count > 1:
        folder = output_as.folder or (Path() if output_as.file is None else output_as.file.parent)
        planned_files = [[(str(job.input), str(job.output)) for job in one] for one in shares]
        planned_files[0] = [(str(failure.input), "") for failure in found.failures] + planned_files[0]
        share_report = ShareReport(report_place or folder / REPORT, own_shard, planned_files)

    photo_network = weights.for_photos(network)
    interrupted = 0
    try:
        # Actors start and finish together: the first report says nothing about the time of the others.
        timed = expected if ray is None else None
        watched = _watched(len(share), timed, by_picture=network == weights.AUTO)
        with console.messages_of_the_library(), watched as (on_tile, on_report, is_interrupted):
            if ray is not None:
                done = upscale_distributed(
                    share,
                    build,
                    output_as,
                    address=None if ray == "auto" else ray,
                    actors=workers,
                    device=device,  # type: ignore[arg-type]
                    gpus_per_actor=1.0 if gpus_per_actor is None else gpus_per_actor,
                    max_pixels=max_pixels,
                    detect_flaws=photo_network is not None,
                    size_of=read_size_of,
                    stop=is_interrupted,
                )
            elif on_devices:
                done = run_on_workers(
                    deal(share, len(on_devices), size=pixels_of),
                    build,
                    on_devices,
                    output_as,
                    max_pixels=max_pixels,
                    detect_flaws=photo_network is not None,
                    threads=threads_each(on_devices),
                    stop=is_interrupted,
                )
            else:
                done = run_jobs(
                    share,
                    upscaler,
                    output_as,
                    max_pixels=max_pixels,
                    detect_flaws=photo_network is not None,
                    on_tile=on_tile,
                    stop=is_interrupted,
                )
            for report in done:
                reports.append(report)
                on_report(report)
                if share_report is not None:
                    share_report.add([one.as_json() for one in reports])
            has_stopped = is_interrupted()
    except KeyboardInterrupt:
        interrupted = 1  # the picture at work
        raise
    finally:
        if photo_network is not None and any(report.flaw for report in reports):
            notes.append(f"{_flawed(reports)}: `-n {photo_network}` is made for such pictures")
            console.say(f"note: {notes[-1]}")
        if share_report is not None:
            share_report.end([report.as_json() for report in reports], notes)
        planned = len(share) + (len(found.failures) if own_shard.number == 1 else 0)
        _print_end(reports, notes, planned=planned, interrupted=interrupted, as_json=as_json)
    if has_stopped:
        raise KeyboardInterrupt
    if any(report.status == "failed" for report in reports):
        raise typer.Exit(console.SOME_FAILED)


def _build(network: str, arguments: Mapping[str, Any], device: str, *, engine: EngineName) -> Upscaler:
    """Build the upscaler of a device; other processes call this as well."""
    from finescale.upscale.by_picture import load_upscaler

    return load_upscaler(network, device=device, engine=engine, **arguments)


def _devices(named: str | None, *, workers: int | None, device: str | None) -> list[str] | None:
    """Return the device of each process that ``--devices`` or ``--workers`` asks for; None for this process alone."""
    if named is not None and (workers, device) != (None, None):
        raise typer.BadParameter("--devices is mutually exclusive with --device and --workers")
    if named is not None:
        return options.names_of(named) or None
    return None if workers is None else [device or "cpu"] * workers


def _check_ray(
    address: str, *, device: str | None, devices: str | None, shard: str | None, gpus_per_actor: float | None
) -> None:
    """Refuse what is no address of Ray, and flags that do not go with one."""
    if address.startswith("ray://"):
        raise typer.BadParameter("--ray: run the command on a machine of the cluster, ray:// is for others")
    if address not in ("auto", "local") and ":" not in address:
        raise typer.BadParameter(
            f"--ray: an address is HOST:PORT, local or auto, got {address!r}; "
            "put --ray behind the inputs, or write --ray=auto"
        )
    for flag, value in (("--devices", devices), ("--shard", shard)):
        if value is not None:
            raise typer.BadParameter(f"--ray and {flag} are mutually exclusive")
    if device not in (None, "cpu", "cuda"):
        raise typer.BadParameter(f"--device is cpu or cuda with --ray, which numbers the devices itself, got {device}")
    if gpus_per_actor is not None and gpus_per_actor <= 0:
        raise typer.BadParameter(f"--gpus-per-actor must be positive, got {gpus_per_actor:g}")


def _device_of_launcher() -> str | None:
    """Return the CUDA device of a process that torchrun or srun started as one of several of a machine."""
    import torch

    local = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", ""))
    num_devices = torch.cuda.device_count()
    return f"cuda:{int(local) % num_devices}" if local.isdecimal() and num_devices else None


def _arithmetic(upscaler: Upscaler) -> str:
    """Describe the arithmetic of the network; only OpenVINO multiplies the integers of a quantized one."""
    from finescale.quantize import is_quantized, settings_of

    if not is_quantized(upscaler.network):
        return upscaler.precision
    bits = settings_of(upscaler.network).bits
    if upscaler.multiplies_integers:
        return f"integers of {bits} bits, all else in {upscaler.precision},"
    if upscaler.engine == "openvino":
        return f"{upscaler.precision} what integers of {bits} bits give (sums of bytes saturate on this CPU)"
    return f"{upscaler.precision} what integers of {bits} bits give ('--engine openvino' multiplies integers)"


def _check_forecast(expected: Forecast, *, force: bool) -> None:
    """Print what a batch will take, and refuse one whose results have no room.

    Raises:
        ImageWriteError: A disk has too little room, and ``force`` is not set.
    """
    from finescale.errors import ImageWriteError

    if expected.pixels:
        sentence = (
            f"{len(expected.pixels):,} pictures to make, {expected.input_pixels / 1e6:,.1f} megapixels in, "
            f"{expected.output_pixels / 1e6:,.1f} out"
        )
        if expected.disks:
            needed, free = sum(number for number, _ in expected.disks), min(free for _, free in expected.disks)
            sentence += f"; about {_disk(needed)} of disk, {_disk(free)} free"
        console.say(sentence)
    if expected.num_unknown:
        console.say(f"{expected.num_unknown:,} remote pictures, whose pixels are counted once they are fetched")
    if expected.num_unasked:
        console.say("remote results are looked for one by one; those that exist are counted as to be made")
    if not expected.fits and not force:
        raise ImageWriteError("the results may not fit on the disk; free some, choose another folder, or give --force")


def _disk(number: int) -> str:
    """Describe a number of bytes in MB or GB."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.1f} MB"


@contextmanager
def _watched(
    num_jobs: int, expected: Forecast | None, *, by_picture: bool
) -> Iterator[tuple[Callable[[Job, int, int], None], Callable[[UpscaleReport], None], Callable[[], bool]]]:
    """Show the progress of a batch; yield what is called for each tile and each report, and whether to stop.

    Args:
        num_jobs: Number of pictures.
        expected: What they take, for the time left; None where no time is estimated.
        by_picture: Whether the network is chosen for each picture, and told.
    """
    from finescale.system.interrupt import deferred_interrupt

    num_done, pixels_done, start = 0, 0, time.monotonic()
    is_told = num_jobs == 1

    with deferred_interrupt() as is_interrupted, bars() as shown:
        shown.show("pictures", 0, num_jobs)

        def time_left(begun: float = 0) -> timedelta | None:
            if expected is None:
                return None
            left = expected.seconds_left(pixels_done + begun, time.monotonic() - start)
            return None if left is None else timedelta(seconds=round(left))

        def pixels_of(path: Place) -> int:
            return 0 if expected is None else expected.pixels.get(path, 0)

        def on_tile(job: Job, done: int, total: int) -> None:
            if is_interrupted():
                raise KeyboardInterrupt
            shown.show("tiles", done, total, label=job.input.name)
            left = time_left(pixels_of(job.input) * done / total)
            shown.show("pictures", num_done, num_jobs, note="" if left is None else f"{left} left for all")

        def on_report(report: UpscaleReport) -> None:
            nonlocal num_done, pixels_done, is_told
            num_done += 1
            pixels_done += pixels_of(report.input)
            shown.show("pictures", num_done, num_jobs)
            _say_report(report, by_picture=by_picture)
            left = time_left()
            if not is_told and left is not None and left >= _LONG:
                is_told = True
                console.say(f"about {left} left for all")

        yield on_tile, on_report, is_interrupted


def _print_end(
    reports: Sequence[UpscaleReport], notes: Sequence[str], *, planned: int, interrupted: int = 0, as_json: bool
) -> None:
    """Print the summary and the report of a batch."""
    statuses = (report.status for report in reports)
    console.say(console.summary_of(statuses, planned=planned, interrupted=interrupted))
    if as_json:
        console.print_json({"files": [report.as_json() for report in reports], "notes": list(notes)})


def _say_report(report: UpscaleReport, *, by_picture: bool) -> None:
    name = report.input
    if report.status == "failed":
        console.say(f"failed: {report.reason}")
    elif report.status == "kept":
        console.say(f"kept: {report.output}: {report.reason}")
    elif report.input_size and report.output_size:
        (height, width), (new_height, new_width) = report.input_size, report.output_size
        by = f", by {report.network}" if by_picture else ""
        if by_picture and report.flaw is not None:
            by += f", since it looks {report.flaw.look}"
        console.say(
            f"done: {name} ({width} x {height}) -> {report.output} ({new_width} x {new_height}), {report.seconds:.1f} s"
            f"{by}"
        )
        for note in report.notes:
            console.say(f"note: {name}: {note}")


def _flawed(reports: list[UpscaleReport]) -> str:
    """Describe which pictures look compressed or noisy, or how many, and how strongly."""
    from finescale.upscale.compression import Compression

    found = [(report.input, report.flaw) for report in reports if report.flaw]
    if len(found) == 1:
        path, flaw = found[0]
        return f"{path}: looks {flaw.look}"
    compressed = [flaw for _, flaw in found if isinstance(flaw, Compression)]
    qualities = [flaw.quality for flaw in compressed if flaw.quality]
    told = f" (JPEG quality about {min(qualities)} to {max(qualities)})" if qualities else ""
    looks = [f"compressed{told}"] if compressed else []
    looks += ["noisy"] if len(compressed) < len(found) else []
    return f"{len(found)} of {len(reports)} pictures look {' or '.join(looks)}"
