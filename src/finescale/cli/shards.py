"""The report file of one shard, for all verbs that take ``--shard``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finescale.cli import console
from finescale.errors import RemoteError
from finescale.system.places import Place
from finescale.system.shards import Shard, plan_of_shares, write_share_report

REPORT = "finescale-report.json"
"""Name of a report, into which the shard's number is put."""

_INTERVAL = 30.0  # seconds between two writings of a report


class ShareReport:
    """A report file that says from the start what the shard has to do.

    Args:
        path: The file; the number of one shard of several is put into its name.
        shard: The shard.
        shares: Inputs and results of each shard, by name.
    """

    def __init__(self, path: Place, shard: Shard, shares: Sequence[Sequence[tuple[str, str]]]) -> None:
        self._path = path if shard.count == 1 else path.with_name(f"{path.stem}.{shard.file_suffix}{path.suffix}")
        self._plan = plan_of_shares(shard, shares)
        self._written = 0.0
        self._write([], ())

    def add(self, files: Sequence[Mapping[str, Any]]) -> None:
        """Write the reports so far, now and then, since they are lost otherwise if the process is killed."""
        if time.monotonic() - self._written > _INTERVAL:
            try:
                self._write(files, ())
            except RemoteError as error:  # the last one counts
                console.say(f"report: {error}; the next one has all that is missing")
                self._written = time.monotonic()

    def end(self, files: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> None:
        """Write all reports of the shard."""
        self._write(files, notes)
        console.say(f"report: {self._path}")

    def _write(self, files: Sequence[Mapping[str, Any]], notes: Sequence[str]) -> None:
        if isinstance(self._path, Path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
        write_share_report(self._path, self._plan, files, notes)
        self._written = time.monotonic()
