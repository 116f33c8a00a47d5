"""Which files are meant by names, folders and patterns; the rest is in tests/cli."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale.images import write_image
from finescale.upscale.inputs import find_inputs


def test_a_picture_named_twice_is_meant_once(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.zeros(3, 2, 2))
    found = find_inputs([str(tmp_path / "a.png"), str(tmp_path), str(tmp_path / "*.png")])
    assert [image.path.name for image in found.images] == ["a.png"]
    assert found.failures == ()


def test_pictures_whose_names_differ_in_case_alone_are_each_taken(tmp_path: Path) -> None:
    for name in ("A.png", "a.png"):
        write_image(tmp_path / name, torch.zeros(3, 2, 2))
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("this file system ignores case")
    found = find_inputs([str(tmp_path), str(tmp_path / "a.png")])
    assert sorted(image.path.name for image in found.images) == ["A.png", "a.png"]


def test_a_name_in_another_case_is_the_same_picture_where_the_file_system_says_so(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.zeros(3, 2, 2))
    os.link(tmp_path / "a.png", tmp_path / "A.png")  # two names of one file, as a file system without case shows it
    found = find_inputs([str(tmp_path / "a.png"), str(tmp_path / "A.png")])
    assert [image.path.name for image in found.images] == ["a.png"]


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


@pytest.fixture
def looped(tmp_path: Path) -> Path:
    """A folder with pictures at two depths, a link to itself, two that lead to one another, and a hidden folder."""
    top = tmp_path / "top"
    for folder in (top / "a" / "b", top / ".git"):
        folder.mkdir(parents=True)
        (folder / "o1.png").touch()
    (top / "o2.png").touch()
    (top / "self").symlink_to(top)
    (top / "a" / "there").symlink_to(top / "a" / "b")
    (top / "a" / "b" / "back").symlink_to(top / "a")
    return top


def test_links_in_circles_end_a_search(looped: Path) -> None:
    found = find_inputs([str(looped)])
    names = ["o2.png", "a/b/o1.png"]
    assert [image.path.relative_to(looped).as_posix() for image in found.images] == names
    assert [image.within for image in found.images] == [Path(), Path("a/b")]
    folders = f"4 folders that are hidden or a link ({looped}/self, {looped}/a/there, {looped}/a/b/back, ...)"
    assert found.skipped == (f"{looped}: skipped {folders}; name it to search it",)
    for pattern in ("**/o*.png", "**/**/o[0-9].png", "**/**/**/*.png"):
        found = find_inputs([f"{looped}/{pattern}"])
        assert [image.path.relative_to(looped).as_posix() for image in found.images] == sorted(names)
        assert not any(image.is_named for image in found.images)
        assert "4 folders that are hidden or a link" in found.skipped[0]
    assert [image.path.name for image in find_inputs([str(looped / "self")]).images] == ["o2.png", "o1.png"]
    assert len(find_inputs([f"{looped}/*/b/*.png"]).images) == 1  # the folder by two ways, its picture once
    assert find_inputs([str(looped / ".git")]).images[0].path == looped / ".git" / "o1.png"


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("*.png", ["o2.png"]),
        ("a/*/*.png", ["a/b/o1.png"]),
        ("**", ["a/b/o1.png", "o2.png"]),
        ("**/b/**/o1.png", ["a/b/o1.png"]),
        (".*/o1.png", [".git/o1.png"]),
        ("a/../o?.png", ["a/../o2.png"]),
        ("o2.png/*", []),
        ("x*", []),
    ],
)
def test_patterns_match_what_they_match_in_a_shell(
    pattern: str, matches: list[str], looped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(looped)
    assert [image.path.as_posix() for image in find_inputs([pattern]).images] == matches
    above = find_inputs([f"{looped}/{pattern}"]).images
    assert [image.path for image in above] == [looped / match for match in matches]


def test_what_is_no_file_is_refused_by_its_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "round.png").symlink_to("round.png")
    reasons = {
        "pipe.png": "is a named pipe, not a file",
        "gone.png": "is a link to nothing, not a file",
        "round.png": "cannot be read (Too many levels of symbolic links)",
    }
    expected = {f"{tmp_path}/{name}: {reason}" for name, reason in reasons.items()}
    for names in ([tmp_path / name for name in reasons], [tmp_path], [tmp_path / "*.png"]):
        found = find_inputs([str(name) for name in names])
        assert found.images == ()
        assert {report.reason for report in found.failures} == expected
    assert find_inputs([os.devnull]).failures[0].reason == f"{os.devnull}: is a device, not a file"


def test_a_folder_that_cannot_be_searched_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One may not be entered, one lies deeper than paths reach; pictures beside them are found."""
    for name in ("locked", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    original = os.scandir

    def scandir(folder: str) -> Any:
        if str(folder).endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    for name in (str(tmp_path), f"{tmp_path}/**/*.png", f"{tmp_path}/*/*.png"):
        found = find_inputs([name])
        assert [image.path for image in found.images] == [tmp_path / "open" / "a.png"]
        assert [report.reason for report in found.failures] == [
            f"{tmp_path}/locked: cannot be searched (Permission denied)"
        ]


def test_a_folder_too_deep_for_paths_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()
    monkeypatch.chdir(tmp_path)
    for _ in range(22):
        Path("n" * 200).mkdir()
        os.chdir("n" * 200)
    os.chdir(tmp_path)
    found = find_inputs([str(tmp_path)])
    assert [image.path.name for image in found.images] == ["a.png"]
    (failure,) = found.failures
    assert "cannot be searched (File name too long)" in (failure.reason or "")
