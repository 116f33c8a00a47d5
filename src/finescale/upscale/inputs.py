"""Image files to upscale, from the files, folders and patterns that a user names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from finescale.errors import printable_name
from finescale.images import READABLE_SUFFIXES
from finescale.images.formats import UNREADABLE_SUFFIXES
from finescale.upscale.report import UpscaleReport


@dataclass(frozen=True)
class InputImage:
    """An image file to upscale."""

    path: Path
    within: Path | None = None
    """Its folder relative to the folder that the user named; None where the user named the file itself."""


@dataclass(frozen=True)
class FoundInputs:
    """What files, folders and patterns stand for."""

    images: tuple[InputImage, ...]
    """The image files in order, each once."""
    failures: tuple[UpscaleReport, ...]
    """A failed report for each name that stands for no image."""
    skipped: tuple[str, ...]
    """A sentence for each folder that holds pictures in formats that are not read, or other files."""


def find_inputs(names: Iterable[str], *, recursive: bool = True, exclude: Path | None = None) -> FoundInputs:
    """Find the image files that are meant by files, folders and patterns.

    A file that is named itself is taken whatever its extension. From a folder the files with a known image extension
    are taken, in any case, except hidden ones. A name that exists is never read as a pattern.

    Args:
        names: Files, folders, and patterns with ``*``, ``?``, ``[]`` or ``**``.
        recursive: Also search the folders below the named ones.
        exclude: A folder to leave out of the search, such as that of the results.
    """
    images: dict[Path, InputImage] = {}
    failures: list[UpscaleReport] = []
    skipped: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            found, others = _search(path, recursive=recursive, exclude=exclude)
            skipped += _describe_skipped(path, others)
            if not found:
                failures.append(_failure(path, "no picture in this folder"))
        elif os.path.lexists(path):
            found = [InputImage(path)]
        else:
            found = [InputImage(Path(match)) for match in sorted(glob.glob(name, recursive=True))]  # noqa: PTH207
            found = [image for image in found if image.path.is_file()]
            if not found:
                reason = "no file matches this pattern" if glob.has_magic(name) else "no such file or folder"
                failures.append(_failure(path, reason))
        for image in found:
            images.setdefault(Path(os.path.abspath(image.path)), image)  # noqa: PTH100 - links are not resolved
    return FoundInputs(tuple(images.values()), tuple(failures), tuple(skipped))


def _failure(path: Path, reason: str) -> UpscaleReport:
    return UpscaleReport(path, "failed", reason=f"{printable_name(path)}: {reason}")


def _search(folder: Path, *, recursive: bool, exclude: Path | None) -> tuple[list[InputImage], list[str]]:
    """The images below a folder, and the names of its other files."""
    found, others = [], []
    for current, folders, files in os.walk(folder):
        here = Path(current)
        folders[:] = sorted(
            name
            for name in folders
            if recursive and not name.startswith(".") and not (exclude and _is_same(here / name, exclude))
        )
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in READABLE_SUFFIXES:
                found.append(InputImage(here / name, here.relative_to(folder)))
            else:
                others.append(name)
    return found, others


def _is_same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _describe_skipped(folder: Path, names: Sequence[str]) -> list[str]:
    """Return a sentence about pictures in formats that are not read, and one about other files, where there are any."""
    unread: list[str] = []
    others: list[str] = []
    for name in names:
        is_unread = not name.startswith(".") and Path(name).suffix.lower() in UNREADABLE_SUFFIXES
        (unread if is_unread else others).append(name)
    sentences = []
    if unread:
        pictures = "1 picture in a format" if len(unread) == 1 else f"{len(unread)} pictures in formats"
        sentences.append(f"{pictures} that finescale does not read ({_shown(unread)}); convert to TIFF or PNG first")
    if others:
        files = "1 file that is hidden or has" if len(others) == 1 else f"{len(others)} files that are hidden or have"
        sentences.append(f"{files} no image extension ({_shown(others)})")
    return [f"{printable_name(folder)}: skipped {sentence}" for sentence in sentences]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(printable_name(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
