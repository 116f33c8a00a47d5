"""Pictures of a folder, and the pairing of HR images with their low-resolution pictures by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finescale.errors import DataError, printable_name
from finescale.images import READABLE_SUFFIXES


@dataclass(frozen=True)
class Pair:
    """An HR image and its low-resolution picture."""

    name: str
    """Name of the pair in reports: the HR image's file name without suffix."""
    hr: Path
    """The HR image."""
    lr: Path | None = None
    """The low-resolution picture; None: `finescale.resize.downsample` makes it."""


def find_images(folder: Path) -> list[Path]:
    """List the pictures directly in a folder, without hidden files, in natural order (``t2`` before ``t10``).

    Raises:
        DataError: The folder does not exist, cannot be read, or holds no picture.
    """
    try:
        if not folder.is_dir():
            raise DataError(f"{printable_name(folder)} is not a folder; name the folder that holds the pictures")
        files = (path for path in folder.iterdir() if path.suffix.lower() in READABLE_SUFFIXES and path.name[0] != ".")
        images = sorted((path for path in files if path.is_file()), key=_natural)
    except OSError as error:
        raise DataError(f"{printable_name(folder)}: cannot be read ({error.strerror})") from None
    if not images:
        raise DataError(
            f"{printable_name(folder)} holds no picture; known suffixes: {', '.join(sorted(READABLE_SUFFIXES))}"
        )
    return images


def find_pairs(folder: Path) -> list[Pair]:
    """Make one pair per picture of a folder of HR images, without low-resolution files.

    Raises:
        DataError: The folder does not exist or holds no picture.
    """
    return [Pair(path.stem, hr=path) for path in find_images(folder)]


@dataclass(frozen=True)
class Matching:
    """Result of pairing the pictures of two folders."""

    pairs: dict[Path, Path]
    """HR images and their low-resolution pictures."""
    without_lr: tuple[Path, ...]
    """HR images without a low-resolution picture."""
    without_hr: tuple[Path, ...]
    """Low-resolution pictures without an HR image."""


def hr_name(path: Path, *, scale: int) -> str:
    """Return the name of an HR image: its file name without suffix, and without the ending that some test sets add."""
    return path.stem.removesuffix(f"_HR_x{scale}")


def lr_names(name: str, *, scale: int) -> tuple[str, str, str]:
    """Return the names, without suffix, that the low-resolution picture of ``bird`` may have; the likeliest first."""
    return f"{name}x{scale}", f"{name}_LRBI_x{scale}", name


def match_pairs(hr: Sequence[Path], lr: Sequence[Path], *, scale: int) -> Matching:
    """Pair HR images with low-resolution pictures by the names that `lr_names` gives.

    Args:
        hr: The HR images.
        lr: The low-resolution pictures.
        scale: How many times smaller they are.
    """
    by_stem: dict[str, Path] = {}
    for path in lr:
        by_stem.setdefault(path.stem, path)
    found = {}
    for path in hr:
        names = lr_names(hr_name(path, scale=scale), scale=scale)
        found[path] = next((by_stem[name] for name in names if name in by_stem), None)
    used = set(found.values())
    return Matching(
        pairs={high: low for high, low in found.items() if low is not None},
        without_lr=tuple(high for high, low in found.items() if low is None),
        without_hr=tuple(path for path in lr if path not in used),
    )


def mismatch(lr: tuple[int, int], hr: tuple[int, int], *, scale: int) -> str | None:
    """Return what is wrong with the size (height, width) of a low-resolution picture, or None.

    HR images may be uncut: the low-resolution picture belongs to the top left part that is a multiple of the scale.
    """
    expected = hr[0] // scale, hr[1] // scale
    if lr == expected:
        return None
    return (
        f"{lr[1]} x {lr[0]} pixels, where an HR image of {hr[1]} x {hr[0]} needs {expected[1]} x {expected[0]} at "
        f"scale {scale}"
    )


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sort key that compares runs of digits by value; the name itself orders ``a1`` and ``a01``."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [int(part) if position % 2 else part for position, part in enumerate(parts)], path.name
