"""The field's test sets (Set5, Set14, ...) in the layouts in which they are passed around.

=============================================  ===================================================  ==============
originals                                      low-resolution pictures                              as published by
=============================================  ===================================================  ==============
``<root>/<Set>/HR/<name>.png``                 ``<root>/<Set>/LR_bicubic/X4/<name>x4.png``          EDSR, HiT-SR
``<root>/<Set>/GTmod4/<name>.png`` or GTmod12  ``<root>/<Set>/LRbicx4/<name>.png``                  BasicSR, DRCT
``<root>/HR/<Set>/x4/<name>_HR_x4.png``        ``<root>/LRBI/<Set>/x4/<name>_LRBI_x4.png``          RCAN, SPAN
=============================================  ===================================================  ==============

In each of them the names of the pictures may be those of any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from finescale.data.pairs import Pair, find_images, lr_names, match_pairs, name_of_original
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
"""Names of the papers' sets in lower case, and the one that tables print; in the order of the tables."""


def set_name(name: str) -> str:
    """What tables call a set, however it is spelt: "B100" for "bsd100"; other names are left as they are."""
    return _NAMES.get(name.casefold(), name)


def benchmark_names(root: Path, *, scale: int) -> list[str]:
    """The test sets below a folder that serve a scale, those of the papers first.

    Raises:
        DataError: There is none.
    """
    found = {set_name(name) for name, _, _ in _sets(root, scale)}
    if not found:
        raise DataError(f"{printable_name(root)} holds no test set; {_remedy(root)}")
    known = list(dict.fromkeys(_NAMES.values()))
    return sorted(found, key=lambda name: (known.index(name) if name in known else len(known), name.casefold()))


def benchmark_pairs(root: Path, name: str, *, scale: int) -> list[Pair]:
    """The pictures of one test set at one scale, in natural order.

    Originals may be uncut: a low-resolution picture belongs to the top left part that is a multiple of the scale.

    Args:
        root: The folder of all test sets.
        name: The set's folder, for instance "Set5"; case does not matter, and "BSD100" and "BSDS100" mean "B100".
        scale: 2, 3 or 4.

    Returns:
        Where the set has no folder of low-resolution pictures at this scale, pairs without them. Where a single one is
        missing, its pair has the name under which it was looked for.

    Raises:
        DataError: There is no such set, or it holds no picture.
    """
    hr, lr = benchmark_folders(root, name, scale=scale)
    originals = find_images(hr)
    names = {path: name_of_original(path, scale=scale) for path in originals}
    if not lr.is_dir():
        return [Pair(name, hr=path) for path, name in names.items()]
    smaller = match_pairs(originals, find_images(lr), scale=scale).pairs
    return [
        Pair(name, hr=path, lr=smaller.get(path, lr / f"{lr_names(name, scale=scale)[0]}{path.suffix}"))
        for path, name in names.items()
    ]


def benchmark_folders(root: Path, name: str, *, scale: int) -> tuple[Path, Path]:
    """The folder of a test set's originals, and that of its low-resolution pictures, which may not be there.

    Args:
        root: See `benchmark_pairs`.
        name: See `benchmark_pairs`.
        scale: 2, 3 or 4.

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
    """Each set's folder name, the folder of its originals, and where its low-resolution pictures belong."""
    if not root.is_dir():
        raise DataError(f"{printable_name(root)} is not a folder; name the one in which the test sets lie")
    for folder in _folders(root):
        for originals, smaller in (
            (folder / "HR", folder / "LR_bicubic" / f"X{scale}"),
            (_cut_originals(folder, scale), folder / f"LRbicx{scale}"),
        ):
            if originals is not None and originals.is_dir():
                yield folder.name, originals, smaller
                break
    for folder in _folders(root / "HR"):
        if (folder / f"x{scale}").is_dir():
            yield folder.name, folder / f"x{scale}", root / "LRBI" / folder.name / f"x{scale}"


def _cut_originals(folder: Path, scale: int) -> Path | None:
    """The folder of originals cut to multiples of the scale, or of a multiple of it (``GTmod12``)."""
    cuts = {int(found[1]): path for path in _folders(folder) if (found := re.fullmatch(r"GTmod([1-9]\d*)", path.name))}
    fitting = [cut for cut in cuts if cut % scale == 0]
    return cuts[min(fitting)] if fitting else None


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _remedy(root: Path) -> str:
    is_set = any((root / name).is_dir() for name in ("HR", "LR_bicubic")) or list(root.glob("GTmod*"))
    if is_set:
        return "it seems to be one itself: name the folder above it"
    return "known layouts are <Set>/HR, <Set>/GTmod12 and HR/<Set>/x4; --lr takes pictures without originals"
