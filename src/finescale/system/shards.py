"""Shards: the shares of one job that processes on one or many machines do without talking to one another.

Every process makes the same plan from the same command and takes its own share, so nothing needs to be installed or
running besides; the shares' reports are joined afterwards.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heapreplace
from typing import Any, TypeVar

from finescale.errors import DataError, printable_name
from finescale.system.files import whole_file
from finescale.system.places import Place
from finescale.system.remote import local_copy, local_result

T = TypeVar("T")

_LAUNCHERS = {"torchrun": ("RANK", "WORLD_SIZE"), "Slurm": ("SLURM_PROCID", "SLURM_NTASKS")}


@dataclass(frozen=True)
class Shard:
    """One of several equal shares of a job."""

    number: int
    """From 1 to ``count``."""
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def file_suffix(self) -> str:
        """The shard in the name of a file, such as "2-of-8"."""
        return f"{self.number}-of-{self.count}"


WHOLE = Shard(1, 1)
"""All of a job."""


def parse_shard(text: str) -> Shard:
    """Return the shard that a text such as "2/8" names, the second of eight.

    Raises:
        ValueError: The text has another form, or there is no such shard.
    """
    found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text.strip())
    shard = Shard(int(found[1]), int(found[2])) if found else None
    if shard is None or not 1 <= shard.number <= shard.count:
        raise ValueError(f"a shard is a number and a count such as 2/8, from 1/8 to 8/8, got {text!r}")
    return shard


def shard_of_launcher(environment: Mapping[str, str]) -> tuple[Shard, str] | None:
    """Return the shard of a process that torchrun or Slurm's srun started, and which of them; None for any other.

    A batch script of Slurm, which runs once whatever the number of tasks, is no such process.

    Raises:
        ValueError: The launcher's variables are no numbers.
    """
    for launcher, names in _LAUNCHERS.items():
        if not all(name in environment for name in names):
            continue
        if launcher == "Slurm" and "SLURM_JOB_ID" in environment and "SLURM_STEP_ID" not in environment:
            continue
        rank, count = (environment[name] for name in names)
        if not (rank.isdecimal() and count.isdecimal() and int(rank) < int(count)):
            raise ValueError(f"{names[0]}={rank} and {names[1]}={count} are no rank and count; unset them")
        if int(count) > 1:
            return Shard(int(rank) + 1, int(count)), launcher
    return None


def deal(
    items: Sequence[T], count: int, *, size: Callable[[T], float], together: Callable[[T], Hashable] | None = None
) -> list[list[T]]:
    """Deal items out to shards such that their sizes sum to about the same; equal arguments give equal shares.

    Args:
        items: What is dealt out; each share keeps their order.
        count: Number of shards.
        size: What an item costs.
        together: Items with equal keys go to one shard; by default each item goes on its own.
    """
    groups: dict[Hashable, list[int]] = {}
    for index, item in enumerate(items):
        groups.setdefault(index if together is None else together(item), []).append(index)
    sizes = {key: sum(size(items[index]) for index in members) for key, members in groups.items()}
    loads = [(0.0, shard) for shard in range(count)]
    heapify(loads)
    shares: list[list[int]] = [[] for _ in range(count)]
    for key in sorted(groups, key=lambda key: (-sizes[key], groups[key][0])):
        load, shard = loads[0]
        shares[shard] += groups[key]
        heapreplace(loads, (load + sizes[key], shard))
    return [[items[index] for index in sorted(share)] for share in shares]


# ---- reports


@dataclass(frozen=True)
class SharePlan:
    """The share of one shard in a plan that all shards have made alike."""

    shard: Shard
    planned: tuple[str, ...]
    """The inputs of this shard."""
    counts: tuple[int, ...]
    """Number of inputs of each shard."""
    digest: str
    """Stands for the inputs and results of all shards."""


def plan_of_shares(shard: Shard, shares: Sequence[Sequence[tuple[str, str]]]) -> SharePlan:
    """Describe a plan, of which each share is a list of inputs and their results."""
    digest = hashlib.sha256(json.dumps(shares).encode()).hexdigest()
    planned = tuple(source for source, _ in shares[shard.number - 1])
    return SharePlan(shard, planned, tuple(len(share) for share in shares), digest)


def write_share_report(path: Place, plan: SharePlan, files: Iterable[Mapping[str, Any]], notes: Sequence[str]) -> None:
    """Write what one shard has done so far, whole or not at all.

    Args:
        path: The report; one that exists is replaced.
        plan: The shard's share.
        files: A report for each file that is done, kept or failed.
        notes: What to know about the whole share.

    Raises:
        OSError: It cannot be written there.
        RemoteError: It cannot be sent there.
    """
    content = {
        "shard": str(plan.shard),
        "plan": plan.digest,
        "shards": list(plan.counts),
        "planned": list(plan.planned),
        "files": list(files),
        "notes": list(notes),
    }
    with local_result(path) as local, whole_file(local) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


@dataclass(frozen=True)
class MergedReport:
    """The reports of all shards as one, and what is missing."""

    files: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    missing: tuple[str, ...]
    """Inputs that a shard has planned and not reported."""
    without_report: tuple[tuple[Shard, int], ...]
    """Shards of which there is no report, and how many inputs each of them has."""

    @property
    def num_missing(self) -> int:
        """Number of inputs without a report."""
        return len(self.missing) + sum(count for _, count in self.without_report)

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values."""
        return {
            "files": list(self.files),
            "notes": list(self.notes),
            "missing": list(self.missing),
            "shards_without_report": {str(shard): count for shard, count in self.without_report},
        }


def merge_share_reports(paths: Sequence[Place]) -> MergedReport:
    """Join the reports of the shards of one plan.

    Raises:
        DataError: A file is no report of a shard, two are of the same shard, or they are of different plans.
        RemoteError: One cannot be fetched.
    """
    if not paths:
        raise DataError("no report to merge; name the reports of the shards, or the folder that holds them")
    reports = {path: _read_share_report(path) for path in paths}
    first = paths[0]
    by_shard: dict[Shard, Place] = {}
    for path, report in reports.items():
        if (report["plan"], report["shards"]) != (reports[first]["plan"], reports[first]["shards"]):
            raise DataError(
                f"{printable_name(path)}: is of another plan than {printable_name(first)}; the shards of one command "
                "with the same inputs and results have one plan"
            )
        earlier = by_shard.setdefault(parse_shard(report["shard"]), path)
        if earlier is not path:
            raise DataError(
                f"{printable_name(path)}: is of shard {report['shard']} as {printable_name(earlier)}; name one of them"
            )
    ordered = [reports[path] for _, path in sorted(by_shard.items(), key=lambda pair: pair[0].number)]
    reported = {file["input"] for report in ordered for file in report["files"]}
    counts = reports[first]["shards"]
    shards = (Shard(number, len(counts)) for number in range(1, len(counts) + 1))
    return MergedReport(
        files=tuple(file for report in ordered for file in report["files"]),
        notes=tuple(dict.fromkeys(note for report in ordered for note in report["notes"])),
        missing=tuple(name for report in ordered for name in report["planned"] if name not in reported),
        without_report=tuple(
            (shard, count) for shard, count in zip(shards, counts, strict=True) if count and shard not in by_shard
        ),
    )


_KINDS = {"shard": str, "plan": str, "shards": list, "planned": list, "files": list, "notes": list}


def _read_share_report(path: Place) -> dict[str, Any]:
    name = printable_name(path)
    try:
        with local_copy(path) as local:
            report = json.loads(local.read_bytes())
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError):
        raise DataError(f"{name}: is no report of a shard (it is not JSON)") from None
    is_report = (
        isinstance(report, dict)
        and all(isinstance(report.get(key), kind) for key, kind in _KINDS.items())
        and all(isinstance(count, int) and count >= 0 for count in report["shards"])
        and all(isinstance(file, dict) and {"input", "status"} <= file.keys() for file in report["files"])
        and all(isinstance(text, str) for key in ("planned", "notes") for text in report[key])
        and re.fullmatch(rf"\d+/{len(report['shards'])}", report["shard"])
    )
    if not is_report:
        raise DataError(f"{name}: is no report of a shard, which `--report` or `--shard` writes")
    return dict(report)
