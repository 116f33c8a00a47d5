"""What is wrong with a data set: pictures that are missing, unreadable, of the wrong size, or there twice."""

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
    """Where a data set lies."""

    hr: Path
    """Folder of the originals."""
    lr: Mapping[int, Path] = field(default_factory=dict)
    """Folders of their low-resolution pictures, by scale."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    path: Path
    """The picture, or the folder that holds none."""
    kind: Literal["missing", "unreadable", "mis-sized", "without original", "duplicate"]
    """What is wrong, in a word or two."""
    reason: str
    """The same in a sentence that names what it is about."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"path": str(self.path), "kind": self.kind, "reason": self.reason}


@dataclass(frozen=True)
class Checklist:
    """What is to be looked at, and what is wrong by the names alone."""

    pictures: Mapping[Path, Mapping[int, Path]]
    """The originals, each with its low-resolution pictures by scale."""
    problems: tuple[Problem, ...]
    """Folders without pictures, and pictures of which there is only one half of a pair."""

    @property
    def num_pairs(self) -> int:
        """How many low-resolution pictures have their originals."""
        return sum(map(len, self.pictures.values()))


@dataclass(frozen=True)
class Checked:
    """One original that was looked at, with all its low-resolution pictures."""

    path: Path
    """The original."""
    problems: tuple[Problem, ...] = ()
    """What is wrong with any of them."""


def benchmark_sets(root: Path, names: Iterable[str] = (), *, scales: Iterable[int]) -> list[PictureSet]:
    """Test sets in any of the layouts of `finescale.data.benchmarks`.

    Args:
        root: The folder of all sets.
        names: The sets, see `benchmark_pairs`; none takes all that there are.
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
    """Find the pictures of some data sets and what belongs to them, without opening any."""
    pictures: dict[Path, dict[int, Path]] = {}
    problems: list[Problem] = []
    for group in sets:
        originals = _list(group.hr, problems)
        pictures |= {path: {} for path in originals}
        for scale, folder in group.lr.items():
            small = _list(folder, problems)
            if not originals or not small:
                continue
            matching = match_pairs(originals, small, scale=scale)
            for high, low in matching.pairs.items():
                pictures[high][scale] = low
            for path in matching.without_lr:
                reason = f"{printable_name(path)}: {printable_name(folder)} lacks its picture at scale {scale}"
                problems.append(Problem(path, "missing", reason))
            for path in matching.without_hr:
                reason = f"{printable_name(path)}: {printable_name(group.hr)} lacks its original"
                problems.append(Problem(path, "without original", reason))
    return Checklist(pictures, tuple(problems))


def check_pictures(checklist: Checklist, *, workers: int = 1) -> Generator[Checked, None, None]:
    """Decode every picture of a checklist.

    Args:
        checklist: What to look at, see `plan_check`.
        workers: How many originals at once.

    Returns:
        What was found, one answer per original, in order. Of pictures with equal pixels all but the first are
        duplicates, whatever their files and sets.

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


def _digest(original: HRImage) -> bytes:
    """The same for equal pixels, gray stored as gray or as RGB."""
    digest = hashlib.sha256(str(original.size).encode())
    digest.update(original.levels.expand(3, -1, -1).contiguous().numpy().data)
    return digest.digest()
