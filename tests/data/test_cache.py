from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale.data import open_cache, open_source, write_cache
from finescale.errors import DataError
from finescale.system import files
from pictures import draw
from samples import sample


@pytest.fixture
def originals(tmp_path: Path) -> dict[Path, Tensor]:
    """A large gray picture and two smaller ones in colour, whose sizes are no multiples of anything."""
    folder = tmp_path / "hr"
    gray = draw(folder / "1.png", width=301, height=407, seed=1, gray=True)
    return {
        folder / "1.png": gray.expand(3, -1, -1),
        folder / "2.png": draw(folder / "2.png", width=37, height=41, seed=2),
        folder / "10.png": draw(folder / "10.png", width=53, height=29, seed=3),
    }


@pytest.fixture
def cache(originals: dict[Path, Tensor], tmp_path: Path) -> Path:
    folder = tmp_path / "cache"
    assert [report.status for report in write_cache([*originals], folder, workers=2)] == ["done"] * 3
    return folder


def test_a_cache_holds_every_pixel(originals: dict[Path, Tensor], cache: Path) -> None:
    images = open_cache(cache)
    assert images.names == ("1.png", "2.png", "10.png")
    assert len(images) == 3
    for image, expected in zip(images, originals.values(), strict=True):
        assert image.dtype == torch.uint8
        assert torch.equal(image, expected)
    assert torch.equal(images[-1], images[2])
    assert [image.shape for image in images[1:]] == [(3, 41, 37), (3, 29, 53)]
    with pytest.raises(IndexError):
        images[3]


def test_samples_of_a_cache_are_those_of_the_pictures(originals: dict[Path, Tensor], cache: Path) -> None:
    drawing = {"seed": 5, "scale": 2, "patch": 12}
    decoded = list(originals.values())
    for index in range(20):
        for one, other in zip(
            sample(open_cache(cache), index=index, **drawing),
            sample(decoded, index=index, **drawing),
            strict=True,
        ):
            assert torch.equal(one, other)


def test_pictures_are_not_read_before_they_are_looked_at(cache: Path) -> None:
    images = open_cache(cache)
    with (cache / "pixels.bin").open("r+b") as file:
        file.write(b"\7")
    assert images[0][0, 0, 0] == 7


def test_what_is_written_to_a_picture_does_not_reach_the_cache(originals: dict[Path, Tensor], cache: Path) -> None:
    images = open_cache(cache)
    images[1].zero_()
    assert torch.equal(images[1], list(originals.values())[1])


def test_small_pictures_are_left_out_and_named(cache: Path) -> None:
    images = open_cache(cache, min_size=30)
    assert (images.names, images.too_small) == (("1.png", "2.png"), ("10.png",))
    assert images.sizes == ((407, 301), (41, 37))
    with pytest.raises(DataError, match="all 3 pictures have a side of fewer than 999 pixels"):
        open_cache(cache, min_size=999)


def test_a_copy_for_another_process_opens_the_cache_itself(cache: Path) -> None:
    images = open_cache(cache, min_size=30)
    data = pickle.dumps(images)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert copy.names == images.names
    assert torch.equal(copy[1], images[1])


def test_a_cache_can_be_moved_and_replaced_while_it_is_open(
    originals: dict[Path, Tensor], cache: Path, tmp_path: Path
) -> None:
    images = open_cache(cache)
    cache.rename(tmp_path / "moved")
    assert len(open_cache(tmp_path / "moved")) == 3
    list(write_cache([*originals][:1], tmp_path / "moved", overwrite=True))
    assert len(open_cache(tmp_path / "moved")) == 1
    assert torch.equal(images[2], list(originals.values())[2])


def test_a_cache_of_the_same_files_is_kept_and_of_others_refused(originals: dict[Path, Tensor], cache: Path) -> None:
    paths = [*originals]
    before = (cache / "pixels.bin").stat().st_ino
    assert [report.status for report in write_cache(paths, cache)] == ["kept"] * 3
    assert (cache / "pixels.bin").stat().st_ino == before
    with pytest.raises(
        DataError, match="is a cache of other pictures, or they have changed; replace it with --overwrite"
    ):
        write_cache(paths[:2], cache)
    os.utime(paths[0], ns=(1, 1))
    with pytest.raises(DataError, match="or they have changed"):
        write_cache(paths, cache)
    list(write_cache(paths, cache, overwrite=True))
    assert (cache / "pixels.bin").stat().st_ino != before
    assert [report.status for report in write_cache(paths, cache)] == ["kept"] * 3


def test_unreadable_pictures_are_named_each_time_and_the_rest_is_cached(
    originals: dict[Path, Tensor], tmp_path: Path
) -> None:
    bad = tmp_path / "hr" / "bad.png"
    bad.write_bytes(b"no picture")
    paths = [bad, *originals]
    first = list(write_cache(paths, tmp_path / "cache"))
    again = list(write_cache(paths, tmp_path / "cache"))
    assert [report.status for report in first] == ["failed", "done", "done", "done"]
    assert [report.status for report in again] == ["failed", "kept", "kept", "kept"]
    assert first[0].reason == again[0].reason
    assert str(first[0].reason).startswith(f"{bad}: not an image")
    assert open_cache(tmp_path / "cache").names == ("1.png", "2.png", "10.png")
    with pytest.raises(DataError, match="none of the 1 pictures can be read; no cache is written"):
        list(write_cache([bad], tmp_path / "none"))
    assert not (tmp_path / "none").exists()


def test_an_interrupted_cache_leaves_nothing_and_the_old_one(originals: dict[Path, Tensor], cache: Path) -> None:
    reports = write_cache([*originals], cache, overwrite=True)
    next(reports)
    reports.close()
    assert len(open_cache(cache)) == 3
    assert sorted(path.name for path in cache.parent.iterdir()) == ["cache", "hr"]


KILLED = """
import os, signal, sys
from pathlib import Path
from finescale.data import write_cache

rename = Path.rename

def killed(self, target):
    if target.name == "cache":
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)

Path.rename = killed
list(write_cache([*map(Path, sys.argv[2:])], Path(sys.argv[1]), overwrite=True))
"""


def test_a_cache_whose_replacement_was_killed_between_old_and_new_is_put_back(
    originals: dict[Path, Tensor], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in cache.iterdir()}
    subprocess.run([sys.executable, "-c", KILLED, cache, *originals], check=False, timeout=120)
    assert not cache.exists()
    monkeypatch.setattr(files, "swept", set())  # as in the process of the next run
    source = open_source([cache], scale=2, patch=8, seed=0, augmentation="none")
    assert len(source.names) == 3
    assert [report.status for report in write_cache([*originals], cache)] == ["kept"] * 3
    assert {file.name: file.read_bytes() for file in cache.iterdir()} == before
    assert sorted(path.name for path in cache.parent.iterdir()) == ["cache", "hr"]


def test_a_folder_with_other_files_is_not_replaced(originals: dict[Path, Tensor], tmp_path: Path) -> None:
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"hr holds other files \(1\.png, 10\.png, 2\.png\); name a new folder"):
            write_cache([*originals], tmp_path / "hr", overwrite=overwrite)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: cannot be written \(Not a directory\)|File exists"):
        list(write_cache([*originals], tmp_path / "file" / "cache"))


@pytest.mark.parametrize(
    ("name", "damage", "sentence"),
    [
        ("pixels.bin", lambda data: data[:-1], r"pixels\.bin has 376682 bytes, but its 3 pictures need 376683"),
        ("pixels.bin", lambda data: data + b"0", r"pixels\.bin has 376684 bytes"),
        ("index.json", lambda data: data[:-2], "the index of this cache is damaged"),
        ("index.json", lambda data: data.replace(b"41", b"14"), "the index of this cache is damaged"),
        ("index.json", lambda _data: b"[]", "the index of this cache is damaged"),
        ("index.json", lambda _data: b"\xff", "the index of this cache is damaged"),
        ("index.json", lambda _data: None, "is not a cache of pictures; make one with 'finescale prepare cache'"),
        ("pixels.bin", lambda _data: None, "is not a cache of pictures"),
    ],
)
def test_a_damaged_cache_is_refused(cache: Path, name: str, damage: object, sentence: str) -> None:
    data = damage((cache / name).read_bytes())  # type: ignore[operator]
    (cache / name).unlink()
    if data is not None:
        (cache / name).write_bytes(data)
    with pytest.raises(DataError, match=sentence):
        open_cache(cache)


def test_files_that_cannot_be_opened_are_named(
    originals: dict[Path, Tensor], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"gone\.png: cannot be read \(No such file or directory\)"):
        write_cache([*originals, Path("gone.png")], cache)
    opened = Path.open

    def refuse_pixels(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "pixels.bin":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse_pixels)
    with pytest.raises(DataError, match=r"cache: cannot be read \(Permission denied\)"):
        open_cache(cache)


def test_a_cache_of_a_later_format_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert json.loads((cache / "index.json").read_text())["format"] == 1
    monkeypatch.setattr("finescale.data.cache.FORMAT", 0)
    with pytest.raises(DataError, match="unknown cache format 1, expected 0; rebuild the cache"):
        open_cache(cache)
