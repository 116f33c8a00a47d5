"""``finescale report``: reports of the shards of one job, as one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finescale.cli import console, options

if TYPE_CHECKING:
    from finescale.system.places import Place

app = typer.Typer(help="Join the reports of shards.", rich_markup_mode=None)

_REPORTS = "*-of-*.json"
_SHOWN = 20
"""Missing inputs that are named on standard error; the report has all of them."""


@app.callback()
def _report() -> None:
    """Join the reports of shards."""


@app.command()
def merge(
    reports: Annotated[
        list[str],
        typer.Argument(metavar="REPORT...", help="Reports of shards, or the folder that holds them; paths or URLs."),
    ],
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FILE.json", help="File for the joint report, a path or a URL."),
    ] = None,
    overwrite: options.ReplaceFile = False,
    as_json: options.AsJson = False,
) -> None:
    """Join the reports of all shards into one, and name what is missing.

    The exit code is that of the whole job: 0 where everything is done, 2 where an input failed or is missing.
    """
    from finescale.system.files import whole_file
    from finescale.system.places import place_of
    from finescale.system.remote import local_result
    from finescale.system.shards import merge_share_reports

    place = None if output is None else place_of(output)
    if place is not None:
        _check_new_report(place, overwrite=overwrite)
    merged = merge_share_reports(_files(reports))
    for name in merged.missing[:_SHOWN]:
        console.say(f"missing: {name}")
    if len(merged.missing) > _SHOWN:
        console.say(f"missing: {len(merged.missing) - _SHOWN} more, which --json and -o name")
    for shard, count in merged.without_report:
        console.say(f"missing: the report of shard {shard} ({count} inputs); run the command with --shard {shard}")
    statuses = [str(file["status"]) for file in merged.files]
    console.say(console.summary_of(statuses, planned=len(statuses) + merged.num_missing))
    if place is not None:
        with local_result(place) as local, whole_file(local) as file:
            file.write((json.dumps(merged.as_json(), indent=2) + "\n").encode())
        console.say(f"report: {place}")
    if as_json:
        console.print_json(merged.as_json())
    if merged.num_missing or "failed" in statuses:
        raise typer.Exit(console.SOME_FAILED)


def _check_new_report(place: Place, *, overwrite: bool) -> None:
    """Refuse a file for the joint report that cannot be written, or exists."""
    from finescale.system.remote import check_output, kind_of_place

    if isinstance(place, Path):
        console.check_new_file(place, suffix=".json", overwrite=overwrite)
        return
    if place.suffix != ".json":
        raise typer.BadParameter(f"-o must name a file that ends in .json, got {place.name!r}")
    check_output(place)
    if kind_of_place(place) == "file" and not overwrite:
        raise typer.BadParameter(f"{place} exists; name another file or give --overwrite")


def _files(named: Sequence[str]) -> list[Place]:
    """Return the reports among files and folders."""
    from finescale.system.places import place_of
    from finescale.system.remote import expand_pattern, kind_of_place

    files: list[Place] = []
    for place in map(place_of, named):
        if isinstance(place, Path):
            files += sorted(place.glob(_REPORTS)) if place.is_dir() else [place]
        elif kind_of_place(place) == "folder":
            files += sorted((file.place for file in expand_pattern(place / _REPORTS)), key=str)
        else:
            files.append(place)
    return files
