"""Upscaling of one image file on disk, band by band: neither the image nor its result is ever whole in memory.

The input is decoded into a hidden folder beside the result; finished bands are appended to a file there, from which the
result is encoded at last. A run that was stopped in between goes on behind the last finished band.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from finescale.errors import ImageReadError, ImageWriteError, printable_name
from finescale.images import (
    LARGE_FORMATS,
    MAX_PIXELS,
    Image,
    Samples,
    Storage,
    check_size,
    levels_header,
    profile_name,
    read_samples,
    write_stored,
)
from finescale.images.formats import DZI, JPEG, WEBP
from finescale.system.files import TEMPORARY_PREFIX, sha256, whole_file
from finescale.system.lock import exclusive
from finescale.system.memory import free_host_memory
from finescale.system.places import Place
from finescale.system.remote import errors_about, local_result, scratch_folder
from finescale.upscale.bands import Band, RowSource, upscale_bands
from finescale.upscale.compression import middle
from finescale.upscale.flaws import Flaw, flaw_of
from finescale.upscale.report import UpscaleReport
from finescale.upscale.tiny import margin_of

if TYPE_CHECKING:
    from finescale.upscale.upscaler import OnTile, Upscaler

WHOLE_BYTES = 20
"""Bytes of host memory per pixel of a result that is made in memory."""

MAX_WHOLE_PIXELS = 500_000_000
"""Pixels of the largest result that is made in memory, whatever is free: 10 GB."""

MAX_PIXELS_PER_BYTE = 32
"""Pixels for each byte of its file that an image may have beyond `MAX_PIXELS`; a bomb has hundreds, a photograph one
or two, a map or a scan of a page up to twenty."""

_ROWS = 64  # of a result that are converted at once
_SMALLER = {JPEG.name: 4, WEBP.name: 4, DZI.name: 3}  # how many times smaller than the levels a file is at least

logger = logging.getLogger("finescale")


def pixel_limit(path: Path, max_pixels: int | None) -> int:
    """Return the largest number of pixels that a file may claim to have and is decoded onto the disk.

    Args:
        path: The file.
        max_pixels: The limit that was asked for; None grows with the file, since a file that claims much in few bytes
            is a bomb, and one of many bytes is not.
    """
    return max_pixels or max(MAX_PIXELS, MAX_PIXELS_PER_BYTE * path.stat().st_size)


def can_stream(size: tuple[int, int], output: Place, upscaler: Upscaler) -> bool:
    """Return whether an image of a size can be upscaled on disk.

    Its format is written row by row, it is not tiny, and the network takes it without an extension to whole windows.
    """
    is_tiny = upscaler.tiling.rule == "blend" and margin_of(size) > 0
    is_extended = upscaler.network.mirrored_size(size) != size
    return output.suffix.lower() in LARGE_FORMATS and not is_tiny and not is_extended


def should_stream(size: tuple[int, int], scale: int) -> bool:
    """Return whether the result of an image takes too much memory: more than half of what is free, or 10 GB."""
    num_pixels = math.prod(size) * scale**2
    free = free_host_memory()
    return num_pixels > MAX_WHOLE_PIXELS or (free is not None and num_pixels * WHOLE_BYTES > free // 2)


def upscale_on_disk(
    upscaler: Upscaler,
    path: Path,
    output: Place,
    *,
    source: Place | None = None,
    quality: int | None = None,
    pyramid: bool = False,
    max_pixels: int | None = None,
    detect_flaws: bool = False,
    on_tile: OnTile | None = None,
) -> UpscaleReport:
    """Upscale a file; pixels, metadata and notes are those of the whole image upscaled in memory.

    Args:
        upscaler: Computes the tiles; that of `Upscaler.chosen_for` where the image looks compressed or noisy.
        path: The image.
        output: The result, one of `LARGE_FORMATS`; an existing one is replaced.
        source: What the image is a copy of, where it is one, for errors and the report.
        quality: 1 to 100, for JPEG, WebP and DZI.
        pyramid: Store a TIFF with reduced copies.
        max_pixels: Refuse an image with more pixels before it is decoded; None is `pixel_limit`.
        detect_flaws: Look for visible compression and noise, for the report; implied where the network depends on it.
        on_tile: As in `Upscaler.__call__`; tiles of an earlier run that was stopped count as done.

    Raises:
        ValueError: ``quality`` is out of range, or the network cannot take the image's channels.
        ImageError: The image cannot be read or is tiny, or the result cannot be written.
        NumericalError: The network's result is not finite.
        DeviceError: The device has too little memory.
        RemoteError: The result cannot be sent to its place.
    """
    started = time.monotonic()
    named = path if source is None else source
    target = LARGE_FORMATS.get(output.suffix.lower())
    if target is None:
        raise ImageWriteError(
            f"{printable_name(output)}: no format that is written on disk has the suffix {output.suffix!r}; known: "
            f"{' '.join(LARGE_FORMATS)}"
        )
    if quality is not None and not 1 <= quality <= 100:
        raise ValueError(f"quality must be between 1 and 100, got {quality}")
    with errors_about(named, path), _working_folder(output) as folder:
        samples = read_samples(path, folder=folder.path, max_pixels=pixel_limit(path, max_pixels))
        is_asked = detect_flaws or upscaler.build_for_flawed is not None
        flaw = _flaw_of(samples, scale=upscaler.scale) if is_asked else None
        upscaler = upscaler.chosen_for(flaw).resolved([samples.size])
        height, width = samples.size
        size = (height * upscaler.scale, width * upscaler.scale)
        check_size(output, size)
        if not can_stream(samples.size, output, upscaler):
            raise ImageReadError(
                f"{printable_name(path)}: {width} x {height} pixels are too few, or no whole windows of the network, "
                "to be upscaled in parts; upscale it in memory"
            )
        storage = Storage(
            target,
            size,
            num_colors=samples.num_channels,
            has_alpha=samples.has_alpha,
            depth=samples.depth,
            profile=samples.profile,
            metadata=samples.metadata,
        )
        _check_disk(output, folder, storage)
        rows = RowSource(
            samples.rows,
            samples.size,
            num_colors=samples.num_channels,
            has_alpha=samples.has_alpha,
            folder=folder.path,
        )
        progress = _compute(upscaler, rows, storage, folder, key=_key(upscaler, path, named, storage), on_tile=on_tile)
        with local_result(output) as local:
            write_stored(local, folder.levels, storage, quality=quality, pyramid=pyramid)
        folder.is_done = True
    kept = (f"{progress.num_kept} of its {size[0]} rows were computed by an earlier run",) if progress.num_kept else ()
    redone = upscaler.notes_on(progress.num_redone)
    for note in redone:
        logger.warning("%s", note)
    return UpscaleReport(
        named,
        "done",
        (output,),
        notes=(*samples.notes, *redone, *storage.notes(is_opaque=progress.is_opaque), *kept),
        input_size=samples.size,
        output_size=size,
        seconds=round(time.monotonic() - started, 3),
        depth=samples.depth,
        profile=None if samples.profile is None else profile_name(samples.profile),
        flaw=flaw,
        network=upscaler.name,
    )


# ---- what is kept of a run that is stopped


@dataclass(frozen=True)
class _Progress:
    """How far a result has come."""

    key: str
    """Stands for the input, the network and all settings that determine the levels of the result."""
    tile: int | None = None
    """Side of the tiles, as `Upscaler.plan` takes it; None where it has not been chosen."""
    num_bands: int = 0
    num_rows: int = 0
    """Rows of the result in the finished bands."""
    num_redone: int = 0
    is_opaque: bool = True
    num_kept: int = 0
    """Rows that an earlier run has done."""


class _Folder:
    """The hidden folder of one result while it is made.

    Attributes:
        levels: File of the result's levels.
        is_done: Whether the result is written, so that nothing of the folder is needed any more.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.levels, self.is_done = path, path / "result.levels", False

    def progress(self, key: str) -> tuple[_Progress, Tensor] | None:
        """Return what an earlier run with the same key has done, and the sums of its last band."""
        try:
            progress = _Progress(**json.loads((self.path / "progress.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        if progress.key != key:
            return None
        return progress, torch.from_numpy(np.load(self._rest(progress.num_bands)))

    def commit(self, progress: _Progress, rest: Tensor) -> None:
        """Record that the levels of some bands are on the disk."""
        with whole_file(self._rest(progress.num_bands)) as file:
            np.save(file, rest.numpy())
        with whole_file(self.path / "progress.json") as file:
            file.write(json.dumps(asdict(progress)).encode())
        self._rest(progress.num_bands - 1).unlink(missing_ok=True)

    @property
    def has_bands(self) -> bool:
        """Whether there is anything that a later run can use."""
        return (self.path / "progress.json").exists()

    def clear(self) -> None:
        """Delete what a later run cannot use; the lock is deleted where it is released."""
        keeps_bands = self.has_bands and not self.is_done
        for path in self.path.iterdir():
            is_of_bands = path.name in ("progress.json", "result.levels") or path.name.startswith("rest-")
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "lock" and not (keeps_bands and is_of_bands):
                path.unlink()

    def _rest(self, num_bands: int) -> Path:
        return self.path / f"rest-{num_bands}.npy"


@contextmanager
def _working_folder(output: Place) -> Iterator[_Folder]:
    """Hold the hidden folder of a result; it is deleted at the end unless it has bands of an unfinished result.

    That of a remote result is among this user's temporary files.

    Raises:
        ImageWriteError: It cannot be created, or another process holds it.
    """
    parent, named = (output.parent, output.name) if isinstance(output, Path) else (scratch_folder(), output.address)
    name = hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    path = parent / f"{TEMPORARY_PREFIX}bands-{name}"
    folder = _Folder(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with exclusive(path / "lock"):
            try:
                yield folder
            finally:
                folder.clear()
                if folder.has_bands:
                    logger.warning(
                        "%s: stopped; finished rows are kept in %s, and the same command goes on behind them",
                        printable_name(output),
                        path.name if isinstance(output, Path) else path,
                    )
    except BlockingIOError:
        raise ImageWriteError(f"{printable_name(output)}: another process is making this result") from None
    except OSError as error:
        raise ImageWriteError(f"{printable_name(output)}: cannot be written ({error.strerror})") from None
    finally:
        with suppress(OSError):  # it has bands, or another process has begun in it
            path.rmdir()


def _key(upscaler: Upscaler, path: Path, named: Place, storage: Storage) -> str:
    """Return what is equal for two runs that make the same levels of the same input, of which a path may be a copy."""
    facts = path.stat()
    state = facts.st_mtime_ns if path == named else sha256(path)
    weights = hashlib.sha256()
    for name, tensor in upscaler.network.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    described: Mapping[str, Any] = {
        "version": version("finescale"),
        "input": [named.name, facts.st_size, state],
        "network": [type(upscaler.network).__name__, upscaler.scale, weights.hexdigest()],
        "computed": [upscaler.engine, upscaler.precision, upscaler.device.type, upscaler.ensemble],
        "tiling": upscaler.tiling.model_dump(),
        "stored": [storage.target.name, storage.size, storage.num_channels, storage.depth],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _check_disk(output: Place, folder: _Folder, storage: Storage) -> None:
    """Refuse a result for which the disk has no room, before the first tile.

    Raises:
        ImageWriteError: It has none.
    """
    levels = math.prod(storage.size) * storage.num_channels * storage.depth // 8
    needed = levels + levels // _SMALLER.get(storage.target.name, 1)
    if folder.levels.exists():
        needed -= folder.levels.stat().st_size
    free = shutil.disk_usage(folder.path).free
    if needed > free:
        raise ImageWriteError(
            f"{printable_name(output)}: takes up to {needed / 2**30:.1f} GiB of disk while it is made, but only "
            f"{free / 2**30:.1f} GiB are free; free some, or choose another folder"
        )


# ---- the bands


def _compute(
    upscaler: Upscaler, source: RowSource, storage: Storage, folder: _Folder, *, key: str, on_tile: OnTile | None
) -> _Progress:
    """Compute the bands that are missing."""
    progress, rest = folder.progress(key) or (_Progress(key), None)
    writer = _LevelsWriter(folder, storage, progress)
    with writer.file:
        upscale_bands(
            upscaler,
            source,
            writer.write,
            tile=progress.tile,
            num_done=progress.num_bands,
            rest=rest,
            on_tile=on_tile,
        )
    return replace(writer.progress, num_kept=progress.num_rows)


class _LevelsWriter:
    """Writes bands to the file of levels, and records each once it is on the disk."""

    def __init__(self, folder: _Folder, storage: Storage, progress: _Progress) -> None:
        self._folder, self._storage, self.progress = folder, storage, progress
        self._row_bytes = storage.size[1] * storage.num_channels * storage.depth // 8
        header = levels_header(storage.size, storage.num_channels, storage.depth)
        self.file = folder.levels.open("r+b" if progress.num_bands else "wb")
        self.file.write(header)
        self._start = len(header)

    def write(self, band: Band) -> None:
        """Write the rows of a band; the first one may come again, with smaller tiles."""
        if band.number == 1:
            self.progress = _Progress(self.progress.key, band.tile)
        self.file.seek(self._start + band.top * self._row_bytes)
        is_opaque, num_rows = self.progress.is_opaque, band.color.shape[1]
        for first in range(0, num_rows, _ROWS):
            rows = slice(first, first + _ROWS)
            alpha = None if band.alpha is None else band.alpha[:, rows]
            levels, are_opaque = self._storage.levels(band.color[:, rows], alpha)
            is_opaque &= are_opaque
            self.file.write(np.ascontiguousarray(levels).data)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.progress = replace(
            self.progress,
            num_bands=band.number,
            num_rows=band.top + num_rows,
            num_redone=self.progress.num_redone + band.num_redone,
            is_opaque=is_opaque,
        )
        self._folder.commit(self.progress, band.rest)


def _flaw_of(samples: Samples, *, scale: int) -> Flaw | None:
    """Return the visible flaw of an image, which its middle shows."""
    rows, columns = middle(samples.size)
    pixels = samples.convert(samples.levels[rows][:, columns])
    return flaw_of(Image(pixels[: samples.num_channels], jpeg_quality=samples.jpeg_quality), scale=scale)
