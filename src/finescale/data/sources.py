"""Folders of pictures, caches and LMDBs as sources of samples; their contents show which of these they are."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from threading import Lock
from typing import Protocol

from torch import Tensor

from finescale.data.cache import CachedImages, open_cache
from finescale.data.degradation import DegradationSettings
from finescale.data.hr_images import read_hr_image
from finescale.data.lmdb import LmdbImages
from finescale.data.pairs import find_images, match_pairs, mismatch
from finescale.data.samples import Augmentation, Source
from finescale.data.sequence import PictureSequence
from finescale.errors import DataError, FinescaleError, ImageReadError, printable_name
from finescale.images import read_size
from finescale.system.cores import available_cores
from finescale.system.files import sweep_temporaries
from finescale.system.memory import UNKNOWN_MEMORY, free_host_memory
from finescale.system.threads import single_core_threads

logger = logging.getLogger("finescale")

_MAX_THREADS = 16


def open_source(
    hr: Sequence[Path],
    lr: Sequence[Path] = (),
    *,
    scale: int,
    patch: int,
    seed: int,
    augmentation: Augmentation,
    degradation: DegradationSettings | None = None,
    channels: int = 3,
    processes: int = 1,
) -> Source:
    """Check all pictures of some places, and decode them where memory suffices.

    Folders of pictures and LMDBs are decoded here, as long as they take at most half of the free memory; otherwise each
    picture is decoded when it is drawn, with a warning, and the latest ones are kept. Of a cache only the cropped
    pixels are ever read.

    Args:
        hr: Folders of HR images, caches of `finescale.data.write_cache`, or LMDBs.
        lr: The places of their low-resolution pictures, one for each of ``hr`` and of any kind, paired by the names of
            the pictures; none makes them by `finescale.resize.downsample`.
        scale: How many times smaller the low-resolution pictures are.
        patch: Height and width of a sample, in lr pixels.
        seed: Names the sequence of samples; 0 to 2**64 - 1.
        augmentation: How samples are varied.
        degradation: What else happens to low-resolution pictures that samples make; None is nothing.
        channels: Channels of a sample: 3 for RGB, or 1 for gray, see `finescale.data.samples.as_gray`.
        processes: Number of processes on this machine that open the same source, and share its memory.

    Raises:
        ValueError: ``lr`` does not name one place for each of ``hr``, or is given besides ``degradation``.
        DataError: A place holds no picture; pictures are unreadable, or pairs are incomplete or of sizes that do not
            belong together, all of which the message lists; or all pictures are too small for a patch.
        MissingExtraError: A place is an LMDB, and the package lmdb is not installed.
    """
    if lr and len(lr) != len(hr):
        raise ValueError(f"lr must name one place for each of the {len(hr)} of hr, got {len(lr)}")
    if lr and degradation is not None:
        raise ValueError(f"lr must be empty with degradation, which makes the low-resolution pictures, got {len(lr)}")
    mistakes: list[str] = []
    pairs: list[tuple[_Picture, _Picture | None]] = []
    for number, place in enumerate(hr):
        hr_pictures = _open_place(place, mistakes)
        smaller = _open_place(lr[number], mistakes) if lr else None
        pairs += (
            _match(hr_pictures, smaller, scale, mistakes) if smaller else [(picture, None) for picture in hr_pictures]
        )
    _refuse(mistakes)
    fitting = [pair for pair in pairs if min(pair[0].size) >= scale * patch]
    if not fitting:
        raise DataError(
            f"all {len(pairs)} pictures have a side of fewer than {scale * patch} pixels; use a smaller patch"
        )
    high, low = [pair[0] for pair in fitting], [pair[1] for pair in fitting if pair[1]]
    decoded = _decode([*high, *low], processes)
    return Source(
        names=tuple(picture.name for picture in high),
        hr=_Pictures(high, decoded),
        sizes=[picture.size for picture in high],
        lr=_Pictures(low, decoded) if lr else None,
        scale=scale,
        patch=patch,
        seed=seed,
        augmentation=augmentation,
        degradation=degradation,
        channels=channels,
        too_small=tuple(pair[0].name for pair in pairs if min(pair[0].size) < scale * patch),
    )


class _Images(Protocol):
    """Pictures of one place, each (3, H, W) and uint8."""

    def __getitem__(self, index: int) -> Tensor: ...


class _FolderImages:
    """Pictures of a folder, each decoded when it is accessed; gray becomes RGB."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths

    def __getitem__(self, index: int) -> Tensor:
        return read_hr_image(self._paths[index]).levels.expand(3, -1, -1).contiguous()


@dataclass(frozen=True, eq=False)
class _Picture:
    """A picture in its place."""

    images: _Images
    number: int
    path: Path  # in a cache or an LMDB, one that only names it
    size: tuple[int, int]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def is_decoded(self) -> bool:
        """Whether its pixels can be read without decoding."""
        return isinstance(self.images, CachedImages)


class _Decoded:
    """Cache of the latest decoded pictures, as many as fit into memory; safe to use from several threads."""

    def __init__(self, num_bytes: int) -> None:
        self._free = num_bytes
        self._kept: OrderedDict[_Picture, Tensor] = OrderedDict()
        self._lock = Lock()

    def get(self, picture: _Picture) -> Tensor:
        with self._lock:
            if picture in self._kept:
                self._kept.move_to_end(picture)
                return self._kept[picture]
        pixels = picture.images[picture.number]
        with self._lock:
            if picture not in self._kept:  # by another thread, meanwhile
                self._kept[picture] = pixels
                self._free -= pixels.numel()
            while self._free < 0:
                _, oldest = self._kept.popitem(last=False)
                self._free += oldest.numel()
        return pixels


class _Pictures(PictureSequence):
    """Pictures of several places, one place after the other."""

    def __init__(self, pictures: Sequence[_Picture], decoded: _Decoded) -> None:
        self._pictures = pictures
        self._decoded = decoded

    def __len__(self) -> int:
        return len(self._pictures)

    def read(self, index: int) -> Tensor:
        """Read the picture at an index, and decode it where that was not done yet."""
        picture = self._pictures[index]
        return picture.images[picture.number] if picture.is_decoded else self._decoded.get(picture)


def _open_place(place: Path, mistakes: list[str]) -> list[_Picture]:
    """List the pictures of a place; add those that cannot be opened to the mistakes."""
    images: CachedImages | LmdbImages
    try:
        if not place.exists():
            sweep_temporaries(place.parent)  # which puts back a cache or an LMDB whose replacement was killed
        is_cache, is_lmdb = ((place / name).is_file() for name in ("pixels.bin", "data.mdb"))
    except OSError as error:
        raise DataError(f"{printable_name(place)}: cannot be read ({error.strerror})") from None
    if is_cache:
        images = open_cache(place)
    elif is_lmdb:
        images = LmdbImages(place)
    else:
        return list(_open_folder(place, mistakes))
    facts = enumerate(zip(images.names, images.sizes, strict=True))
    return [_Picture(images, number, place / name, size) for number, (name, size) in facts]


def _open_folder(folder: Path, mistakes: list[str]) -> Iterator[_Picture]:
    paths = find_images(folder)
    images = _FolderImages(paths)
    for number, path in enumerate(paths):
        try:
            yield _Picture(images, number, path, read_size(path))
        except ImageReadError as error:
            mistakes.append(str(error))


def _match(
    hr: Sequence[_Picture], smaller: Sequence[_Picture], scale: int, mistakes: list[str]
) -> Iterator[tuple[_Picture, _Picture]]:
    """Pair the pictures of two places by name; add those without a partner to the mistakes."""
    high, low = ({picture.path: picture for picture in place} for place in (hr, smaller))
    for place, by_path in ((hr, high), (smaller, low)):
        doubles = [picture.path for picture in place if by_path[picture.path] is not picture]
        mistakes += [f"{printable_name(path)}: several pictures have this name" for path in doubles]
    matching = match_pairs([*high], [*low], scale=scale)
    mistakes += [f"{printable_name(path)}: its low-resolution picture is missing" for path in matching.without_lr]
    mistakes += [f"{printable_name(path)}: its HR image is missing" for path in matching.without_hr]
    for hr_path, lr_path in matching.pairs.items():
        wrong = mismatch(low[lr_path].size, high[hr_path].size, scale=scale)
        if wrong:
            mistakes.append(f"{printable_name(lr_path)}: {wrong}")
        yield high[hr_path], low[lr_path]


def _decode(pictures: Sequence[_Picture], processes: int) -> _Decoded:
    """Decode what is not decoded yet, where all of it fits into memory."""
    encoded = [picture for picture in pictures if not picture.is_decoded]
    needed = sum(3 * prod(picture.size) for picture in encoded)
    free = free_host_memory()
    memory = (UNKNOWN_MEMORY if free is None else free // 2) // processes
    decoded = _Decoded(memory)
    if needed > memory:
        logger.warning(
            "the %d pictures take %.1f GiB when decoded, more than half of the free memory, so each is decoded "
            "whenever it is drawn; 'finescale prepare cache' makes this about 50 times faster",
            len(encoded), needed / 2**30,
        )  # fmt: skip
        return decoded
    if encoded:
        mistakes = []
        threads = single_core_threads(max(1, min(_MAX_THREADS, available_cores() // processes)), "decode")
        try:
            for future in [threads.submit(decoded.get, picture) for picture in encoded]:
                try:
                    future.result()
                except FinescaleError as error:
                    mistakes.append(str(error))
        finally:
            threads.shutdown(cancel_futures=True)
        _refuse(mistakes)
    return decoded


def _refuse(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise DataError(f"{len(mistakes)} pictures cannot be used for training: {'; '.join(mistakes)}")
