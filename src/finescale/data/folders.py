"""Guards of output folders: no folder mixes results of different settings, and no other files are overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finescale.errors import DataError, printable_name
from finescale.settings import shortened
from finescale.system.files import TEMPORARY_PREFIX, sweep_temporaries, whole_file

_LONGEST_NAME = 255
"""Bytes of the longest name of a file or folder on common file systems."""

_MARK = ".finescale.json"  # hidden, since some programs take every other file of a folder for a picture


def mistake_in_name(name: str) -> str | None:
    """Return why a file or folder of results cannot have a name, or None: it would be elsewhere, or is too long."""
    if name in ("", ".", "..") or Path(name).name != name:
        return "must be a name without folders"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        return f"must have at most {_LONGEST_NAME} bytes"
    return None


def check_name(name: str, *, what: str) -> None:
    """Refuse a name that `mistake_in_name` finds wrong.

    Args:
        name: The name.
        what: What has this name, for the message.

    Raises:
        ValueError: It is empty, contains folders, or is too long.
    """
    if mistake := mistake_in_name(name):
        raise ValueError(f"{what} {mistake}, got {shortened(name)}")


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Record in a folder how its files are made, or refuse one whose files were made otherwise.

    Existing results are kept, so that work can go on where it stopped. With other settings it would leave a folder that
    mixes files made in two ways. A folder in which nothing was made yet takes other settings.

    Args:
        folder: Folder of results; created where it does not exist.
        settings: All that determines the results, as plain values.

    Raises:
        DataError: The folder was filled with other settings, or cannot be written to.
    """
    mark = folder / _MARK
    name = printable_name(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        before = json.loads(mark.read_text(encoding="utf-8")) if mark.exists() else None
        if before != settings and (before is None or _is_unused(folder)):
            with whole_file(mark) as file:
                file.write(json.dumps(settings, indent=2).encode())
            return
    except OSError as error:
        raise DataError(f"{name}: cannot be written to ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise DataError(f"{printable_name(mark)}: damaged; delete {name} and redo it") from None
    if before != settings:
        raise DataError(
            f"{name} was made with {_as_text(before)}, not with {_as_text(settings)}; name another folder or delete "
            "this one"
        )


def may_be_replaced(folder: Path, *, ours: Sequence[str]) -> bool:
    """Return whether a folder that is only ever written as a whole exists already.

    Args:
        folder: The folder.
        ours: Names of the files that such a folder may hold; it always holds the first.

    Returns:
        True where it exists; False where it does not, or is empty.

    Raises:
        DataError: It holds other files, is not a folder, or cannot be read.
    """
    try:
        sweep_temporaries(folder.parent)  # which puts back a folder whose replacement was killed
        if not folder.exists():
            return False
        if not folder.is_dir():
            raise DataError(f"{printable_name(folder)} is a file; name a new folder")
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise DataError(f"{printable_name(folder)}: cannot be used ({error.strerror}); name another folder") from None
    others = [name for name in names if name not in ours]
    if others or (names and ours[0] not in names):
        shown = ", ".join(printable_name(name) for name in (others or names)[:3])
        raise DataError(f"{printable_name(folder)} holds other files ({shown}); name a new folder")
    return bool(names)


def _is_unused(folder: Path) -> bool:
    """Return whether a folder holds nothing but its mark and what `whole_file` has not completed."""
    return all(path.name == _MARK or path.name.startswith(TEMPORARY_PREFIX) for path in folder.iterdir())


def _as_text(settings: Any) -> str:
    if not isinstance(settings, Mapping):
        return shortened(settings)
    return ", ".join(f"{name} {value}" for name, value in settings.items())
