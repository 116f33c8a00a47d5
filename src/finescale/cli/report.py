"""``finescale report``: reports of the shards of one job, as one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from finescale.cli import console, options

app = typer.Typer(help="Join the reports of shards.", rich_markup_mode=None)

_SHOWN = 20
"""Missing inputs that are named on standard error; the report has all of them."""


@app.callback()
def _report() -> None:
    """Join the reports of shards."""


@app.command()
def merge(
    reports: Annotated[
        list[Path], typer.Argument(metavar="REPORT...", help="Reports of shards, or the folder that holds them.")
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="File for the joint report.")
    ] = None,
    overwrite: options.ReplaceFile = False,
    as_json: options.AsJson = False,
) -> None:
    """Join the reports of all shards into one, and name what is missing.

    The exit code is that of the whole job: 0 where everything is done, 2 where an input failed or is missing.
    """
    from finescale.system.files import whole_file
    from finescale.system.shards import merge_share_reports

    if output is not None:
        console.check_new_file(output, suffix=".json", overwrite=overwrite)
    merged = merge_share_reports(_files(reports))
    for name in merged.missing[:_SHOWN]:
        console.say(f"missing: {name}")
    if len(merged.missing) > _SHOWN:
        console.say(f"missing: {len(merged.missing) - _SHOWN} more, which --json and -o name")
    for shard, count in merged.without_report:
        console.say(f"missing: the report of shard {shard} ({count} inputs); run the command with --shard {shard}")
    statuses = [str(file["status"]) for file in merged.files]
    console.say(console.summary_of(statuses, planned=len(statuses) + merged.num_missing))
    if output is not None:
        with whole_file(output) as file:
            file.write((json.dumps(merged.as_json(), indent=2) + "\n").encode())
        console.say(f"report: {output}")
    if as_json:
        console.print_json(merged.as_json())
    if merged.num_missing or "failed" in statuses:
        raise typer.Exit(console.SOME_FAILED)


def _files(named: Sequence[Path]) -> list[Path]:
    """Return the reports among files and folders."""
    files: list[Path] = []
    for path in named:
        files += sorted(path.glob("*-of-*.json")) if path.is_dir() else [path]
    return files
