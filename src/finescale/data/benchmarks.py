"""The field's test sets (Set5, Set14, ...) in the layout in which they are passed around."""

from __future__ import annotations

from pathlib import Path

from finescale.data.pairs import Pair, find_images
from finescale.errors import DataError, printable_name


def benchmark_pairs(root: Path, name: str, *, scale: int) -> list[Pair]:
    """The pictures of one test set at one scale, in natural order.

    The layout is ``<root>/<name>/HR/<picture>.png`` and ``<root>/<name>/LR_bicubic/X<scale>/<picture>x<scale>.png``.
    Originals are uncut: a low-resolution picture belongs to the top left part that is a multiple of the scale.

    Args:
        root: The folder of all test sets.
        name: The set's folder, for instance "Set5".
        scale: 2, 3 or 4.

    Raises:
        DataError: The set or some of its low-resolution pictures are missing; all of them are named.
    """
    low = root / name / "LR_bicubic" / f"X{scale}"
    pairs = [Pair(hr.stem, hr=hr, lr=low / f"{hr.stem}x{scale}{hr.suffix}") for hr in find_images(root / name / "HR")]
    missing = [printable_name(pair.lr.name) for pair in pairs if pair.lr and not pair.lr.is_file()]
    if missing:
        raise DataError(f"{printable_name(low)} lacks {', '.join(missing)}; 'finescale prepare downsample' makes them")
    return pairs
