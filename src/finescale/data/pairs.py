"""Which pictures of a folder belong to a data set, and which low-resolution picture belongs to which original."""

from __future__ import annotations

import re
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


def _natural(path: Path) -> tuple[list[str | int], str]:
    """Sorts runs of digits by their value; the name itself settles ``a1`` and ``a01``."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [int(part) if position % 2 else part for position, part in enumerate(parts)], path.name
