"""Guards of output folders: no folder mixes results of different settings, and no other files are overwritten."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finescale.errors import DataError, printable_name
from finescale.system.files import sweep_temporaries, whole_file

_MARK = ".finescale.json"  # hidden, since some programs take every other file of a folder for a picture


def claim_folder(folder: Path, settings: Mapping[str, Any]) -> None:
    """Record in a folder how its files are made, or refuse one whose files were made otherwise.

    Existing results are kept, so that work can go on where it stopped. With other settings it would leave a folder that
    mixes files made in two ways.

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
        if not mark.exists():
            with whole_file(mark) as file:
                file.write(json.dumps(settings, indent=2).encode())
            return
        before = json.loads(mark.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{name}: cannot be written to ({error.strerror})") from None
    except ValueError:
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
        DataError: It holds other files, or is not a folder.
    """
    sweep_temporaries(folder.parent)  # which puts back a folder whose replacement was killed
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise DataError(f"{printable_name(folder)} is a file; name a new folder")
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name not in ours]
    if others or (names and ours[0] not in names):
        shown = ", ".join(printable_name(name) for name in (others or names)[:3])
        raise DataError(f"{printable_name(folder)} holds other files ({shown}); name a new folder")
    return bool(names)


def _as_text(settings: Any) -> str:
    if not isinstance(settings, Mapping):
        return repr(settings)
    return ", ".join(f"{name} {value}" for name, value in settings.items())
