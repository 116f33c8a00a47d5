"""The field's test sets (Set5, Set14, ...) in the layouts in which they are published.

=============================================  ===================================================  ==============
HR images                                      low-resolution pictures                              as published by
=============================================  ===================================================  ==============
``<root>/<Set>/HR/<name>.png``                 ``<root>/<Set>/LR_bicubic/X4/<name>x4.png``          EDSR, HiT-SR
``<root>/<Set>/GTmod4/<name>.png`` or GTmod12  ``<root>/<Set>/LRbicx4/<name>.png``                  BasicSR, DRCT
``<root>/HR/<Set>/x4/<name>_HR_x4.png``        ``<root>/LRBI/<Set>/x4/<name>_LRBI_x4.png``          RCAN, SPAN
=============================================  ===================================================  ==============

In each layout the pictures may also be named as in any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from finescale.data.pairs import Pair, find_images, hr_name, lr_names, match_pairs
from finescale.errors import DataError, printable_name
from finescale.settings import suggest

_NAMES = {
    "set5": "Set5",
    "set14": "Set14",
    "b100": "B100",
    "bsd100": "B100",
    "bsds100": "B100",
    "urban100": "Urban100",
    "manga109": "Manga109",
}
"""Spellings of the papers' sets in lower case, and the name that tables print; in the order of the tables."""


def set_name(name: str) -> str:
    """Return a set's name in tables, however it is spelt: "B100" for "bsd100"; other names are left as they are."""
    return _NAMES.get(name.casefold(), name)


def is_known_set(name: str) -> bool:
    """Return whether a name is that of one of the papers' sets, however it is spelt."""
    return name.casefold() in _NAMES


def benchmark_names(root: Path, *, scale: int) -> list[str]:
    """List the test sets in a folder that have pictures for a scale, those of the papers first.

    Raises:
        DataError: There is no such test set.
    """
    found = {set_name(name) for name, _, _ in _sets(root, scale)}
    if not found:
        raise DataError(f"{printable_name(root)} holds no test set; {_remedy(root)}")
    known = list(dict.fromkeys(_NAMES.values()))
    return sorted(found, key=lambda name: (known.index(name) if name in known else len(known), name.casefold()))


def benchmark_pairs(root: Path, name: str, *, scale: int) -> list[Pair]:
    """List the pictures of one test set at one scale, in natural order.

    HR images may be uncut: a low-resolution picture belongs to the top left part that is a multiple of the scale.

    Args:
        root: The folder of all test sets.
        name: The set's folder, for instance "Set5"; case does not matter, and "BSD100" and "BSDS100" mean "B100".
        scale: How many times smaller the low-resolution pictures are.

    Returns:
        Pairs without low-resolution pictures where the set has no folder of them at this scale. Where a single one is
        missing, its pair has the path that it was expected at.

    Raises:
        DataError: There is no such set, or it holds no picture.
    """
    hr, lr = benchmark_folders(root, name, scale=scale)
    hr_images = find_images(hr)
    if not _is_folder(lr):
        return [Pair(hr_name(path, scale=scale), hr=path) for path in hr_images]
    return pairs_in(hr_images, lr, scale=scale)


def pairs_in(hr: Sequence[Path], lr: Path, *, scale: int) -> list[Pair]:
    """Pair HR images with the low-resolution pictures of a folder.

    Args:
        hr: The HR images.
        lr: The folder.
        scale: How many times smaller its pictures are.

    Returns:
        A pair for each HR image; where its low-resolution picture is missing, with the path it was expected at.

    Raises:
        DataError: The folder does not exist or holds no picture.
    """
    names = {path: hr_name(path, scale=scale) for path in hr}
    smaller = match_pairs(hr, find_images(lr), scale=scale).pairs
    return [
        Pair(name, hr=path, lr=smaller.get(path, lr / f"{lr_names(name, scale=scale)[0]}{path.suffix}"))
        for path, name in names.items()
    ]


def benchmark_folders(root: Path, name: str, *, scale: int) -> tuple[Path, Path]:
    """Return the folder of a test set's HR images, and that of its low-resolution pictures, which may not exist.

    Args:
        root: The folder of all test sets.
        name: The set's folder, in any of the spellings that `benchmark_pairs` takes.
        scale: How many times smaller the low-resolution pictures are.

    Raises:
        DataError: There is no such set.
    """
    sets = {set_name(folder).casefold(): (hr, lr) for folder, hr, lr in reversed(list(_sets(root, scale)))}
    wanted = set_name(name).casefold()
    if wanted not in sets:
        known = benchmark_names(root, scale=scale)
        near = suggest(name, known)
        raise DataError(f"{printable_name(root)} holds no test set {name!r}{near}; there are {', '.join(known)}")
    return sets[wanted]


def _sets(root: Path, scale: int) -> Iterator[tuple[str, Path, Path]]:
    """Yield each set's folder name, the folder of its HR images, and where its low-resolution pictures belong."""
    if not _is_folder(root):
        raise DataError(f"{printable_name(root)} is not a folder; name the folder that holds the test sets")
    for folder in _folders(root):
        for hr, lr in (
            (folder / "HR", folder / "LR_bicubic" / f"X{scale}"),
            (_cut_hr_folder(folder, scale), folder / f"LRbicx{scale}"),
        ):
            if hr is not None and _is_folder(hr):
                yield folder.name, hr, lr
                break
    for folder in _folders(root / "HR"):
        if _is_folder(folder / f"x{scale}"):
            yield folder.name, folder / f"x{scale}", root / "LRBI" / folder.name / f"x{scale}"


def _cut_hr_folder(folder: Path, scale: int) -> Path | None:
    """Return the folder of HR images cut to multiples of the scale, or of a multiple of it (``GTmod12``)."""
    cuts = {int(found[1]): path for path in _folders(folder) if (found := re.fullmatch(r"GTmod([1-9]\d*)", path.name))}
    fitting = [cut for cut in cuts if cut % scale == 0]
    return cuts[min(fitting)] if fitting else None


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder; none where it does not exist."""
    if not _is_folder(folder):
        return []
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise DataError(f"{printable_name(folder)}: cannot be read ({error.strerror})") from None


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError as error:
        raise DataError(f"{printable_name(path)}: cannot be read ({error.strerror})") from None


def _remedy(root: Path) -> str:
    is_set = any((root / name).is_dir() for name in ("HR", "LR_bicubic")) or list(root.glob("GTmod*"))
    if is_set:
        return "it seems to be one itself: name the folder above it"
    return "known layouts are <Set>/HR, <Set>/GTmod12 and HR/<Set>/x4; --lr takes pictures without HR images"
