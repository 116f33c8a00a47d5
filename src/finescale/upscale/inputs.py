"""Image files to upscale, from the files, folders and patterns that a user names."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from finescale.errors import RemoteError, printable_name
from finescale.images import READABLE_SUFFIXES
from finescale.images.formats import UNREADABLE_SUFFIXES
from finescale.system.jobs import entry_keys
from finescale.system.places import Place, RemotePath, place_of
from finescale.system.remote import ListedFile, expand_pattern, is_pattern, kind_of_place, list_folder
from finescale.system.search import Search, is_folder, kind_of_entry
from finescale.upscale.report import UpscaleReport


@dataclass(frozen=True)
class InputImage:
    """An image file to upscale."""

    path: Place
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


def find_inputs(names: Iterable[str], *, recursive: bool = True, exclude: Place | None = None) -> FoundInputs:
    """Find the image files that are meant by files, folders and patterns, here or at remote places.

    A file that is named itself is taken whatever its extension. From a folder the files with a known image extension
    are taken, in any case, except hidden ones. A name that exists is never read as a pattern. Hidden folders, and links
    to folders, which may lead in circles, are searched only where they are named. An address of the web is one file.

    Args:
        names: Files, folders, and patterns with ``*``, ``?``, ``[]`` or ``**``; paths, or URLs that fsspec knows.
        recursive: Also search the folders below the named ones.
        exclude: A folder to leave out of the search, such as that of the results.

    Raises:
        ValueError: A name is a chain of URLs.
        MissingExtraError: A name is a URL, and a package for its kind is missing.
    """
    images: dict[tuple[str, tuple[int, int] | None], InputImage] = {}
    entry_key = entry_keys()
    failures: list[UpscaleReport] = []
    skipped: list[str] = []
    for name in names:
        search = Search()
        place = place_of(name)
        found, others, failed = _meant_by(place, search, recursive=recursive, exclude=exclude)
        failed |= search.failures
        skipped += _describe_skipped(place, others, [*search.links, *search.hidden])
        failures += (_failure(path, reason) for path, reason in failed.items())
        if not found and not failed:
            failures.append(_failure(place, _reason_of_nothing(place)))
        for image in found:
            # Of two names that differ in case, some file systems make one file and others two.
            images.setdefault((entry_key(image.path), _identity(image.path)), image)
    return FoundInputs(tuple(images.values()), tuple(failures), tuple(skipped))


def _identity(path: Place) -> tuple[int, int] | None:
    """Return what tells a file or link from all others of this machine; None where it cannot be asked for.

    That is a remote file, or one that is gone meanwhile, or whose folder was closed: reading it reports so.
    """
    if isinstance(path, RemotePath):
        return None
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _failure(path: Place, reason: str) -> UpscaleReport:
    return UpscaleReport(path, "failed", reason=f"{printable_name(path)}: {reason}")


def _reason_of_nothing(place: Place) -> str:
    if isinstance(place, RemotePath):
        return "no file matches this pattern" if is_pattern(place) else "no picture in this folder"
    if is_folder(place):
        return "no picture in this folder"
    return "no file matches this pattern" if glob.has_magic(str(place)) else _MISSING


_Meaning: TypeAlias = tuple[list[InputImage], list[str], dict[Place, str]]
"""The images that a name stands for, the names of other files in a folder, and what is no file, with the reason."""


def _meant_by(place: Place, search: Search, *, recursive: bool, exclude: Place | None) -> _Meaning:
    if isinstance(place, RemotePath):
        try:
            return _meant_by_remote(place, search, recursive=recursive, exclude=exclude)
        except RemoteError as error:
            return [], [], {place: str(error).removeprefix(f"{printable_name(place)}: ")}
    reason = _reason_against(place)
    if reason is None:
        return [InputImage(place)], [], {}
    if is_folder(place):
        excluded = exclude if isinstance(exclude, Path) else None
        return _in_folder(place, search.walk(place, recursive=recursive, exclude=excluded))
    if reason != _MISSING:
        return [], [], {place: reason}
    if not glob.has_magic(str(place)):
        return [], [], {}
    matches = {match: _reason_against(match) for match in search.expand(str(place))}
    images = [InputImage(match, by_pattern=True) for match, reason in matches.items() if reason is None]
    return images, [], {match: reason for match, reason in matches.items() if reason is not None}


def _in_folder(top: Path, folders: Iterable[tuple[str, list[os.DirEntry[str]]]]) -> _Meaning:
    images: list[InputImage] = []
    others: list[str] = []
    failed: dict[Place, str] = {}
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


def _meant_by_remote(place: RemotePath, search: Search, *, recursive: bool, exclude: Place | None) -> _Meaning:
    """Return what a URL stands for, by the rules for paths; folders that are left out are noted in the search."""
    if place.is_web:
        return ([InputImage(place)], [], {}) if place.name else ([], [], {place: "names no file of this server"})
    kind = kind_of_place(place)
    if kind == "file":
        return [InputImage(place)], [], {}
    if kind == "folder":
        return _in_remote_folder(place, list_folder(place, recursive=recursive), search, exclude)
    if not is_pattern(place):
        return [], [], {place: _MISSING}
    return [InputImage(file.place, by_pattern=True) for file in expand_pattern(place)], [], {}


def _in_remote_folder(top: RemotePath, files: Sequence[ListedFile], search: Search, exclude: Place | None) -> _Meaning:
    images: list[InputImage] = []
    others: list[str] = []
    failed: dict[Place, str] = {}
    viewers = {file.relative.removesuffix(".dzi") for file in files if file.relative.endswith(".dzi")}
    excluded = f"{exclude.address.rstrip('/')}/" if isinstance(exclude, RemotePath) else None

    def is_left_out(place: RemotePath, parents: Sequence[str]) -> bool:
        if excluded is not None and place.address.startswith(excluded):
            return True
        return any(parent.endswith("_files") and parent.removesuffix("_files") in viewers for parent in parents)

    by_folder = [(tuple(file.relative.split("/")), file.place) for file in files]
    for (*folders, name), place in sorted(by_folder, key=lambda pair: (pair[0][:-1], pair[0][-1])):
        parents = ["/".join(folders[: depth + 1]) for depth in range(len(folders))]
        hidden = next((parent for folder, parent in zip(folders, parents, strict=True) if folder.startswith(".")), None)
        if _UNSAFE.search("/".join((*folders, name))):
            failed[place] = "its key is not a path that results could mirror; name it itself"
        elif hidden is not None:
            search.hidden[top / hidden] = None
        elif is_left_out(place, parents):
            continue
        elif name.startswith(".") or Path(name).suffix.lower() not in READABLE_SUFFIXES:
            others.append(name)
        else:
            images.append(InputImage(place, Path(*folders)))
    return images, others, failed


_UNSAFE = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\\\0]")
"""Parts of a key that would lead out of a folder, or that no folder can have."""


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


def _describe_skipped(place: Place, files: Sequence[str], folders: Sequence[Place]) -> list[str]:
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
    return [f"{printable_name(place)}: skipped {sentence}" for sentence in sentences]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(printable_name(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
