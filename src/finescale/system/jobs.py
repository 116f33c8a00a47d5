"""Work on many pictures at once: one report for each, in order, and no picture's failure ends it."""

from __future__ import annotations

import os
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeVar

from finescale.errors import DataError, FinescaleError, printable_name
from finescale.system.threads import single_core_threads

T = TypeVar("T")


@dataclass(frozen=True)
class FileReport:
    """What became of one picture."""

    input: Path
    """The picture."""
    status: Literal["done", "kept", "left out", "failed"]
    """Results were made; all of them existed already; the picture is no use as it is; something is wrong with it."""
    outputs: tuple[Path, ...] = ()
    """The results, made now or kept."""
    reason: str | None = None
    """Why nothing was made."""
    notes: tuple[str, ...] = ()
    """What was given up on purpose."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "input": str(self.input),
            "status": self.status,
            "outputs": [str(path) for path in self.outputs],
            "reason": self.reason,
            "notes": list(self.notes),
        }


def map_files(
    work: Callable[[Path], T], paths: Iterable[Path], *, workers: int = 1
) -> Generator[T | FileReport, None, None]:
    """What some work makes of each file, in the order of the files; where it fails, a report that says why.

    Workers are threads: what takes time (decoding, encoding, arithmetic) runs outside Python's lock, and threads are as
    fast as processes without their start. Few results wait to be taken. Closed early, it waits for what has begun.

    Args:
        work: Called once per file, from several threads at a time.
        paths: The files.
        workers: How many threads, at least 1.

    Raises:
        ValueError: ``workers`` is not positive.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    return _map_files(work, paths, workers)


def _map_files(work: Callable[[Path], T], paths: Iterable[Path], workers: int) -> Generator[T | FileReport, None, None]:
    def guarded(path: Path) -> T | FileReport:
        try:
            return work(path)
        except FinescaleError as error:
            return FileReport(path, "failed", reason=str(error))
        except MemoryError:
            return FileReport(path, "failed", reason=f"{printable_name(path)}: too little memory; take fewer workers")

    remaining = iter(paths)
    pool = single_core_threads(workers, "files")
    waiting: deque[Future[T | FileReport]] = deque()
    try:
        while True:
            waiting.extend(pool.submit(guarded, path) for path in islice(remaining, 2 * workers - len(waiting)))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def find_namesakes(paths: Iterable[Path]) -> dict[Path, Path]:
    """Pictures whose results would have the names of an earlier picture's, as of ``cat.png`` those of ``cat.jpg``.

    Returns:
        Each such picture, and the earlier one.
    """
    first: dict[str, Path] = {}
    namesakes: dict[Path, Path] = {}
    for path in paths:
        # Some file systems hold names to be the same that differ in case or in how letters are composed.
        earlier = first.setdefault(unicodedata.normalize("NFC", path.stem).casefold(), path)
        if earlier is not path:
            namesakes[path] = earlier
    return namesakes


def refuse_namesake(path: Path, namesakes: dict[Path, Path]) -> None:
    """Refuse a picture that `find_namesakes` found.

    Raises:
        DataError: It is one of them.
    """
    if path in namesakes:
        raise DataError(
            f"{printable_name(path)}: its results would have the names of those of {printable_name(namesakes[path])}; "
            "rename one of the two"
        )


def refuse_folders_of_inputs(outputs: Iterable[Path], inputs: Sequence[Path]) -> None:
    """Refuse to write where originals lie.

    Args:
        outputs: Folders to be written to; they need not exist.
        inputs: The pictures that are read.

    Raises:
        ValueError: One of the folders holds one of the pictures.
    """
    sources = {os.path.realpath(path.parent) for path in inputs}
    for folder in outputs:
        if os.path.realpath(folder) in sources:
            raise ValueError(f"{printable_name(folder)} holds the originals; name another folder for what is made")
