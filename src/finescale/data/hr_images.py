"""HR images as data sets hold them: 8 bits, gray or RGB, without transparency."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from finescale.data.pairs import find_images
from finescale.errors import ImageWriteError, printable_name
from finescale.images import read_image, write_image
from finescale.resize import round_half_up


@dataclass(frozen=True, eq=False)
class HRImage:
    """A picture of a data set, decoded."""

    path: Path
    """Its file."""
    levels: Tensor
    """(1 or 3, H, W), uint8; gray stays one channel."""
    notes: tuple[str, ...] = ()
    """What reading dropped deliberately, one sentence each."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.levels.shape[1], self.levels.shape[2]


def find_hr_images(folders: Iterable[Path]) -> list[Path]:
    """List the pictures of some folders, folder by folder, each in natural order; a folder named twice counts once.

    Raises:
        DataError: A folder does not exist or holds no picture.
    """
    return list(dict.fromkeys(path for folder in folders for path in find_images(folder)))


def read_hr_image(path: Path) -> HRImage:
    """Read a picture as training and testing take it: 16 bits are rounded to 8, transparency is dropped.

    Raises:
        ImageReadError: The file cannot be read, or is not a picture.
    """
    image = read_image(path)
    notes = list(image.notes)
    if image.depth > 8:
        notes.append(f"rounded from {image.depth} to 8 bits")
    if image.alpha is not None:
        notes.append("transparency is dropped")
    return HRImage(path, round_half_up(image.pixels * 255), tuple(notes))


def write_levels(path: Path, levels: Tensor) -> None:
    """Write 8-bit pixels as a PNG file, and create its folder where it does not exist.

    Args:
        path: File ending in ``.png``; an existing one is replaced.
        levels: (1 or 3, H, W), uint8.

    Raises:
        ImageWriteError: The folder cannot be created, or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImageWriteError(f"{printable_name(path.parent)}: cannot be created ({error.strerror})") from None
    write_image(path, levels / 255)


def as_text(size: tuple[int, int]) -> str:
    """Format a (height, width) as "width x height"."""
    height, width = size
    return f"{width} x {height}"
