"""Which files are meant by names, folders and patterns; the rest is in tests/cli."""

from __future__ import annotations

from pathlib import Path

import torch

from finescale.images import write_image
from finescale.upscale.inputs import find_inputs


def test_a_picture_named_twice_is_meant_once(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.zeros(3, 2, 2))
    found = find_inputs([str(tmp_path / "a.png"), str(tmp_path), str(tmp_path / "*.png")])
    assert [image.path.name for image in found.images] == ["a.png"]
    assert found.failures == ()


def test_the_folder_of_the_results_is_not_looked_into(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for path in (tmp_path / "a.png", out / "b.png"):
        write_image(path, torch.zeros(3, 2, 2))
    assert [image.path.name for image in find_inputs([str(tmp_path)], exclude=out).images] == ["a.png"]


def test_the_other_files_of_a_folder_are_reported_in_one_sentence(tmp_path: Path) -> None:
    for name in ("notes.txt", ".hidden.png", "a.png"):
        (tmp_path / name).touch()
    skipped = "skipped 2 files that are hidden or have no image extension (.hidden.png, notes.txt)"
    assert find_inputs([str(tmp_path)]).skipped == (f"{tmp_path}: {skipped}",)


def test_pictures_in_formats_that_are_not_read_are_counted_apart(tmp_path: Path) -> None:
    for name in ("a.png", "b.jxl", "c.CR2", ".d.psd", "notes.txt"):
        (tmp_path / name).touch()
    assert find_inputs([str(tmp_path)]).skipped == (
        f"{tmp_path}: skipped 2 pictures in formats that finescale does not read (b.jxl, c.CR2); convert to TIFF or "
        "PNG first",
        f"{tmp_path}: skipped 2 files that are hidden or have no image extension (.d.psd, notes.txt)",
    )


def test_the_rarer_endings_of_readable_pictures_count(tmp_path: Path) -> None:
    names = ["a.jfif", "b.jpe", "c.mpo", "d.DIB", "e.apng", "f.heic"]
    for name in names:
        (tmp_path / name).touch()
    found = find_inputs([str(tmp_path)])
    assert [image.path.name for image in found.images] == names
    assert found.skipped == ()
