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
from finescale.system.jobs import entry_keys
from finescale.system.search import Search, is_folder, kind_of_entry
from finescale.upscale.report import UpscaleReport


@dataclass(frozen=True)
class InputImage:
    """An image file to upscale."""

    path: Path
    within: Path | None = None
    """Its folder relative to the folder that the user named; None where the user named no folder."""
    by_pattern: bool = False
    """Whether a pattern matched it."""

    @property
    def is_named(self) -> bool:
        """Whether the user named the file itself, instead of a folder or a pattern."""
        return self.within is None and not self.by_pattern


@dataclass(frozen=True)
class FoundInputs:
    """What files, folders and patterns stand for."""

    images: tuple[InputImage, ...]
    """The image files in order, each once."""
    failures: tuple[UpscaleReport, ...]
    """A failed report for each name that stands for no image, and for what could not be searched or is no file."""
    skipped: tuple[str, ...]
    """A sentence each on pictures in formats that are not read, other files, and folders that were not searched."""


def find_inputs(names: Iterable[str], *, recursive: bool = True, exclude: Path | None = None) -> FoundInputs:
    """Find the image files that are meant by files, folders and patterns.

    A file that is named itself is taken whatever its extension. From a folder the files with a known image extension
    are taken, in any case, except hidden ones. A name that exists is never read as a pattern. Hidden folders, and links
    to folders, which may lead in circles, are searched only where they are named.

    Args:
        names: Files, folders, and patterns with ``*``, ``?``, ``[]`` or ``**``.
        recursive: Also search the folders below the named ones.
        exclude: A folder to leave out of the search, such as that of the results.
    """
    images: dict[tuple[str, tuple[int, int] | None], InputImage] = {}
    entry_key = entry_keys()
    failures: list[UpscaleReport] = []
    skipped: list[str] = []
    for name in names:
        search = Search()
        found, others, failed = _meant_by(name, search, recursive=recursive, exclude=exclude)
        failed |= search.failures
        skipped += _describe_skipped(name, others, [*search.links, *search.hidden])
        failures += (_failure(path, reason) for path, reason in failed.items())
        if not found and not failed:
            failures.append(_failure(Path(name), _reason_of_nothing(name)))
        for image in found:
            # Of two names that differ in case, some file systems make one file and others two.
            images.setdefault((entry_key(image.path), _identity(image.path)), image)
    return FoundInputs(tuple(images.values()), tuple(failures), tuple(skipped))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return what tells a file or link from all others of this machine; None where it cannot be asked for.

    That is a file that is gone meanwhile, or whose folder was closed: reading it reports so.
    """
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _failure(path: Path, reason: str) -> UpscaleReport:
    return UpscaleReport(path, "failed", reason=f"{printable_name(path)}: {reason}")


def _reason_of_nothing(name: str) -> str:
    if is_folder(name):
        return "no picture in this folder"
    return "no file matches this pattern" if glob.has_magic(name) else "no such file or folder"


def _meant_by(
    name: str, search: Search, *, recursive: bool, exclude: Path | None
) -> tuple[list[InputImage], list[str], dict[Path, str]]:
    """Return the images that a name stands for, the names of other files in a folder, and what is no file."""
    path = Path(name)
    reason = _reason_against(path)
    if reason is None:
        return [InputImage(path)], [], {}
    if is_folder(path):
        return _in_folder(path, search.walk(path, recursive=recursive, exclude=exclude))
    if reason != _MISSING:
        return [], [], {path: reason}
    if not glob.has_magic(name):
        return [], [], {}
    matches = {match: _reason_against(match) for match in search.expand(name)}
    images = [InputImage(match, by_pattern=True) for match, reason in matches.items() if reason is None]
    return images, [], {match: reason for match, reason in matches.items() if reason is not None}


def _in_folder(
    top: Path, folders: Iterable[tuple[str, list[os.DirEntry[str]]]]
) -> tuple[list[InputImage], list[str], dict[Path, str]]:
    images: list[InputImage] = []
    others: list[str] = []
    failed: dict[Path, str] = {}
    for folder, entries in folders:
        within = Path(folder).relative_to(top)
        if any(_holds_tiles(top / parent) for parent in (within, *within.parents)):
            continue
        for entry in entries:
            if entry.name.startswith(".") or Path(entry.name).suffix.lower() not in READABLE_SUFFIXES:
                others.append(entry.name)
            elif entry.is_file(follow_symlinks=False) or (reason := _reason_against(Path(entry.path))) is None:
                images.append(InputImage(Path(entry.path), within))
            else:
                failed[Path(entry.path)] = reason
    return images, others, failed


def _holds_tiles(folder: Path) -> bool:
    """Return whether a folder belongs to a DZI file beside it."""
    stem = folder.name.removesuffix("_files")
    return stem != folder.name and folder.with_name(f"{stem}.dzi").is_file()


_MISSING = "no such file or folder"


def _reason_against(path: Path) -> str | None:
    """Return why a path is not that of a file; None if it is."""
    try:
        kind = kind_of_entry(path)
    except (FileNotFoundError, NotADirectoryError):
        return _MISSING
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if kind is None else f"is {kind}, not a file"


def _describe_skipped(name: str, files: Sequence[str], folders: Sequence[Path]) -> list[str]:
    """Return a sentence each on pictures that are not read, on other files, and on folders that were not searched."""
    unread: list[str] = []
    others: list[str] = []
    for file in files:
        is_unread = not file.startswith(".") and Path(file).suffix.lower() in UNREADABLE_SUFFIXES
        (unread if is_unread else others).append(file)
    sentences = []
    if unread:
        pictures = "1 picture in a format" if len(unread) == 1 else f"{len(unread)} pictures in formats"
        sentences.append(f"{pictures} that finescale does not read ({_shown(unread)}); convert to TIFF or PNG first")
    if others:
        count = "1 file that is hidden or has" if len(others) == 1 else f"{len(others)} files that are hidden or have"
        sentences.append(f"{count} no image extension ({_shown(others)})")
    if folders:
        count = "1 folder that is" if len(folders) == 1 else f"{len(folders)} folders that are"
        shown = _shown([str(folder) for folder in folders])
        sentences.append(f"{count} hidden or a link ({shown}); name it to search it")
    return [f"{printable_name(Path(name))}: skipped {sentence}" for sentence in sentences]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(printable_name(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
