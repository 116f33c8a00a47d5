"""Checks of a data set: pictures that are missing, unreadable, of the wrong size, or duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from finescale.data.benchmarks import benchmark_folders, benchmark_names
from finescale.data.hr_images import HRImage, read_hr_image
from finescale.data.pairs import find_images, match_pairs, mismatch
from finescale.errors import DataError, ImageReadError, printable_name
from finescale.system.jobs import FileReport, map_files


@dataclass(frozen=True)
class PictureSet:
    """Folders of a data set."""

    hr: Path
    """Folder of the HR images."""
    lr: Mapping[int, Path] = field(default_factory=dict)
    """Folders of their low-resolution pictures, by scale."""


@dataclass(frozen=True)
class Problem:
    """One problem of a data set."""

    path: Path
    """The picture, or the folder that holds none."""
    kind: Literal["missing", "unreadable", "mis-sized", "without original", "duplicate"]
    """Kind of problem."""
    reason: str
    """The problem in a sentence that names the picture."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"path": str(self.path), "kind": self.kind, "reason": self.reason}


@dataclass(frozen=True)
class Checklist:
    """Pictures to check, and the problems that their names alone show."""

    pictures: Mapping[Path, Mapping[int, Path]]
    """HR images, each with its low-resolution pictures by scale."""
    problems: tuple[Problem, ...]
    """Folders without pictures, and pictures whose partner is missing."""

    @property
    def num_pairs(self) -> int:
        """Number of low-resolution pictures that have their HR images."""
        return sum(map(len, self.pictures.values()))


@dataclass(frozen=True)
class Checked:
    """Result of checking one HR image with all its low-resolution pictures."""

    path: Path
    """The HR image."""
    problems: tuple[Problem, ...] = ()
    """Problems of any of them."""


def benchmark_sets(root: Path, names: Iterable[str] = (), *, scales: Iterable[int]) -> list[PictureSet]:
    """Find test sets in any of the layouts of `finescale.data.benchmarks`.

    Args:
        root: The folder of all sets.
        names: The sets, spelt as `benchmark_pairs` takes them; empty takes all.
        scales: Which low-resolution pictures belong to a set, one scale at least.

    Raises:
        DataError: There is no such set, or none at all.
    """
    names = tuple(names)
    folders: dict[Path, dict[int, Path]] = {}
    for scale in scales:
        for name in names or benchmark_names(root, scale=scale):
            hr, lr = benchmark_folders(root, name, scale=scale)
            folders.setdefault(hr, {})[scale] = lr
    return [PictureSet(hr, lr) for hr, lr in folders.items()]


def plan_check(sets: Iterable[PictureSet]) -> Checklist:
    """Find the pictures of some data sets and their partners, without opening any."""
    pictures: dict[Path, dict[int, Path]] = {}
    problems: list[Problem] = []
    for group in sets:
        hr_images = _list(group.hr, problems)
        pictures |= {path: {} for path in hr_images}
        for scale, folder in group.lr.items():
            small = _list(folder, problems)
            if not hr_images or not small:
                continue
            matching = match_pairs(hr_images, small, scale=scale)
            for high, low in matching.pairs.items():
                pictures[high][scale] = low
            for path in matching.without_lr:
                reason = f"{printable_name(path)}: {printable_name(folder)} lacks its picture at scale {scale}"
                problems.append(Problem(path, "missing", reason))
            for path in matching.without_hr:
                reason = f"{printable_name(path)}: {printable_name(group.hr)} lacks its HR image"
                problems.append(Problem(path, "without original", reason))
    return Checklist(pictures, tuple(problems))


def check_pictures(checklist: Checklist, *, workers: int = 1) -> Generator[Checked, None, None]:
    """Decode every picture of a checklist.

    Args:
        checklist: The result of `plan_check`.
        workers: How many HR images are checked at once.

    Returns:
        One result per HR image, in order. Of pictures with equal pixels all but the first are duplicates, whatever
        their files and sets.

    Raises:
        ValueError: ``workers`` is not positive.
    """

    def work(path: Path) -> _Looked:
        return _look(path, checklist.pictures[path])

    return _check(map_files(work, checklist.pictures, workers=workers))


@dataclass(frozen=True)
class _Looked:
    path: Path
    digest: bytes | None  # of the pixels; None where they cannot be read
    problems: tuple[Problem, ...]


def _check(results: Generator[_Looked | FileReport, None, None]) -> Generator[Checked, None, None]:
    first: dict[bytes, Path] = {}
    with closing(results):
        for result in results:
            if isinstance(result, FileReport):
                yield Checked(result.input, (Problem(result.input, "unreadable", str(result.reason)),))
                continue
            problems = result.problems
            if result.digest is not None:
                earlier = first.setdefault(result.digest, result.path)
                if earlier != result.path:
                    reason = f"{printable_name(result.path)}: the same picture as {printable_name(earlier)}"
                    problems = (*problems, Problem(result.path, "duplicate", reason))
            yield Checked(result.path, problems)


def _look(path: Path, smaller: Mapping[int, Path]) -> _Looked:
    problems: list[Problem] = []
    hr = _open(path, problems)
    for scale, low in smaller.items():
        lr = _open(low, problems)
        wrong = hr and lr and mismatch(lr.size, hr.size, scale=scale)
        if wrong:
            problems.append(Problem(low, "mis-sized", f"{printable_name(low)}: {wrong}"))
    return _Looked(path, None if hr is None else _digest(hr), tuple(problems))


def _open(path: Path, problems: list[Problem]) -> HRImage | None:
    try:
        return read_hr_image(path)
    except ImageReadError as error:
        problems.append(Problem(path, "unreadable", str(error)))
        return None


def _list(folder: Path, problems: list[Problem]) -> list[Path]:
    try:
        return find_images(folder)
    except DataError as error:
        problems.append(Problem(folder, "missing", str(error)))
        return []


def _digest(image: HRImage) -> bytes:
    """Hash the pixels; the same for gray stored as gray or as RGB."""
    digest = hashlib.sha256(str(image.size).encode())
    digest.update(image.levels.expand(3, -1, -1).contiguous().numpy().data)
    return digest.digest()
