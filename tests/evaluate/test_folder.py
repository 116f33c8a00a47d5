"""The folder of results: what a run that ends early leaves, and what is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import finescale.evaluate.folder
from finescale.errors import DataError
from finescale.evaluate import Case, ResultsFolder, Score, benchmark_cases, bicubic, check_results_folder, run
from small_sets import write_set


@pytest.fixture
def cases(tmp_path: Path) -> list[Case]:
    return benchmark_cases(write_set(tmp_path / "data"), scale=2)


def measured(cases: list[Case], path: Path) -> list[bool]:
    """For each picture, whether its result was there already."""
    found = run([bicubic(scale=2)], cases, scale=2, results=ResultsFolder(path, suffix="x2"))
    return [score.is_reused for score in found if isinstance(score, Score)]


def refuse(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class PowerCutError(Exception):
    pass


def test_a_run_that_ends_before_its_first_result_is_resumed(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(path: Path, _image: object) -> None:
        assert (tmp_path / "results" / "finished.jsonl").is_file(), "the folder cannot be told from another"
        path.write_bytes(b"half a picture")
        raise PowerCutError

    with monkeypatch.context() as patch, pytest.raises(PowerCutError):  # noqa: PT012
        patch.setattr(finescale.evaluate.folder, "write_image", cut)
        measured(cases, tmp_path / "results")
    assert measured(cases, tmp_path / "results") == [False, False]
    assert measured(cases, tmp_path / "results") == [True, True]


def test_a_run_that_is_killed_while_it_begins_the_log_is_resumed(cases: list[Case], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / ".finescale-0123456789ab").write_bytes(b"")
    assert measured(cases, tmp_path / "results") == [False, False]


def test_a_run_on_a_full_disk_is_refused_in_a_sentence_and_resumed_later(
    cases: list[Case], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(DataError, match=r"results: cannot be written to \(No space left on device\)"):
            measured(cases, tmp_path / "results")
    assert list((tmp_path / "results").iterdir()) == []
    assert measured(cases[:1], tmp_path / "results") == [False]
    before = (tmp_path / "results" / "finished.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(DataError, match="No space left on device"):
            measured(cases, tmp_path / "results")
    assert (tmp_path / "results" / "finished.jsonl").read_bytes() == before
    assert measured(cases, tmp_path / "results") == [True, False]


def test_a_folder_below_a_file_is_refused_before_anything_is_measured(cases: list[Case], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot be \w+ \(Not a directory\)"):
        measured(cases, tmp_path / "file" / "results")


@pytest.mark.parametrize(
    "line", ['{"key": {}, "values": 3}', '{"key": {}, "values": {"psnr": 1.0}}', '{"key": {}}', "[" * 100_000, "\\ud8"]
)
def test_a_damaged_log_is_one_sentence(tmp_path: Path, line: str) -> None:
    (tmp_path / "finished.jsonl").write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"finished\.jsonl: damaged; delete it or give --overwrite") as caught:
        ResultsFolder(tmp_path, suffix="x2")
    assert len(str(caught.value)) < 300
    ResultsFolder(tmp_path, suffix="x2", overwrite=True).begin()
    assert ResultsFolder(tmp_path, suffix="x2").find({"model": "a", "set": "b", "image": "c"}) is None


def test_a_folder_that_cannot_be_entered_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"cannot be used \(File name too long\); name another folder"):
        check_results_folder(tmp_path / ("x" * 300))

    def closed(_self: Path) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    for name in ("exists", "iterdir"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, name, closed)
            with pytest.raises(DataError, match=r"cannot be used \(Permission denied\); name another folder"):
                check_results_folder(tmp_path)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/a", "a/", "x" * 256])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    results = ResultsFolder(tmp_path / "results", suffix="x2")
    for key in (
        {"model": name, "set": "a", "image": "a"},
        {"model": "a", "set": name, "image": "a"},
        {"model": "a", "set": "a", "image": f"x/{name}"},
    ):
        with pytest.raises(ValueError, match=r"^a name in the results must .*(without folders|at most 255 bytes), got"):
            results.add(key, {}, torch.zeros(3, 2, 2))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["finished.jsonl", "results"]
