"""Cache of decoded pictures in one file that is mapped into memory, so that a patch reads only its own pixels.

A cache is a folder of two files: ``pixels.bin`` holds the pictures one after the other, each (3, H, W) in bytes;
``index.json`` lists their names, where each begins, and the size and time of its file when it was read.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import weakref
from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finescale.data.folders import may_be_replaced
from finescale.data.hr_images import HRImage, read_hr_image
from finescale.data.sequence import PictureSequence
from finescale.errors import DataError, printable_name
from finescale.system.files import whole_file, whole_folder
from finescale.system.jobs import FileReport, map_files

FORMAT = 1
"""Version of a cache's layout, stored in its index."""

_INDEX, _PIXELS = "index.json", "pixels.bin"


def write_cache(
    paths: Sequence[Path], folder: Path, *, overwrite: bool = False, workers: int = 1
) -> Generator[FileReport, None, None]:
    """Decode pictures into a cache, one after the other; no more than a few are in memory.

    The folder gets its name once it is complete, after the last report. A cache of exactly the same files, by path,
    size and time, is kept.

    Args:
        paths: The HR images.
        folder: The cache.
        overwrite: Replace a cache that exists.
        workers: How many pictures are decoded at once.

    Returns:
        One report per HR image, in order; the cache holds those that can be read.

    Raises:
        ValueError: ``workers`` is not positive.
        DataError: A picture is missing; or the folder holds other files, or a cache that is damaged or of other
            pictures and ``overwrite`` is not set. While reports are taken: no picture can be read, or the cache cannot
            be written.
    """
    sources = [_facts(path) for path in paths]
    if may_be_replaced(folder, ours=(_INDEX, _PIXELS)) and not overwrite:
        index = _read_index(folder)
        if index["sources"] != sources:
            raise DataError(
                f"{printable_name(folder)} is a cache of other pictures, or they have changed; replace it with "
                "--overwrite, or name another folder"
            )
        return _kept(paths, folder, index)
    return _write(folder, sources, map_files(read_hr_image, paths, workers=workers))


def open_cache(folder: Path, *, min_size: int = 1) -> CachedImages:
    """Open the pictures of a cache.

    Args:
        folder: A folder that `write_cache` made; it may have been moved since.
        min_size: The least height and width, in pixels; smaller pictures are left out.

    Raises:
        DataError: The folder is no cache, or a damaged one, or all its pictures are too small.
    """
    return CachedImages(folder, min_size=min_size)


class CachedImages(PictureSequence):
    """Pictures (3, H, W), uint8, mapped from a cache: neither decoded nor copied; pixels are read when accessed.

    Changes to a picture stay in memory and never reach the file. Copies sent to other processes reopen the cache
    there.

    Raises:
        DataError: The folder is no cache, or a damaged one, or all its pictures are too small.
    """

    names: tuple[str, ...]
    """File names of the HR images."""
    sizes: tuple[tuple[int, int], ...]
    """(height, width) of each."""
    too_small: tuple[str, ...]
    """File names of the HR images that are left out."""

    def __init__(self, folder: Path, *, min_size: int = 1) -> None:
        pictures = _read_index(folder)["pictures"]
        chosen = [picture for picture in pictures if min(picture["size"]) >= min_size]
        if not chosen:
            sizes = f"all {len(pictures)} pictures have a side of fewer than {min_size} pixels"
            raise DataError(f"{printable_name(folder)}: {sizes}; use a smaller patch")
        self.names = tuple(picture["name"] for picture in chosen)
        self.too_small = tuple(picture["name"] for picture in pictures if min(picture["size"]) < min_size)
        self.sizes = tuple((height, width) for height, width in (picture["size"] for picture in chosen))
        self._places = [(picture["offset"], (3, *picture["size"])) for picture in chosen]
        self._reopen = partial(open_cache, folder.absolute(), min_size=min_size)
        try:
            self._file = (folder / _PIXELS).open("rb", buffering=0)
        except OSError as error:
            raise DataError(f"{printable_name(folder)}: cannot be read ({error.strerror})") from None
        weakref.finalize(self, self._file.close)

    def __len__(self) -> int:
        return len(self._places)

    def read(self, index: int) -> Tensor:
        """Map the picture at an index."""
        offset, shape = self._places[index]
        # Each picture is mapped on its own: systems may refuse to map more than they have memory for.
        ahead = offset % mmap.ALLOCATIONGRANULARITY
        mapped = mmap.mmap(self._file.fileno(), ahead + prod(shape), access=mmap.ACCESS_COPY, offset=offset - ahead)
        return torch.frombuffer(mapped, dtype=torch.uint8, offset=ahead).view(shape)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reopen, ()


def _write(
    folder: Path, sources: list[dict[str, Any]], results: Generator[HRImage | FileReport, None, None]
) -> Generator[FileReport, None, None]:
    pictures: list[dict[str, Any]] = []
    failed: dict[str, str | None] = {}
    offset = 0
    name = printable_name(folder)
    try:
        with closing(results), whole_folder(folder) as temporary:
            with whole_file(temporary / _PIXELS) as file:
                for result in results:
                    if isinstance(result, FileReport):
                        failed[str(result.input.absolute())] = result.reason
                        yield result
                        continue
                    file.write(result.levels.expand(3, -1, -1).contiguous().numpy().data)
                    pictures.append({"name": result.path.name, "size": result.size, "offset": offset})
                    offset += 3 * prod(result.size)
                    yield FileReport(result.path, "done", (folder,), notes=result.notes)
            if not pictures:
                raise DataError(f"{name}: none of the {len(sources)} pictures can be read; no cache is written")
            with whole_file(temporary / _INDEX) as file:
                content = {"format": FORMAT, "sources": sources, "pictures": pictures, "failed": failed}
                file.write(json.dumps({**content, "sha256": _digest(content)}, indent=1).encode())
    except OSError as error:
        raise DataError(f"{name}: cannot be written ({error.strerror})") from None


def _kept(paths: Sequence[Path], folder: Path, index: dict[str, Any]) -> Generator[FileReport, None, None]:
    for path in paths:
        reason = index["failed"].get(str(path.absolute()))
        if reason is None:
            yield FileReport(path, "kept", (folder,), "the cache holds it already")
        else:
            yield FileReport(path, "failed", reason=reason)


def _facts(path: Path) -> dict[str, Any]:
    """Return what shows whether a file is still the one that was read."""
    try:
        facts = path.stat()
    except OSError as error:
        raise DataError(f"{printable_name(path)}: cannot be read ({error.strerror})") from None
    return {"path": str(path.absolute()), "bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns}


def _read_index(folder: Path) -> dict[str, Any]:
    """Read the index of a cache, and check that all its pixels are there."""
    name = printable_name(folder)
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="ascii"))
        num_bytes = (folder / _PIXELS).stat().st_size
    except FileNotFoundError:
        raise DataError(f"{name} is not a cache of pictures; make one with 'finescale prepare cache'") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None
    except ValueError:
        index = None
    if not isinstance(index, dict) or index.pop("sha256", None) != _digest(index):
        raise DataError(
            f"{name}: the index of this cache is damaged; rebuild it with 'finescale prepare cache --overwrite'"
        )
    if index["format"] != FORMAT:
        raise DataError(f"{name}: unknown cache format {index['format']}, expected {FORMAT}; rebuild the cache")
    expected = sum(3 * prod(picture["size"]) for picture in index["pictures"])
    if num_bytes != expected:
        raise DataError(
            f"{name}: {_PIXELS} has {num_bytes} bytes, but its {len(index['pictures'])} pictures need {expected}; "
            "rebuild the cache with 'finescale prepare cache --overwrite'"
        )
    return index


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
