"""Search of folders and patterns that ends whatever links they hold, and that accounts for what it does not enter."""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from finescale.system.places import Place

_EVERY_DEPTH = "**"


def kind_of_entry(path: Path | str) -> str | None:
    """Return what a path is if it is not a file with content, such as "a named pipe"; None for a file.

    Raises:
        OSError: There is nothing under this path, or it may not be looked at.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - of thousands of entries
    except FileNotFoundError:
        if os.path.islink(path):  # noqa: PTH114
            return "a link to nothing"
        raise
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "a device")


_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


def is_folder(path: Path | str) -> bool:
    """Return whether a path is that of a folder; it is not where it may not be looked at."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises there


class Search:
    """Search below folders and by patterns; links to folders and hidden folders are not entered unless they are named.

    Attributes:
        links: The links to folders that were met.
        hidden: The hidden folders that were met.
        failures: What could not be searched, and why.
    """

    def __init__(self) -> None:
        self.links: dict[Path, None] = {}
        self.hidden: dict[Place, None] = {}
        self.failures: dict[Place, str] = {}

    def walk(
        self, folder: Path, *, recursive: bool = True, exclude: Path | None = None
    ) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
        """Yield a folder and those below it, each with its entries that are no folders; all by name, from the top.

        Args:
            folder: Where to begin.
            recursive: Also enter the folders below.
            exclude: A folder below that is not entered.
        """
        excluded = None if exclude is None else _identity(exclude)
        waiting = [str(folder)]
        while waiting:
            here = waiting.pop()
            others, below = [], []
            for entry, leads_on in self._entries(here):
                if not leads_on:
                    others.append(entry)
                elif recursive and (excluded is None or _identity(entry.path) != excluded):
                    if entry.name.startswith("."):
                        self.hidden[Path(entry.path)] = None
                    elif entry.is_symlink():
                        self.links[Path(entry.path)] = None
                    else:
                        below.append(entry.path)
            yield here, others
            waiting += reversed(below)

    def expand(self, pattern: str) -> list[Path]:
        """Return what a pattern of ``*``, ``?``, ``[]`` and ``**`` matches but folders, in order, each once.

        ``*`` matches no hidden name, and ``**`` any number of folders that are neither hidden nor links.
        """
        path = Path(pattern)
        parts = [part for part in path.parts if part != path.anchor]
        return [Path(match) for match in sorted(set(self._expand(path.anchor, parts)))]

    def _expand(self, base: str, parts: Sequence[str]) -> Iterator[str]:
        part, rest = parts[0], parts[1:]
        if part == _EVERY_DEPTH:
            while rest and rest[0] == _EVERY_DEPTH:
                rest = rest[1:]
            for folder, entries in self.walk(Path(base)):
                if rest:
                    yield from self._expand(folder, rest)
                else:
                    yield from (entry.path for entry in entries if not entry.name.startswith("."))
        elif not glob.has_magic(part):
            path = os.path.join(base, part)  # noqa: PTH118
            if rest:
                yield from self._expand(path, rest)
            elif self._exists(path) and not is_folder(path):
                yield path
        else:
            for entry, leads_on in self._entries(base):
                matches = fnmatch.fnmatch(entry.name, part) and (part.startswith(".") or not entry.name.startswith("."))
                if matches and leads_on == bool(rest):
                    path = os.path.join(base, entry.name)  # noqa: PTH118
                    yield from self._expand(path, rest) if rest else (path,)

    def _entries(self, folder: str) -> list[tuple[os.DirEntry[str], bool]]:
        """Return the entries of a folder by name, each with whether it is a folder or a link to one."""
        try:
            with os.scandir(folder or os.curdir) as found:
                return [(entry, _is_folder(entry)) for entry in sorted(found, key=lambda entry: entry.name)]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self.failures[Path(folder)] = f"cannot be searched ({error.strerror})"
            return []

    def _exists(self, path: str) -> bool:
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            self.failures[Path(path)] = f"cannot be read ({error.strerror})"
            return False
        return True


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or into a folder that may not be entered: reading it says so
        return False


def _identity(folder: Path | str) -> tuple[int, int] | None:
    """Return what is equal for two names of one folder; None where there is none."""
    try:
        facts = os.stat(folder)  # noqa: PTH116
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
