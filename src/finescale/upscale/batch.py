"""Pipeline that upscales many image files: the next is read and earlier results are written while one is upscaled.

No failure of a single file ends a batch; it becomes that file's `UpscaleReport`.
"""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from finescale.errors import DeviceError, FinescaleError, ImageError, ImageWriteError, printable_name
from finescale.images import (
    LARGE_FORMATS,
    MAX_PIXELS,
    Image,
    check_size,
    profile_name,
    read_image,
    read_size,
    write_image,
)
from finescale.resize import resize
from finescale.system.files import sweep_temporaries
from finescale.system.jobs import guard
from finescale.system.memory import UNKNOWN_MEMORY, free_host_memory, is_out_of_memory
from finescale.system.places import Place, RemotePath
from finescale.system.remote import LocalCopies, errors_about, kind_of_place, local_result, refuse_web
from finescale.system.search import is_folder, kind_of_entry
from finescale.system.threads import single_core_threads
from finescale.upscale.flaws import Flaw, flaw_of
from finescale.upscale.outputs import Job, OutputSettings
from finescale.upscale.report import UpscaleReport
from finescale.upscale.streaming import WHOLE_BYTES, can_stream, should_stream, upscale_on_disk
from finescale.upscale.upscaler import Upscaler

T = TypeVar("T")

_GPU_WRITERS = 4  # a GPU makes results faster than one core encodes them
_BYTES_PER_PIXEL = 24  # an image while it is decoded: float32 RGB and alpha beside 16-bit levels
_PIXELS_PER_BYTE = 4  # of a photograph as JPEG
_BYTES_PER_ROW = 200  # positions and weights of the resizing


@dataclass(frozen=True, eq=False)
class _Picture:
    """An image on its way from input to output."""

    job: Job
    image: Image
    """First as it was read, then as it will be written."""
    input_size: tuple[int, int]
    seconds: float
    """Time spent on it so far."""
    profile: str | None
    """Name of the input's colour profile, for the report."""
    flaw: Flaw | None
    """Visible flaw of the input, for the report."""
    network: str | None = None
    """Name of the network that was chosen for it, for the report."""


@dataclass(frozen=True)
class _Large:
    """An image that is upscaled on disk."""

    job: Job
    path: Path
    """The input, or its local copy."""
    detect_flaws: bool


def run_jobs(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    settings: OutputSettings,
    *,
    max_pixels: int | None = None,
    detect_flaws: bool = False,
    on_tile: Callable[[Job, int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[UpscaleReport]:
    """Run jobs in their order and yield a report for each, once its result is written.

    While the network works on one image, threads read the next one and write earlier results, where the host's memory
    has room for all of them. A remote input is on this machine's disk from its turn to be read until it is read.

    Args:
        jobs: The inputs and their outputs.
        upscaler: Called in this thread, for one image at a time; `Upscaler.chosen_for` in its place for one that
            looks compressed.
        settings: How results are written.
        max_pixels: Images with more pixels fail before they are decoded. None is 250 million; for images that are
            upscaled on disk, `pixel_limit`.
        detect_flaws: Look for visible compression and noise in each input, for its report; implied where the network
            depends on it.
        on_tile: Called in this thread after each tile with the job, the number of tiles done, and of all its tiles. An
            exception of its is raised here once earlier images are written and reported.
        stop: Called before each image; once it returns true, no further image is begun. (A caller that closes the
            iterator instead misses the reports of results that are still being written.)
    """
    num_writers = 1 if upscaler.device.type == "cpu" else _GPU_WRITERS
    pool: ThreadPoolExecutor | None = None  # one image alone needs no threads, whose start takes milliseconds
    copies = LocalCopies()
    detect_flaws |= upscaler.build_for_flawed is not None
    read = partial(_read, copies=copies, settings=settings, upscaler=upscaler, detect_flaws=detect_flaws)
    max_whole = max_pixels or MAX_PIXELS
    reports: deque[Future[UpscaleReport]] = deque()
    remaining = iter(jobs)
    job = next(remaining, None)
    early: Future[_Picture | _Large | UpscaleReport | None] | None = None
    try:
        while job is not None and not stop():
            picture = None if early is None else early.result()
            if picture is None:
                picture = _guarded(job, partial(read, job, max_pixels=max_whole))
            result_bytes = upscaler.scale**2 * _bytes(picture)
            while reports and (reports[0].done() or len(reports) > num_writers or not _is_room_for(result_bytes)):
                yield reports.popleft().result()
            following, early = next(remaining, None), None
            if following is not None and pool is None:
                pool = single_core_threads(1 + num_writers, "pictures")
            if pool is not None and following is not None and _is_room_for(result_bytes):
                early = pool.submit(_read_early, partial(read, following), max_whole)
            try:
                if isinstance(picture, _Picture):
                    picture = _guarded(job, partial(_upscale, picture, upscaler, settings, max_whole, on_tile))
                elif isinstance(picture, _Large):
                    run = partial(_upscale_on_disk, picture, upscaler, settings, max_pixels, on_tile)
                    picture = _guarded(job, run)
            except BaseException:
                yield from (report.result() for report in reports)
                raise
            copies.release(job.input)
            write = partial(_guarded, job, partial(_write, picture, settings))
            if pool is None:
                yield write()
            else:
                reports.append(pool.submit(write))
            job = following
        yield from (report.result() for report in reports)
    finally:
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        copies.release_all()


def size_of(job: Job) -> tuple[int, int]:
    """Return the height and width of a job's input; nothing is decoded.

    They are 0 where the input cannot be read, and for a remote one, which is not fetched for it.
    """
    if isinstance(job.input, RemotePath):
        return 0, 0
    try:
        return read_size(job.input)
    except ImageError:
        return 0, 0


def likely_pixels(job: Job, size: tuple[int, int]) -> int:
    """Return the number of pixels of a job's input, by which jobs are dealt out.

    Args:
        job: The job.
        size: What `size_of` says of it. Where that is 0, the bytes that a listing of its remote folder states count.
    """
    num_bytes = job.input.num_bytes if isinstance(job.input, RemotePath) else None
    return math.prod(size) or _PIXELS_PER_BYTE * (num_bytes or 0)


def _guarded(job: Job, step: Callable[[], T]) -> T | UpscaleReport:
    reason = "too little memory to read it or to write its result"
    return guard(step, job.input, report=UpscaleReport, out_of_memory=reason)


def _spare_memory() -> int:
    """Bytes that one image may take while others are in memory."""
    free = free_host_memory()
    return (UNKNOWN_MEMORY if free is None else free) // 4


def _is_room_for(num_bytes: int) -> bool:
    return num_bytes <= _spare_memory()


def _bytes(picture: _Picture | _Large | UpscaleReport) -> int:
    if not isinstance(picture, _Picture):
        return 0
    image = picture.image
    return image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)


def _read_early(
    read: Callable[..., _Picture | _Large | UpscaleReport], max_pixels: int
) -> _Picture | _Large | UpscaleReport | None:
    """Read an image before its turn; None where it is too large for that, or fails, which its turn will report."""
    try:
        return read(max_pixels=min(max_pixels, _spare_memory() // _BYTES_PER_PIXEL))
    except (FinescaleError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_out_of_memory(error):
            raise
        return None


def _read(
    job: Job,
    *,
    copies: LocalCopies,
    settings: OutputSettings,
    upscaler: Upscaler,
    max_pixels: int,
    detect_flaws: bool,
) -> _Picture | _Large | UpscaleReport:
    """Read the input of a job, where it is upscaled in memory, or report that there is nothing to do."""
    if job.output is None:
        return UpscaleReport(job.input, "failed", reason=job.reason)
    if isinstance(job.output, Path):
        sweep_temporaries(job.output.parent)
    if _is_taken(job.output, settings.overwrite):
        return UpscaleReport(
            job.input, "kept", (job.output,), _reason_to_keep(job.input, job.output, settings, upscaler.scale)
        )
    started = time.monotonic()
    path = copies.path_of(job.input)
    with errors_about(job.input, path):
        if _is_large(path, job.output, settings, upscaler):
            return _Large(job, path, detect_flaws)
        image = read_image(path, max_pixels=max_pixels)
    flaw = flaw_of(image, scale=upscaler.scale) if detect_flaws else None
    profile = None if image.profile is None else profile_name(image.profile)
    return _Picture(job, image, image.size, time.monotonic() - started, profile, flaw)


def _is_large(path: Path, output: Place, settings: OutputSettings, upscaler: Upscaler) -> bool:
    """Return whether an image is upscaled on disk.

    Raises:
        ImageWriteError: Its result is too large for its format, or for memory in a format that is made there, or the
            image is too small to be made for viewers.
    """
    try:
        size = read_size(path)
    except ImageError:
        return False  # reading it tells why
    result = (size[0] * upscaler.scale, size[1] * upscaler.scale)
    final_size = settings.final_size(size, result)
    check_size(output, final_size)
    is_wanted = settings.is_for_viewers or settings.stream or should_stream(size, upscaler.scale)
    if settings.stream is False or final_size != result or not is_wanted:
        return False
    if can_stream(size, output, upscaler):
        return True
    if settings.is_for_viewers:
        raise ImageWriteError(
            f"{printable_name(path)}: {size[1]} x {size[0]} pixels are too few, or no whole windows of the network, "
            "for tiles in several sizes; choose png"
        )
    free, needed = free_host_memory(), WHOLE_BYTES * math.prod(result)
    if free is not None and needed > free and output.suffix.lower() not in LARGE_FORMATS:
        raise ImageWriteError(
            f"{printable_name(output)}: a result of {result[1]} x {result[0]} pixels takes {needed / 2**30:.1f} GiB of "
            f"memory as {output.suffix[1:]}, but only {free / 2**30:.1f} GiB are free; choose .png, .tif or .dzi"
        )
    return False


def _upscale_on_disk(
    large: _Large,
    upscaler: Upscaler,
    settings: OutputSettings,
    max_pixels: int | None,
    on_tile: Callable[[Job, int, int], None] | None,
) -> UpscaleReport:
    job = large.job
    assert job.output is not None
    return upscale_on_disk(
        upscaler,
        large.path,
        job.output,
        source=job.input,
        quality=settings.quality,
        pyramid=settings.pyramid,
        max_pixels=max_pixels,
        detect_flaws=large.detect_flaws,
        on_tile=None if on_tile is None else partial(on_tile, job),
    )


def _is_taken(path: Place, overwrite: bool) -> bool:
    """Return whether a result exists that is to be kept.

    Raises:
        ImageWriteError: There is something else in its place, or its folder cannot be written to.
        RemoteError: Its place cannot be reached.
    """
    if isinstance(path, RemotePath):
        return _is_taken_remotely(path, overwrite)
    try:
        path.lstat()
        kind = kind_of_entry(path)
    except FileNotFoundError:
        _check_place(path)
        return False
    except OSError as error:
        raise ImageWriteError(f"{printable_name(path)}: cannot be written ({error.strerror})") from None
    if kind is not None and not (overwrite and path.is_symlink()):
        raise ImageWriteError(f"{printable_name(path)}: is {kind}, in the place of the result; rename or delete it")
    return not overwrite


def _is_taken_remotely(path: RemotePath, overwrite: bool) -> bool:
    try:
        refuse_web(path)
    except ValueError as error:
        raise ImageWriteError(str(error)) from None
    kind = kind_of_place(path)
    if kind == "folder":
        raise ImageWriteError(f"{printable_name(path)}: is a folder, in the place of the result; rename or delete it")
    return kind == "file" and not overwrite


def _check_place(path: Path) -> None:
    """Refuse a result whose folder, or the one in which that is to be created, cannot be written to."""
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not is_folder(folder):
        raise ImageWriteError(f"{printable_name(path)}: {printable_name(folder)} is not a folder that one may enter")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ImageWriteError(f"{printable_name(path)}: {printable_name(folder)} cannot be written to")


def _reason_to_keep(source: Place, result: Place, settings: OutputSettings, scale: int) -> str:
    """Return why an existing result is kept, with what shows that it is not what would be made now.

    Remote files are not fetched for it.
    """
    if isinstance(source, RemotePath) or isinstance(result, RemotePath):
        return "the result exists already; --overwrite redoes it"
    doubts = []
    if source.is_file() and result.stat().st_mtime_ns < source.stat().st_mtime_ns:
        doubts.append("is older than its input")
    try:
        height, width = read_size(source)
        expected = settings.final_size((height, width), (height * scale, width * scale))
    except ImageError:
        expected = None  # an input that cannot be read says nothing about its result
    try:
        found = expected if result.suffix.lower() == ".dzi" else read_size(result)
    except ImageError:
        doubts.append("cannot be read as a picture")
    else:
        if expected not in (None, found):
            sizes = " instead of ".join(f"{size[1]} x {size[0]}" for size in (found, expected) if size)
            doubts.append(f"has {sizes} pixels, as by another network or other settings")
    return f"the result exists already{', but ' * bool(doubts)}{' and '.join(doubts)}; --overwrite redoes it"


def _upscale(
    picture: _Picture,
    upscaler: Upscaler,
    settings: OutputSettings,
    max_pixels: int,
    on_tile: Callable[[Job, int, int], None] | None,
) -> _Picture:
    started = time.monotonic()
    height, width = picture.input_size
    size = settings.final_size((height, width), (height * upscaler.scale, width * upscaler.scale))
    _check_result(picture, size, upscaler.scale, max_pixels)
    chosen = upscaler.chosen_for(picture.flaw)
    result = chosen(picture.image, on_tile=None if on_tile is None else partial(on_tile, picture.job))
    if size != result.size:
        result = _resized(result, size)
    seconds = picture.seconds + time.monotonic() - started
    return replace(picture, image=result, seconds=seconds, network=chosen.name)


def _check_result(picture: _Picture, size: tuple[int, int], scale: int, max_pixels: int) -> None:
    """Refuse a result that is too large for its format, or whose requested size is out of reach.

    Raises:
        ImageError: It exceeds what the format holds, or ``max_pixels`` enlarged by the network.
        DeviceError: It takes more memory than is free.
    """
    path = picture.job.output
    assert path is not None
    check_size(path, size)
    height, width = picture.input_size
    if size == (height * scale, width * scale):
        return  # the network's own result, whose memory `Upscaler` checks
    num_pixels, usual = math.prod(size), height * width * scale**2
    if num_pixels > max_pixels * scale**2:
        raise ImageError(
            f"{printable_name(path)}: a result of {size[1]} x {size[0]} pixels exceeds the limit of "
            f"{max_pixels * scale**2 / 1e6:g} megapixels; choose a smaller one, or raise --max-pixels"
        )
    image = picture.image
    num_channels = len(image.pixels) + (0 if image.alpha is None else 1)
    needed = 4 * num_channels * (usual + 2 * num_pixels) + _BYTES_PER_ROW * sum(size)
    free = free_host_memory()
    if free is not None and needed > free:
        raise DeviceError(
            f"{printable_name(path)}: a result of {size[1]} x {size[0]} pixels takes {needed / 2**30:.1f} GiB of "
            f"memory, but only {free / 2**30:.1f} GiB are free; choose a smaller one"
        )


def _resized(image: Image, size: tuple[int, int]) -> Image:
    alpha = None if image.alpha is None else resize(image.alpha, size=size).clamp_(0, 1)
    return replace(image, pixels=resize(image.pixels, size=size).clamp_(0, 1), alpha=alpha)


def _write(picture: _Picture | UpscaleReport, settings: OutputSettings) -> UpscaleReport:
    """Write an upscaled image and report it; an image that already has its report is only passed on."""
    if isinstance(picture, UpscaleReport):
        return picture
    started = time.monotonic()
    path = picture.job.output
    assert path is not None
    with local_result(path) as local:
        try:
            local.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ImageWriteError(f"{printable_name(path.parent)}: cannot be created ({error.strerror})") from None
        lost = write_image(local, picture.image, quality=settings.quality)
    return UpscaleReport(
        picture.job.input,
        "done",
        (path,),
        notes=(*picture.image.notes, *lost),
        input_size=picture.input_size,
        output_size=picture.image.size,
        seconds=round(picture.seconds + time.monotonic() - started, 3),
        depth=picture.image.depth,
        profile=picture.profile,
        flaw=picture.flaw,
        network=picture.network,
    )
