"""Folder of a training: of one process at a time, and its files written or refused in one sentence."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from finescale.errors import CheckpointError, DataError, printable_name
from finescale.system.lock import exclusive

logger = logging.getLogger("finescale.train")

_LOCK = ".lock"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Create the folder of a training where it does not exist, and keep other trainings out while the block runs.

    Two trainings in one folder would overwrite each other's checkpoints and metrics. What is created here and still
    empty at the end is deleted again.

    Raises:
        CheckpointError: Another training runs in the folder.
        DataError: The folder cannot be created or written to.
    """
    made: list[Path] = []
    name = printable_name(folder)
    try:
        with ExitStack() as stack:
            with writing(folder):
                made += [path for path in (folder, *folder.parents) if not path.exists()]
                folder.mkdir(parents=True, exist_ok=True)
                try:
                    is_held = stack.enter_context(exclusive(folder / _LOCK))
                except BlockingIOError:
                    raise CheckpointError(
                        f"{name}: another process is training in this folder; wait for its end, or choose another name"
                    ) from None
            if not is_held:
                logger.warning("%s: its file system has no locks; start no second training of this name", name)
            yield
    finally:
        for path in made:
            with suppress(OSError):  # it is no longer empty, or was never created
                path.rmdir()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the operating system within the block into one sentence about a file or folder.

    Raises:
        DataError: The block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space and resume" if is_full else "choose another output or name"
        raise DataError(f"{printable_name(path)}: cannot be written ({error.strerror or error}); {remedy}") from None


def check_space(folder: Path, num_bytes: int) -> None:
    """Refuse a folder on a disk with less free space than this.

    Raises:
        DataError: There is less.
    """
    with writing(folder):
        disk = shutil.disk_usage(folder)
    if disk.total and disk.free < num_bytes:
        raise DataError(
            f"{printable_name(folder)}: a checkpoint and the weights take more than {num_bytes / 2**20:.1f} MiB, but "
            f"{disk.free / 2**20:.1f} MiB are free; free some space, or choose another output"
        )
