"""Jobs on many files: one report per file, in order, so that one file's failure does not end the batch."""

from __future__ import annotations

import os
import unicodedata
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Literal

from typing_extensions import TypeVar

from finescale.errors import DataError, FinescaleError, printable_name
from finescale.system.memory import is_out_of_memory
from finescale.system.places import Place, RemotePath
from finescale.system.threads import single_core_threads

T = TypeVar("T")
PlaceT = TypeVar("PlaceT", bound=Place, default=Path, covariant=True)
ReportT = TypeVar("ReportT", bound="FileReport[Any]")

Status = Literal["done", "kept", "left out", "failed"]
"""Results were made; all of them existed already; the file is of no use as it is; the job failed."""


@dataclass(frozen=True)
class FileReport(Generic[PlaceT]):
    """Outcome of the job on one input file."""

    input: PlaceT
    status: Status
    outputs: tuple[PlaceT, ...] = ()
    """The results, made now or kept."""
    reason: str | None = None
    """Why nothing was made."""
    notes: tuple[str, ...] = ()
    """What was given up on purpose, one sentence each."""

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "input": str(self.input),
            "status": self.status,
            "outputs": [str(path) for path in self.outputs],
            "reason": self.reason,
            "notes": list(self.notes),
        }


def guard(work: Callable[[], T], path: Place, *, report: type[ReportT], out_of_memory: str) -> T | ReportT:
    """Return the result of a job, or a failed report where it raises an error that concerns its file alone.

    Args:
        work: The job, or one step of it.
        path: The job's input.
        report: Class of the report.
        out_of_memory: Reason for the report where memory runs out; the path is put before it.
    """
    try:
        return work()
    except FinescaleError as error:
        return report(path, "failed", reason=str(error))
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return report(path, "failed", reason=f"{printable_name(path)}: {out_of_memory}")


def map_files(
    work: Callable[[Path], T], paths: Iterable[Path], *, workers: int = 1
) -> Generator[T | FileReport, None, None]:
    """Yield the result of some work for each file, in the order of the files, or a failed report.

    Workers are threads: the slow parts (decoding, encoding, arithmetic) run outside Python's lock, so threads are as
    fast as processes and start at once. At most ``2 * workers`` results wait to be taken. Closing the generator early
    waits for the files that have begun.

    Args:
        work: Called once per file, from several threads at a time.
        paths: The files.
        workers: Number of threads, at least 1.

    Raises:
        ValueError: ``workers`` is not positive.
    """
    if workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    return _map_files(work, paths, workers)


def _map_files(work: Callable[[Path], T], paths: Iterable[Path], workers: int) -> Generator[T | FileReport, None, None]:
    def guarded(path: Path) -> T | FileReport:
        return guard(
            partial(work, path), path, report=FileReport, out_of_memory="too little memory; take fewer workers"
        )

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


def collision_key(name: str | Path) -> str:
    """Return a key that is equal for names that some file system treats as one.

    Such file systems ignore case, or whether an accented letter is one character or two.
    """
    return unicodedata.normalize("NFC", str(name)).casefold()


def entry_keys() -> Callable[[Place], str]:
    """Return a function that returns equal keys for paths of one entry of a folder, or that `collision_key` makes one.

    Links among the folders are followed, each folder once; a link under the last name is an entry of its own. Remote
    places are told apart by every character.
    """
    real = cache(os.path.realpath)

    def key(path: Place) -> str:
        if isinstance(path, RemotePath):
            return path.address
        folder, name = os.path.split(path)
        return collision_key(os.path.join(real(folder), name))  # noqa: PTH118 - of thousands of paths

    return key


def find_namesakes(paths: Iterable[Path]) -> dict[Path, Path]:
    """Find files whose results would collide with those of an earlier file, such as ``cat.jpg`` after ``cat.png``.

    Returns:
        Each such file, and the earlier one.
    """
    first: dict[str, Path] = {}
    namesakes: dict[Path, Path] = {}
    for path in paths:
        earlier = first.setdefault(collision_key(path.stem), path)
        if earlier is not path:
            namesakes[path] = earlier
    return namesakes


def refuse_namesake(path: Path, namesakes: dict[Path, Path]) -> None:
    """Refuse a file that `find_namesakes` found.

    Raises:
        DataError: The file is one of them.
    """
    if path in namesakes:
        raise DataError(
            f"{printable_name(path)}: its results would have the same names as those of "
            f"{printable_name(namesakes[path])}; rename one of the two"
        )


def refuse_folders_of_inputs(outputs: Iterable[Path], inputs: Sequence[Path]) -> None:
    """Refuse to write into a folder that holds inputs.

    Args:
        outputs: Folders to be written to; they need not exist.
        inputs: The files that are read.

    Raises:
        ValueError: One of the folders holds one of the inputs.
    """
    sources = {os.path.realpath(path.parent) for path in inputs}
    for folder in outputs:
        if os.path.realpath(folder) in sources:
            raise ValueError(f"{printable_name(folder)} holds the originals; name another folder for the results")
