"""Which pictures of a folder belong to a data set, and which low-resolution picture belongs to which original."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finescale.errors import DataError, printable_name
from finescale.images import READABLE_SUFFIXES


@dataclass(frozen=True)
class Pair:
    """An original and what it is to be restored from."""

    name: str
    """What reports call the picture: the original's file name without suffix."""
    hr: Path
    """The original."""
    lr: Path | None = None
    """The low-resolution picture; None where it is to be made by `finescale.resize.downsample`."""


def find_images(folder: Path) -> list[Path]:
    """The pictures that lie in a folder itself, hidden files left out, in natural order (``t2`` before ``t10``).

    Raises:
        DataError: The folder does not exist or holds no picture.
    """
    if not folder.is_dir():
        raise DataError(f"{printable_name(folder)} is not a folder; name the one in which the pictures lie")
    files = (path for path in folder.iterdir() if path.suffix.lower() in READABLE_SUFFIXES and path.name[0] != ".")
    images = sorted((path for path in files if path.is_file()), key=_natural)
    if not images:
        raise DataError(
            f"{printable_name(folder)} holds no picture; known endings: {', '.join(sorted(READABLE_SUFFIXES))}"
        )
    return images


def find_pairs(folder: Path) -> list[Pair]:
    """One pair per picture of a folder of originals, without low-resolution files.

    Raises:
        DataError: The folder does not exist or holds no picture.
    """
    return [Pair(path.stem, hr=path) for path in find_images(folder)]


@dataclass(frozen=True)
class Matching:
    """Which pictures of two folders belong together."""

    pairs: dict[Path, Path]
    """Originals and their low-resolution pictures."""
    without_lr: tuple[Path, ...]
    """Originals that lack one."""
    without_hr: tuple[Path, ...]
    """Low-resolution pictures that belong to no original."""


def name_of_original(path: Path, *, scale: int) -> str:
    """What a picture is called: its file name without ending, and without the one that some test sets add."""
    return path.stem.removesuffix(f"_HR_x{scale}")


def lr_names(name: str, *, scale: int) -> tuple[str, str, str]:
    """Under which names, without ending, the low-resolution picture of ``bird`` may lie; the likeliest first."""
    return f"{name}x{scale}", f"{name}_LRBI_x{scale}", name


def match_pairs(hr: Sequence[Path], lr: Sequence[Path], *, scale: int) -> Matching:
    """Pair originals with low-resolution pictures by their names, see `lr_names`.

    Args:
        hr: The originals.
        lr: The low-resolution pictures.
        scale: How many times smaller they are.
    """
    by_stem: dict[str, Path] = {}
    for path in lr:
        by_stem.setdefault(path.stem, path)
    found = {}
    for path in hr:
        names = lr_names(name_of_original(path, scale=scale), scale=scale)
        found[path] = next((by_stem[name] for name in names if name in by_stem), None)
    used = set(found.values())
    return Matching(
        pairs={high: low for high, low in found.items() if low is not None},
        without_lr=tuple(high for high, low in found.items() if low is None),
        without_hr=tuple(path for path in lr if path not in used),
    )


def mismatch(lr: tuple[int, int], hr: tuple[int, int], *, scale: int) -> str | None:
    """What is wrong with the size (height, width) of a low-resolution picture, or None.

    Originals may be uncut: the low-resolution picture belongs to the top left part that is a multiple of the scale.
    """
    expected = hr[0] // scale, hr[1] // scale
    if lr == expected:
        return None
    return (
        f"{lr[1]} x {lr[0]} pixels, where {expected[1]} x {expected[0]} belong to an original of {hr[1]} x {hr[0]} "
        f"at scale {scale}"
    )


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sorts runs of digits by their value; the name itself settles ``a1`` and ``a01``."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [int(part) if position % 2 else part for position, part in enumerate(parts)], path.name
