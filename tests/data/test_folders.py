from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from finescale.data import benchmark_names, find_images, open_source
from finescale.data.folders import check_name, claim_folder, may_be_replaced
from finescale.errors import DataError


def test_a_folder_takes_more_of_the_same_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    claim_folder(folder, {"size": 480, "step": 240})
    (folder / "a_s001.png").touch()
    claim_folder(folder, {"step": 240, "size": 480})
    with pytest.raises(DataError, match="was made with size 480, step 240, not with size 256, step 240; name another"):
        claim_folder(folder, {"size": 256, "step": 240})


def test_a_damaged_mark_and_a_folder_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    (tmp_path / ".finescale.json").write_text("{")
    with pytest.raises(DataError, match=r"\.finescale\.json: damaged; delete .* and redo it"):
        claim_folder(tmp_path, {})
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: cannot be written to \(File exists\)"):
        claim_folder(tmp_path / "file", {})


def test_only_what_we_made_may_be_replaced(tmp_path: Path) -> None:
    folder, ours = tmp_path / "folder", ("index", "pixels")
    assert not may_be_replaced(folder, ours=ours)
    folder.mkdir()
    assert not may_be_replaced(folder, ours=ours)
    (folder / "pixels").touch()
    with pytest.raises(DataError, match=r"folder holds other files \(pixels\); name a new folder"):
        may_be_replaced(folder, ours=ours)
    (folder / "index").touch()
    assert may_be_replaced(folder, ours=ours)
    (folder / "diary").touch()
    with pytest.raises(DataError, match=r"holds other files \(diary\)"):
        may_be_replaced(folder, ours=ours)
    with pytest.raises(DataError, match="diary is a file; name a new folder"):
        may_be_replaced(folder / "diary", ours=ours)


def test_a_folder_in_which_nothing_was_made_yet_takes_other_settings(tmp_path: Path) -> None:
    claim_folder(tmp_path, {"size": 480})
    (tmp_path / ".finescale-0123456789ab").touch()
    claim_folder(tmp_path, {"size": 256})
    (tmp_path / "a_s001.png").touch()
    with pytest.raises(DataError, match="was made with size 256, not with size 480"):
        claim_folder(tmp_path, {"size": 480})


def test_a_folder_on_a_full_disk_is_refused_in_a_sentence_and_claimed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(DataError, match=r"cannot be written to \(No space left on device\)"):
            claim_folder(tmp_path, {"size": 480})
    assert list(tmp_path.iterdir()) == []
    claim_folder(tmp_path, {"size": 480})


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "must be a name without folders, got ''"),
        (".", "must be a name without folders"),
        ("..", "must be a name without folders"),
        ("../../x", "must be a name without folders, got '../../x'"),
        ("/a", "must be a name without folders"),
        ("a/", "must be a name without folders"),
        ("x" * 256, r"must have at most 255 bytes, got 'x{256}'$"),
        ("\N{SNOWMAN}" * 86, "must have at most 255 bytes"),
    ],
)
def test_a_name_is_refused_that_leads_elsewhere_or_is_too_long(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"--name {sentence}"):
        check_name(name, what="--name")


def test_other_names_are_left_alone() -> None:
    for name in ("x" * 255, "..x..", "a b", "-", "\N{SNOWMAN}" * 85):
        check_name(name, what="--name")


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("is_dir", find_images),
        ("iterdir", find_images),
        ("is_dir", lambda folder: benchmark_names(folder, scale=2)),
        ("iterdir", lambda folder: benchmark_names(folder, scale=2)),
        ("is_file", lambda folder: open_source([folder], scale=2, patch=8, seed=0, augmentation="none")),
        ("exists", lambda folder: may_be_replaced(folder, ours=("index",))),
        ("iterdir", lambda folder: may_be_replaced(folder, ours=("index",))),
    ],
)
def test_a_folder_that_cannot_be_read_is_one_sentence(
    name: str, call: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_self: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch, pytest.raises(DataError, match=r": cannot be \w+ \(Permission denied\)"):  # noqa: PT012
        patch.setattr(Path, name, closed)
        call(tmp_path)
