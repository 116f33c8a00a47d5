"""Every process deals out the same shares, and the reports of all of them are one again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finescale.errors import DataError
from finescale.system.shards import (
    Shard,
    deal,
    merge_share_reports,
    parse_shard,
    plan_of_shares,
    shard_of_launcher,
    write_share_report,
)

# ---- which share


def test_a_shard_is_named_by_number_and_count() -> None:
    assert parse_shard("2/8") == Shard(2, 8)
    assert str(Shard(2, 8)) == "2/8"


@pytest.mark.parametrize("text", ["0/8", "9/8", "2", "2/", "-1/8", "2/8/9", "two/8", "1/0", "2/8x"])
def test_other_texts_are_no_shard(text: str) -> None:
    with pytest.raises(ValueError, match="a shard is a number and a count such as 2/8"):
        parse_shard(text)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "8"}, (Shard(1, 8), "torchrun")),
        ({"RANK": "7", "WORLD_SIZE": "8"}, (Shard(8, 8), "torchrun")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "3"}, None),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}, (Shard(3, 4), "Slurm")),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "9", "SLURM_STEP_ID": "0"}, (Shard(3, 4), "Slurm")),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "9"}, None),  # a batch script, not a task
        (
            {"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"},  # torchrun within a task
            (Shard(2, 2), "torchrun"),
        ),
    ],
)
def test_launchers_tell_their_processes_apart(environment: dict[str, str], expected: tuple[Shard, str] | None) -> None:
    assert shard_of_launcher(environment) == expected


def test_a_rank_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="RANK=8 and WORLD_SIZE=8 are no rank and count"):
        shard_of_launcher({"RANK": "8", "WORLD_SIZE": "8"})


# ---- dealing out


def test_each_item_is_in_one_share_and_sizes_sum_to_about_the_same() -> None:
    sizes = [(7 * number) % 50 + 1 for number in range(200)]
    shares = deal(list(range(200)), 8, size=lambda item: sizes[item])
    assert sorted(item for share in shares for item in share) == list(range(200))
    assert all(share == sorted(share) for share in shares)
    sums = [sum(sizes[item] for item in share) for share in shares]
    assert max(sums) - min(sums) <= max(sizes)
    assert shares == deal(list(range(200)), 8, size=lambda item: sizes[item])


def test_the_largest_item_has_a_share_of_its_own() -> None:
    assert deal([1, 100, 1, 1], 2, size=float) == [[100], [1, 1, 1]]


def test_there_may_be_more_shares_than_items() -> None:
    assert deal(["a"], 3, size=len) == [["a"], [], []]


def test_items_that_belong_together_stay_together() -> None:
    shares = deal(["a.png", "b.png", "a.jpg", "c.png"], 3, size=len, together=lambda name: name[0])
    assert shares == [["a.png", "a.jpg"], ["b.png"], ["c.png"]]


# ---- reports

SHARES = [[("a", "a_x2"), ("b", "b_x2")], [("c", "c_x2")], [("d", "d_x2")], []]


def write(folder: Path, number: int, *statuses: str, shares: Any = SHARES, name: str | None = None) -> Path:
    plan = plan_of_shares(Shard(number, len(shares)), shares)
    files = [{"input": source, "status": status} for source, status in zip(plan.planned, statuses, strict=False)]
    path = folder / (name or f"report.{number}.json")
    write_share_report(path, plan, files, [f"a note of {number}", "a note of all"])
    return path


def test_reports_of_all_shards_are_joined_in_order(tmp_path: Path) -> None:
    paths = [write(tmp_path, number, "done", "failed") for number in (3, 1, 2, 4)]
    merged = merge_share_reports(paths)
    assert [(file["input"], file["status"]) for file in merged.files] == [
        ("a", "done"),
        ("b", "failed"),
        ("c", "done"),
        ("d", "done"),
    ]
    assert merged.notes == ("a note of 1", "a note of all", "a note of 2", "a note of 3", "a note of 4")
    assert (merged.missing, merged.without_report, merged.num_missing) == ((), (), 0)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    merged = merge_share_reports([write(tmp_path, 1, "done"), write(tmp_path, 3, "done")])
    assert merged.missing == ("b",)
    assert merged.without_report == ((Shard(2, 4), 1),)  # the fourth has nothing to do
    assert merged.num_missing == 2
    assert merged.as_json()["shards_without_report"] == {"2/4": 1}


def test_reports_of_different_plans_are_refused(tmp_path: Path) -> None:
    one, other = write(tmp_path, 1, "done"), write(tmp_path, 2, shares=[SHARES[0], SHARES[1]], name="other.json")
    with pytest.raises(DataError, match=r"other\.json: is of another plan than"):
        merge_share_reports([one, other])


def test_two_reports_of_one_shard_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is of shard 1/4 as .*; name one of them"):
        merge_share_reports([write(tmp_path, 1), write(tmp_path, 1, name="again.json")])
    with pytest.raises(DataError, match="no report to merge"):
        merge_share_reports([])


@pytest.mark.parametrize(
    "change",
    [
        {"shard": "2/5"},
        {"shard": "x"},
        {"files": [{"input": "a"}]},
        {"files": ["a"]},
        {"planned": [1]},
        {"shards": ["1"]},
        {"plan": None},
    ],
    ids=str,
)
def test_other_files_are_no_report(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write(tmp_path, 2, "done")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=r"is no report of a shard"):
        merge_share_reports([path])
    path.write_text("{")
    with pytest.raises(DataError, match=r"is no report of a shard \(it is not JSON\)"):
        merge_share_reports([path])
    with pytest.raises(DataError, match="cannot be read"):
        merge_share_reports([tmp_path / "missing.json"])
