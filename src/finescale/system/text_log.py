"""Text log of a run, with the time on each line, as users of BasicSR search it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from finescale.errors import DataError, printable_name


class TextLog:
    """Text file named after its run and the time of its beginning, such as ``train_mine_20261127_093000.log``.

    Each message is appended at once, as ``2026-11-27 09:30:00,250 INFO: message``.

    Args:
        folder: Folder of the run, which exists.
        name: What precedes the time in the file's name.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}_{datetime.now():%Y%m%d_%H%M%S}.log"

    def add(self, message: str) -> None:
        """Append a message.

        Raises:
            DataError: The file cannot be written.
        """
        now = datetime.now().isoformat(" ", timespec="milliseconds").replace(".", ",")
        try:
            with self.path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{now} INFO: {message}\n")
        except OSError as error:
            name = printable_name(self.path)
            raise DataError(f"{name}: cannot be written ({error.strerror}); free some space and resume") from None
