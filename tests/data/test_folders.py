from __future__ import annotations

from pathlib import Path

import pytest

from finescale.data.folders import claim_folder, may_be_replaced
from finescale.errors import DataError


def test_a_folder_takes_more_of_the_same_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    claim_folder(folder, {"size": 480, "step": 240})
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
