from __future__ import annotations

from pathlib import Path

import pytest

from finescale.data import Pair, benchmark_names, benchmark_pairs, set_name
from finescale.errors import DataError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_a_benchmark_set_pairs_originals_with_their_scale(tmp_path: Path) -> None:
    high, low = tmp_path / "Set2" / "HR", tmp_path / "Set2" / "LR_bicubic" / "X3"
    touch(high / "img10.png", high / "img9.png", low / "img10x3.png", low / "img9x3.png")
    assert benchmark_pairs(tmp_path, "Set2", scale=3) == [
        Pair("img9", hr=high / "img9.png", lr=low / "img9x3.png"),
        Pair("img10", hr=high / "img10.png", lr=low / "img10x3.png"),
    ]


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("Set5/HR/baby.png", "Set5/LR_bicubic/X4/babyx4.png"),
        ("Set5/HR/baby.png", "Set5/LR_bicubic/X4/baby_LRBI_x4.png"),
        ("Set5/GTmod4/baby.png", "Set5/LRbicx4/baby.png"),
        ("Set5/GTmod12/baby.png", "Set5/LRbicx4/babyx4.png"),
        ("HR/Set5/x4/baby_HR_x4.png", "LRBI/Set5/x4/baby_LRBI_x4.png"),
        ("HR/Set5/x4/baby.png", "LRBI/Set5/x4/baby_LRBI_x4.png"),
    ],
)
def test_every_published_layout_is_understood(hr: str, lr: str, tmp_path: Path) -> None:
    touch(tmp_path / hr, tmp_path / lr)
    assert benchmark_names(tmp_path, scale=4) == ["Set5"]
    assert benchmark_pairs(tmp_path, "Set5", scale=4) == [Pair("baby", hr=tmp_path / hr, lr=tmp_path / lr)]


def test_originals_cut_for_another_scale_are_not_taken(tmp_path: Path) -> None:
    touch(tmp_path / "Set5" / "GTmod4" / "a.png", tmp_path / "Set5" / "GTmod12" / "a.png")
    assert benchmark_pairs(tmp_path, "Set5", scale=4)[0].hr.parent.name == "GTmod4"
    assert benchmark_pairs(tmp_path, "Set5", scale=3)[0].hr.parent.name == "GTmod12"


@pytest.mark.parametrize("folder", ["B100", "BSD100", "BSDS100", "bsd100"])
@pytest.mark.parametrize("asked", ["B100", "bsd100", "BSDS100"])
def test_a_set_of_many_names_is_found_under_each(folder: str, asked: str, tmp_path: Path) -> None:
    touch(tmp_path / folder / "HR" / "a.png")
    assert benchmark_names(tmp_path, scale=2) == ["B100"]
    assert benchmark_pairs(tmp_path, asked, scale=2) == [Pair("a", hr=tmp_path / folder / "HR" / "a.png", lr=None)]
    assert set_name(asked) == "B100"


def test_sets_stand_in_the_order_of_the_tables_and_others_after_them(tmp_path: Path) -> None:
    for name in ("mine", "Manga109", "Set14", "set5", "Another"):
        touch(tmp_path / name / "HR" / "a.png")
    (tmp_path / "empty").mkdir()
    assert benchmark_names(tmp_path, scale=2) == ["Set5", "Set14", "Manga109", "Another", "mine"]


def test_a_missing_picture_has_the_name_under_which_it_was_looked_for(tmp_path: Path) -> None:
    low = tmp_path / "Set3" / "LR_bicubic" / "X2"
    touch(*(tmp_path / "Set3" / "HR" / name for name in ("a.png", "b.png")), low / "bx2.png")
    assert [pair.lr for pair in benchmark_pairs(tmp_path, "Set3", scale=2)] == [low / "ax2.png", low / "bx2.png"]


def test_what_is_no_set_is_named_with_a_remedy(tmp_path: Path) -> None:
    touch(tmp_path / "Set5" / "HR" / "a.png")
    with pytest.raises(DataError, match=r"holds no test set 'Sets5' \(did you mean 'Set5'\?\); there are Set5"):
        benchmark_pairs(tmp_path, "Sets5", scale=2)
    with pytest.raises(DataError, match="holds no test set; it seems to be one itself: name the folder above it"):
        benchmark_names(tmp_path / "Set5", scale=2)
    with pytest.raises(DataError, match="holds no test set; known layouts are"):
        benchmark_names(tmp_path / "Set5" / "HR", scale=2)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        benchmark_names(tmp_path / "nowhere", scale=2)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_stored_benchmarks_are_complete(data_root: Path, scale: int) -> None:
    for name, count in (("Set5", 5), ("Set14", 14)):
        pairs = benchmark_pairs(data_root / "benchmark", name, scale=scale)
        assert len(pairs) == count
        assert all(pair.lr and pair.lr.is_file() for pair in pairs)
