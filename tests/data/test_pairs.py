from __future__ import annotations

from pathlib import Path

import pytest

from finescale.data import Pair, find_images, find_pairs, match_pairs
from finescale.data.pairs import mismatch
from finescale.errors import DataError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_pictures_are_listed_in_natural_order_and_other_files_passed_over(tmp_path: Path) -> None:
    names = ["a1.png", "a01.PNG", "A2.jpg", "a10.jpeg", "b.tif"]
    touch(*(tmp_path / name for name in reversed(names)))
    touch(tmp_path / "read.me", tmp_path / "._a1.png", tmp_path / ".png", tmp_path / "folder.png" / "deeper.png")
    assert [path.name for path in find_images(tmp_path)] == ["a01.PNG", "a1.png", "A2.jpg", "a10.jpeg", "b.tif"]


def test_a_folder_of_originals_gives_pairs_without_low_resolution_files(tmp_path: Path) -> None:
    touch(tmp_path / "bird.png")
    assert find_pairs(tmp_path) == [Pair("bird", hr=tmp_path / "bird.png", lr=None)]


def test_a_folder_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no picture; known suffixes: "):
        find_images(tmp_path)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        find_images(tmp_path / "nowhere")


def test_low_resolution_pictures_are_found_by_either_name_and_what_is_left_over_is_told() -> None:
    hr = [Path(f"hr/{name}.png") for name in ("plain", "scaled", "both", "alone", "ax4")]
    lr = [Path("lr", name) for name in ("plain.jpg", "scaledx4.png", "both.png", "bothx4.png", "ax4x4.png", "bx4.png")]
    matching = match_pairs(hr, lr, scale=4)
    assert {high.stem: low.name for high, low in matching.pairs.items()} == {
        "plain": "plain.jpg",
        "scaled": "scaledx4.png",
        "both": "bothx4.png",
        "ax4": "ax4x4.png",
    }
    assert matching.without_lr == (Path("hr/alone.png"),)
    assert matching.without_hr == (Path("lr/both.png"), Path("lr/bx4.png"))


def test_a_low_resolution_picture_has_the_size_of_the_cut_original() -> None:
    assert mismatch((120, 83), (361, 250), scale=3) is None
    for size in ((121, 83), (120, 84), (83, 120)):
        assert mismatch(size, (361, 250), scale=3) == (
            f"{size[1]} x {size[0]} pixels, where an HR image of 250 x 361 needs 83 x 120 at scale 3"
        )
