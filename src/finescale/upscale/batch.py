"""Many pictures: which files are meant, where each result goes, and the line that takes them from input to output.

Nothing here ends a batch: what goes wrong with one file becomes its `FileReport`.
"""

from __future__ import annotations

import glob
import os
import string
import time
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, field_validator, model_validator
from typing_extensions import Self

from finescale.errors import FinescaleError, ImageWriteError, printable_name
from finescale.images import (
    MAX_PIXELS,
    READABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    Image,
    read_image,
    write_image,
)
from finescale.resize import resize
from finescale.settings import Settings, suggest
from finescale.system.memory import free_host_memory
from finescale.system.threads import single_core_threads
from finescale.upscale.compression import Compression, compression_of
from finescale.upscale.memory import UNKNOWN_MEMORY
from finescale.upscale.upscaler import Upscaler

T = TypeVar("T")

_GPU_WRITERS = 4  # a GPU makes results faster than one core encodes them
_BYTES_PER_PIXEL = 24  # a picture while it is decoded: float32 RGB and alpha beside 16-bit levels


class OutputSettings(Settings):
    """Where results go, what they are called, and how large they are made in the end."""

    folder: Path | None = None
    """Folder for all results, which keeps the folders of the inputs; None puts each beside its input."""
    file: Path | None = None
    """The one result's own name, when there is one input."""
    name: str = "{stem}_x{scale}"
    """Name without ending; ``{stem}`` is the input's, ``{scale}`` the network's, ``{network}`` its name."""
    format: str = "png"
    """Ending of the results, without dot."""
    quality: int | None = Field(None, ge=1, le=100)
    """For JPEG, WebP and AVIF, 1 to 100; None takes each format's default."""
    overwrite: bool = False
    """Make results anew that exist already."""

    outscale: float | None = Field(None, gt=0)
    """Size of the result as a multiple of the input's, resized by the bicubic; None leaves the network's scale."""
    width: int | None = Field(None, ge=1)
    """Width of the result in pixels; the height follows, unless given too."""
    height: int | None = Field(None, ge=1)
    """Height of the result in pixels; the width follows, unless given too."""
    long_side: int | None = Field(None, ge=1)
    """The longer side of the result in pixels; the other follows."""

    @field_validator("format")
    @classmethod
    def _check_format(cls, value: str) -> str:
        known = [suffix[1:] for suffix in WRITABLE_SUFFIXES]
        if value.lower().lstrip(".") not in known:
            raise ValueError(f"format must be one of {', '.join(known)}{suggest(value, known)}")
        return value.lower().lstrip(".")

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        known = ("stem", "scale", "network")
        try:
            fields = [field for _, field, _, _ in string.Formatter().parse(value) if field is not None]
        except ValueError as error:
            raise ValueError(f"not a template ({error})") from None
        for field in fields:
            if field not in known:
                raise ValueError(
                    f"unknown field {{{field}}}{suggest(field, known)}; known: {{stem}} {{scale}} {{network}}"
                )
        if "stem" not in fields:
            raise ValueError("a name without {stem} would be the same for every picture")
        if "/" in value or os.sep in value:
            raise ValueError("a name holds no folders; choose the folder by -o")
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        sizes = [self.outscale, self.long_side, self.width or self.height]
        if sum(size is not None for size in sizes) > 1:
            raise ValueError("outscale, long_side and width/height exclude one another")
        return self

    def final_size(self, lr: tuple[int, int], sr: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the result, for an input of size ``lr`` that the network makes ``sr``."""
        height, width = lr
        if self.outscale is not None:
            return _at_least_one(height * self.outscale, width * self.outscale)
        if self.long_side is not None:
            return _at_least_one(*(side * self.long_side / max(lr) for side in lr))
        if self.width and self.height:
            return self.height, self.width
        if self.width:
            return _at_least_one(height * self.width / width, self.width)
        if self.height:
            return _at_least_one(self.height, width * self.height / height)
        return sr


def _at_least_one(height: float, width: float) -> tuple[int, int]:
    return max(1, round(height)), max(1, round(width))


@dataclass(frozen=True)
class Source:
    """A picture that is meant."""

    path: Path
    within: Path | None = None
    """Its folder below the one that was named; None where the file itself was named."""


@dataclass(frozen=True)
class Job:
    """A picture and where its result goes."""

    input: Path
    output: Path | None
    """None where it cannot be made."""
    reason: str | None = None
    """Why it cannot be made."""


@dataclass(frozen=True)
class FileReport:
    """What became of one picture."""

    input: Path
    output: Path | None
    status: Literal["done", "kept", "failed"]
    reason: str | None = None
    """Why it failed, or was kept."""
    notes: tuple[str, ...] = ()
    """What was given up on purpose."""
    input_size: tuple[int, int] | None = None
    output_size: tuple[int, int] | None = None
    seconds: float | None = None
    compression: Compression | None = None
    """How it looks compressed; None where it does not, or nobody asked."""

    def as_json(self) -> dict[str, Any]:
        """Plain values, sizes as [height, width]."""
        return {
            "input": str(self.input),
            "output": None if self.output is None else str(self.output),
            "status": self.status,
            "reason": self.reason,
            "notes": list(self.notes),
            "input_size": self.input_size,
            "output_size": self.output_size,
            "seconds": self.seconds,
            "compression": None if self.compression is None else str(self.compression),
        }


def find_sources(
    inputs: Iterable[str], *, recursive: bool = True, leave_out: Path | None = None
) -> tuple[list[Source], list[FileReport], list[str]]:
    """The pictures meant by files, folders and patterns.

    A file that is named is taken whatever it is called. From a folder the files with a known ending are taken, in any
    case, hidden ones left out. A name that exists is never read as a pattern.

    Args:
        inputs: Files, folders, and patterns with ``*``, ``?``, ``[]`` or ``**``.
        recursive: Also look into folders below the named ones.
        leave_out: A folder not to look into: that of the results.

    Returns:
        The pictures, in order, each once; a failure for each name that stands for nothing; what was passed over, one
        sentence per folder.
    """
    sources: dict[Path, Source] = {}
    failures: list[FileReport] = []
    passed_over: list[str] = []
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            found, others = _walk(path, recursive=recursive, leave_out=leave_out)
            if others:
                passed_over.append(_describe_others(path, others))
            if not found:
                failures.append(FileReport(path, None, "failed", f"{printable_name(text)}: no picture in this folder"))
        elif os.path.lexists(path):
            found = [Source(path)]
        else:
            found = [Source(Path(match)) for match in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207
            found = [source for source in found if source.path.is_file()]
            if not found:
                pattern = glob.has_magic(text)
                reason = "no file matches this pattern" if pattern else "no such file or folder"
                failures.append(FileReport(path, None, "failed", f"{printable_name(text)}: {reason}"))
        for source in found:
            sources.setdefault(Path(os.path.abspath(source.path)), source)  # noqa: PTH100 - links stay as they are
    return list(sources.values()), failures, passed_over


def _walk(folder: Path, *, recursive: bool, leave_out: Path | None) -> tuple[list[Source], list[str]]:
    """Pictures below a folder, and the names of the files that are none by their names."""
    found, others = [], []
    for current, folders, files in os.walk(folder):
        here = Path(current)
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and not (leave_out and _same(here / name, leave_out))
        )
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in READABLE_SUFFIXES:
                found.append(Source(here / name, here.relative_to(folder)))
            else:
                others.append(name)
    return found, others


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _describe_others(folder: Path, names: Sequence[str]) -> str:
    shown = ", ".join(printable_name(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
    files = "1 file is" if len(names) == 1 else f"{len(names)} files are"
    return f"{printable_name(folder)}: {files} hidden or not named like a picture, and passed over ({shown})"


def plan_jobs(
    sources: Iterable[Source], settings: OutputSettings, *, scale: int, network: str
) -> tuple[list[Job], list[Path]]:
    """Where each result goes; no two to one place, none onto an input.

    Where two inputs would have results of one name (``cat.png`` and ``cat.jpg``), the second one's has its input's
    ending in it (``cat.jpg_x4.png``).

    Returns:
        The jobs; and the pictures of a folder that are left out because their names are those of other pictures'
        results, as when a folder is done a second time.

    Raises:
        ValueError: One result's own name is given for several inputs.
    """
    sources = list(sources)
    check_one_result(sources, settings)
    first_choice = {source.path: _output(source, settings, source.path.stem, scale, network) for source in sources}
    makers = {_place(output): path for path, output in first_choice.items()}
    results = [
        source.path
        for source in sources
        if source.within is not None and makers.get(_place(source.path), source.path) != source.path
    ]
    sources = [source for source in sources if source.path not in results]
    inputs = {_place(source.path) for source in sources}
    taken: set[str] = set()
    jobs = []
    for source in sources:
        output = first_choice[source.path]
        if _place(output) in taken:
            output = _output(source, settings, source.path.name, scale, network)
        if _place(output) in inputs:
            jobs.append(Job(source.path, None, f"{printable_name(output)}: the result would replace an input"))
            continue
        taken.add(_place(output))
        jobs.append(Job(source.path, output))
    return jobs, results


def check_one_result(sources: Sequence[Source], settings: OutputSettings) -> None:
    """Refuse several inputs where the name of one result is given.

    Raises:
        ValueError: One result's own name is given for several inputs.
    """
    if settings.file is not None and len(sources) > 1:
        raise ValueError(
            f"{printable_name(settings.file)} can hold one result, got {len(sources)} inputs; name a folder"
        )


def _output(source: Source, settings: OutputSettings, stem: str, scale: int, network: str) -> Path:
    if settings.file is not None:
        return settings.file
    folder = source.path.parent if settings.folder is None else settings.folder / (source.within or "")
    return folder / f"{settings.name.format(stem=stem, scale=scale, network=network)}.{settings.format}"


def _place(path: Path) -> str:
    """Equal for names that some file system holds to be the same: case and composition of letters do not count."""
    return unicodedata.normalize("NFC", os.path.abspath(path)).casefold()  # noqa: PTH100 - links stay as they are


@dataclass(frozen=True, eq=False)
class _Picture:
    """A picture on its way from input to output."""

    job: Job
    image: Image
    """As it was read, then as it will be written."""
    input_size: tuple[int, int]
    seconds: float
    """Spent on it so far."""
    compression: Compression | None
    """See `FileReport`."""


def run_jobs(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    settings: OutputSettings,
    *,
    max_pixels: int = MAX_PIXELS,
    tell_compression: bool = False,
    on_tile: Callable[[Job, int, int], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[FileReport]:
    """Do jobs in their order; what a job's failure is, its report says, and the next one begins.

    While the network works on a picture, threads read the next one and write those before it, where the host's memory
    has room for all of them. Reports come in the order of the jobs, each after its result is written.

    Args:
        jobs: What to do.
        upscaler: Called in this thread, for one picture at a time.
        settings: How results are written.
        max_pixels: Pictures with more pixels fail, see `read_image`.
        tell_compression: Report how each picture looks compressed.
        on_tile: Called in this thread after each tile with the job, the tiles done and the tiles in all. What it raises
            is raised here once the pictures before are written and reported.
        stop: Asked before each picture; when it answers true, no more are begun. Whoever closes the iterator instead
            does not hear of the results that are still being written.
    """
    num_writers = 1 if upscaler.device.type == "cpu" else _GPU_WRITERS
    pool = single_core_threads(1 + num_writers, "pictures")
    read = partial(_read, settings=settings, tell_compression=tell_compression)
    reports: deque[Future[FileReport]] = deque()
    remaining = iter(jobs)
    job = next(remaining, None)
    early: Future[_Picture | FileReport | None] | None = None
    try:
        while job is not None and not stop():
            picture = None if early is None else early.result()
            if picture is None:
                picture = _guarded(job, partial(read, job, max_pixels=max_pixels))
            result_bytes = upscaler.scale**2 * _bytes(picture)
            while reports and (reports[0].done() or len(reports) > num_writers or not _is_room_for(result_bytes)):
                yield reports.popleft().result()
            following, early = next(remaining, None), None
            if following is not None and _is_room_for(result_bytes):
                early = pool.submit(_early, partial(read, following), max_pixels)
            try:
                if isinstance(picture, _Picture):
                    picture = _guarded(job, partial(_upscale, picture, upscaler, settings, on_tile))
            except BaseException:
                yield from (report.result() for report in reports)
                raise
            reports.append(pool.submit(_guarded, job, partial(_write, picture, settings)))
            job = following
        yield from (report.result() for report in reports)
    finally:
        pool.shutdown(cancel_futures=True)


def _guarded(job: Job, step: Callable[[], T]) -> T | FileReport:
    """What a step of a job answers; where it fails, a report that says why."""
    try:
        return step()
    except FinescaleError as error:
        return FileReport(job.input, None, "failed", str(error))
    except MemoryError:
        reason = f"{printable_name(job.input)}: too little memory to read it or to write its result"
        return FileReport(job.input, None, "failed", reason)


def _spare_memory() -> int:
    """Bytes that one picture may take while others are in memory."""
    free = free_host_memory()
    return (UNKNOWN_MEMORY if free is None else free) // 4


def _is_room_for(num_bytes: int) -> bool:
    return num_bytes <= _spare_memory()


def _bytes(picture: _Picture | FileReport) -> int:
    if isinstance(picture, FileReport):
        return 0
    image = picture.image
    return image.pixels.nbytes + (0 if image.alpha is None else image.alpha.nbytes)


def _early(read: Callable[..., _Picture | FileReport], max_pixels: int) -> _Picture | FileReport | None:
    """A picture before its turn; None where it has to wait: it is large, or it fails, which its turn will tell."""
    try:
        return read(max_pixels=min(max_pixels, _spare_memory() // _BYTES_PER_PIXEL))
    except (FinescaleError, MemoryError):
        return None


def _read(job: Job, *, settings: OutputSettings, max_pixels: int, tell_compression: bool) -> _Picture | FileReport:
    """A job's picture; or its report, where there is nothing to do."""
    if job.output is None:
        return FileReport(job.input, None, "failed", job.reason)
    if os.path.lexists(job.output) and not settings.overwrite:
        return FileReport(job.input, job.output, "kept", "the result exists already; --overwrite makes it anew")
    started = time.monotonic()
    image = read_image(job.input, max_pixels=max_pixels)
    compression = compression_of(image) if tell_compression else None
    return _Picture(job, image, image.size, time.monotonic() - started, compression)


def _upscale(
    picture: _Picture,
    upscaler: Upscaler,
    settings: OutputSettings,
    on_tile: Callable[[Job, int, int], None] | None,
) -> _Picture:
    started = time.monotonic()
    result = upscaler(picture.image, on_tile=None if on_tile is None else partial(on_tile, picture.job))
    size = settings.final_size(picture.input_size, result.size)
    if size != result.size:
        result = _resized(result, size)
    return replace(picture, image=result, seconds=picture.seconds + time.monotonic() - started)


def _write(picture: _Picture | FileReport, settings: OutputSettings) -> FileReport:
    """The report of a picture, once it is written; a report stays as it is."""
    if isinstance(picture, FileReport):
        return picture
    started = time.monotonic()
    path = picture.job.output
    assert path is not None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageWriteError(f"{printable_name(path.parent)}: cannot be made ({error.strerror})") from None
    lost = write_image(path, picture.image, quality=settings.quality)
    return FileReport(
        picture.job.input,
        path,
        "done",
        notes=(*picture.image.notes, *lost),
        input_size=picture.input_size,
        output_size=picture.image.size,
        seconds=round(picture.seconds + time.monotonic() - started, 3),
        compression=picture.compression,
    )


def _resized(image: Image, size: tuple[int, int]) -> Image:
    alpha = None if image.alpha is None else resize(image.alpha, size=size).clamp_(0, 1)
    return replace(image, pixels=resize(image.pixels, size=size).clamp_(0, 1), alpha=alpha)
