"""Pictures to train on, wherever they lie: the same pictures give the same samples."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from finescale.data import Source, sources, write_cache, write_lmdb
from finescale.errors import DataError, ImageReadError
from finescale.images import write_image
from finescale.resize import downsample
from pictures import draw, stored
from samples import sample

SIZES = {"t2": (61, 50), "t10": (40, 43)}
"""Width and height; no multiples of 4."""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Originals, and a folder of their low-resolution pictures at x4."""
    for number, (name, (width, height)) in enumerate(SIZES.items()):
        hr = draw(tmp_path / "hr" / f"{name}.png", width=width, height=height, seed=number)
        (tmp_path / "lr").mkdir(exist_ok=True)
        write_image(tmp_path / "lr" / f"{name}x4.png", downsample(hr, scale=4) / 255)
    return tmp_path / "hr", tmp_path / "lr"


def as_cache(folder: Path) -> Path:
    target = folder.with_suffix(".cache")
    list(write_cache(sorted(folder.iterdir()), target))
    return target


def as_lmdb(folder: Path) -> Path:
    pytest.importorskip("lmdb")
    target = folder.with_suffix(".lmdb")
    drop = "x4" if folder.name == "lr" else ""
    list(write_lmdb(sorted(folder.iterdir()), target, drop_ending=drop))
    return target


KINDS: dict[str, Callable[[Path], Path]] = {"folder": lambda folder: folder, "cache": as_cache, "lmdb": as_lmdb}


def open_source(hr: Sequence[Path], lr: Sequence[Path] = (), **fields: Any) -> Source:
    """The sequence of samples 5, varied as trainings usually are."""
    return sources.open_source(hr, lr, seed=5, augmentation="flips-and-transpose", **fields)


def drawn(source: Source, num: int = 30) -> list[tuple[Tensor, Tensor]]:
    return [source.sample(index) for index in range(num)]


def assert_same(one: Source, other: Source) -> None:
    """Both give the same samples, of the same pictures."""
    places = {name: number for number, name in enumerate(other.names)}
    assert sorted(places) == sorted(one.names)
    order = [places[name] for name in one.names]
    lr = None if other.lr is None else [other.lr[number] for number in order]
    hr, sizes = ([values[number] for number in order] for values in (other.hr, other.sizes))
    reordered = replace(other, names=one.names, hr=hr, sizes=sizes, lr=lr)
    for first, second in zip(drawn(one), drawn(reordered), strict=True):
        assert all(torch.equal(*both) for both in zip(first, second, strict=True))


# ---- originals alone


def test_the_samples_of_a_folder_are_those_of_its_pictures_in_natural_order(folders: tuple[Path, Path]) -> None:
    source = open_source([folders[0]], scale=4, patch=6)
    assert (len(source), source.names, source.too_small) == (2, ("t2.png", "t10.png"), ())
    pixels = [stored(folders[0] / name) for name in source.names]
    for index, (lr, hr) in enumerate(drawn(source)):
        expected = sample(pixels, seed=5, index=index, scale=4, patch=6)
        assert torch.equal(lr, expected[0])
        assert torch.equal(hr, expected[1])


@pytest.mark.parametrize("kind", ["cache", "lmdb"])
def test_other_places_give_the_samples_of_the_folder_they_were_made_of(folders: tuple[Path, Path], kind: str) -> None:
    place = KINDS[kind](folders[0])
    assert_same(open_source([place], scale=4, patch=6), open_source([folders[0]], scale=4, patch=6))


def test_several_places_of_any_kind_are_one_source(folders: tuple[Path, Path], tmp_path: Path) -> None:
    draw(tmp_path / "gray" / "g.png", width=44, height=48, gray=True)
    source = open_source([as_cache(folders[0]), tmp_path / "gray"], scale=4, patch=6)
    assert len(source) == 3
    assert source.names[2] == "g.png"
    assert source.hr[2].shape == (3, 48, 44)
    assert [image.shape for image in source.hr[1:]] == [source.hr[1].shape, (3, 48, 44)]


def test_pictures_smaller_than_a_patch_are_left_out_and_named(folders: tuple[Path, Path]) -> None:
    for hr in (folders[0], as_cache(folders[0])):
        source = open_source([hr], [folders[1]], scale=4, patch=11)
        assert (source.names, source.too_small) == (("t2.png",), ("t10.png",))
        assert source.lr is not None
        assert [image.shape for image in source.lr] == [(3, 12, 15)]
        with pytest.raises(DataError, match="all 2 pictures have a side of fewer than 396 pixels; use a smaller patch"):
            open_source([hr], scale=4, patch=99)


# ---- pairs


@pytest.mark.parametrize("lr", KINDS)
@pytest.mark.parametrize("hr", KINDS)
def test_the_published_pairs_give_the_samples_of_the_originals_alone(
    folders: tuple[Path, Path], hr: str, lr: str
) -> None:
    pairs = open_source([KINDS[hr](folders[0])], [KINDS[lr](folders[1])], scale=4, patch=6)
    assert pairs.lr is not None
    assert_same(pairs, open_source([folders[0]], scale=4, patch=6))


def test_a_given_low_resolution_picture_is_taken_as_it_is(folders: tuple[Path, Path]) -> None:
    write_image(folders[1] / "t2x4.png", torch.full((3, 12, 15), 0.2))
    write_image(folders[1] / "t10x4.png", torch.full((3, 10, 10), 0.4))
    source = open_source([folders[0]], [folders[1]], scale=4, patch=6)
    assert {int(value) for lr, _ in drawn(source) for value in lr.unique()} == {51, 102}


def test_everything_that_is_wrong_with_the_pairs_is_told_at_once(folders: tuple[Path, Path], tmp_path: Path) -> None:
    hr, lr = folders
    draw(hr / "single.png", width=40, height=40)
    draw(lr / "orphanx4.png", width=10, height=10)
    draw(lr / "t2x4.png", width=14, height=12)
    (hr / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(DataError) as caught:
        open_source([hr], [lr], scale=4, patch=2)
    text = str(caught.value)
    assert text.startswith("4 pictures cannot be used for training: ")
    for wanted in (
        "hr/broken.png: not an image",
        "hr/single.png: its low-resolution picture is missing",
        "lr/orphanx4.png: its HR image is missing",
        "lr/t2x4.png: 14 x 12 pixels, where an HR image of 61 x 50 needs 15 x 12 at scale 4",
    ):
        assert wanted in text


def test_pictures_of_one_name_cannot_be_paired(folders: tuple[Path, Path], tmp_path: Path) -> None:
    draw(tmp_path / "other" / "t2.png", width=40, height=40)
    list(write_cache([folders[0] / "t2.png", tmp_path / "other" / "t2.png"], tmp_path / "both"))
    (folders[1] / "t10x4.png").unlink()
    assert len(open_source([tmp_path / "both"], scale=4, patch=2)) == 2
    with pytest.raises(DataError, match=r"both/t2\.png: several pictures have this name"):
        open_source([tmp_path / "both"], [folders[1]], scale=4, patch=2)


def test_places_of_pairs_come_in_twos(folders: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match="lr must name one place for each of the 2 of hr, got 1"):
        open_source([folders[0], folders[0]], [folders[1]], scale=4, patch=2)


# ---- what is decoded when


def test_all_damaged_pictures_are_named_before_the_first_sample(folders: tuple[Path, Path]) -> None:
    for path in folders[0].iterdir():
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"2 pictures cannot be used for training: .*t2\.png.*; .*t10\.png.*truncated"):
        open_source([folders[0]], scale=4, patch=6)


def test_pictures_that_fit_into_memory_are_decoded_once(folders: tuple[Path, Path]) -> None:
    source = open_source([folders[0]], [folders[1]], scale=4, patch=6)
    shutil.rmtree(folders[0])
    shutil.rmtree(folders[1])
    assert len(drawn(source)) == 30


@pytest.mark.parametrize("num_bytes", [0, 3 * 61 * 50 + 10])
def test_pictures_that_exceed_memory_are_decoded_when_drawn_which_is_told(
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    num_bytes: int,
) -> None:
    expected = open_source([folders[0]], scale=4, patch=6)
    decoded: list[str] = []
    read = sources.read_hr_image
    monkeypatch.setattr(sources, "read_hr_image", lambda path: decoded.append(path.name) or read(path))
    monkeypatch.setattr(sources, "free_host_memory", lambda: 2 * 3 * num_bytes)  # half of it, for three processes
    with caplog.at_level(logging.WARNING, "finescale"):
        source = open_source([folders[0]], scale=4, patch=6, processes=3)
    assert [record.message.partition(", ")[2] for record in caplog.records] == [
        "more than half of the free memory, so each is decoded whenever it is drawn; 'finescale prepare cache' "
        "makes this about 50 times faster"
    ]
    assert not decoded
    assert_same(source, expected)
    assert len(decoded) > 2
    decoded.clear()
    for number in (0, 0, 1, 1, 0):  # one of the two can be kept, or none
        source.hr[number]
    assert decoded == (["t2.png", "t10.png", "t2.png"] if num_bytes else [source.names[n] for n in (0, 0, 1, 1, 0)])


def test_the_pictures_that_were_drawn_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        draw(tmp_path / f"{number}.png", width=40, height=40, seed=number)
    decoded: list[str] = []
    read = sources.read_hr_image
    monkeypatch.setattr(sources, "read_hr_image", lambda path: decoded.append(path.stem) or read(path))
    monkeypatch.setattr(sources, "free_host_memory", lambda: 2 * 2 * 3 * 40 * 40)  # half of it holds two pictures
    source = open_source([tmp_path], scale=4, patch=6)
    for number in (0, 1, 0, 2, 0, 1):
        source.hr[number]
    assert "".join(decoded) == "0121"


def test_a_damaged_picture_that_is_decoded_when_drawn_is_an_error_then(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "free_host_memory", lambda: 0)
    path = folders[0] / "t2.png"
    path.write_bytes(path.read_bytes()[:-200])
    source = open_source([folders[0]], scale=4, patch=6)
    with pytest.raises(ImageReadError, match=r"t2\.png: truncated"):
        drawn(source)


def test_nothing_of_a_cache_counts_as_memory(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "free_host_memory", lambda: 0)
    monkeypatch.setattr(sources, "logger", None)  # would fail at a warning
    assert len(drawn(open_source([as_cache(folders[0])], scale=4, patch=6))) == 30


def test_where_free_memory_is_unknown_pictures_are_decoded(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "free_host_memory", lambda: None)
    monkeypatch.setattr(sources, "logger", None)
    assert len(open_source([folders[0]], scale=4, patch=6)) == 2


# ---- real pictures


def test_the_pictures_of_a_benchmark_are_decoded_exactly_and_its_pairs_are_ours(data_root: Path) -> None:
    folder = data_root / "benchmark" / "Set5"
    source = open_source([folder / "HR"], [folder / "LR_bicubic" / "X4"], scale=4, patch=32)
    assert len(source) == 5
    for name, pixels in zip(source.names, source.hr, strict=True):
        data = torch.tensor(list(Image.open(folder / "HR" / name).tobytes()))
        assert torch.equal(pixels.permute(1, 2, 0).flatten().long(), data)
    assert_same(source, open_source([folder / "HR"], scale=4, patch=32))
