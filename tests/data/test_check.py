from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from finescale.data import PictureSet, Problem, benchmark_sets, check_pictures, plan_check
from finescale.data.hr_images import write_levels
from finescale.errors import DataError
from pictures import draw


def problems(*sets: PictureSet) -> list[Problem]:
    checklist = plan_check(sets)
    checked = list(check_pictures(checklist, workers=2))
    assert [result.path for result in checked] == list(checklist.pictures)
    return [*checklist.problems, *(problem for result in checked for problem in result.problems)]


def test_a_sound_set_has_no_problems(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / "hr" / f"{number}.png", width=21, height=20, seed=number)
        draw(tmp_path / "lr" / f"{number}x2.png", width=10, height=10, seed=number)
    sound = PictureSet(tmp_path / "hr", {2: tmp_path / "lr"})
    assert problems(sound) == []
    assert plan_check([sound]).num_pairs == 3


def test_every_bad_pair_is_listed(tmp_path: Path) -> None:
    hr, lr = tmp_path / "hr", tmp_path / "lr"
    for number, name in enumerate(("alone", "broken", "half", "good", "wide")):
        draw(hr / f"{name}.png", width=20, height=20, seed=number)
        draw(lr / f"{name}x4.png", width=6 if name == "wide" else 5, height=5)
    (lr / "alonex4.png").rename(lr / "otherx4.png")
    (hr / "broken.png").write_bytes(b"no picture")
    data = (lr / "halfx4.png").read_bytes()
    (lr / "halfx4.png").write_bytes(data[: len(data) // 2])
    found = problems(PictureSet(hr, {4: lr}))
    assert {(problem.kind, problem.path) for problem in found} == {
        ("missing", hr / "alone.png"),
        ("without original", lr / "otherx4.png"),
        ("unreadable", hr / "broken.png"),
        ("unreadable", lr / "halfx4.png"),
        ("mis-sized", lr / "widex4.png"),
    }
    assert len(found) == 5
    assert all(str(problem.path) in problem.reason for problem in found)
    (wide,) = (problem.reason for problem in found if problem.kind == "mis-sized")
    assert wide.endswith("6 x 5 pixels, where an HR image of 20 x 20 needs 5 x 5 at scale 4")


def test_pictures_with_the_same_pixels_are_duplicates_whatever_their_files(tmp_path: Path) -> None:
    levels = draw(tmp_path / "one" / "a.png", width=8, height=9)
    gray = draw(tmp_path / "one" / "g.png", width=8, height=9, gray=True)
    write_levels(tmp_path / "one" / "b.png", levels.flip(-1))
    Image.open(tmp_path / "one" / "a.png").save(tmp_path / "two.bmp")
    (tmp_path / "two").mkdir()
    (tmp_path / "two.bmp").rename(tmp_path / "two" / "a.bmp")
    write_levels(tmp_path / "two" / "g.png", gray.expand(3, -1, -1))
    write_levels(tmp_path / "two" / "t.png", levels.reshape(3, 8, 9))
    one, two = PictureSet(tmp_path / "one"), PictureSet(tmp_path / "two")
    assert [(problem.kind, problem.reason) for problem in problems(one, two)] == [
        ("duplicate", f"{tmp_path / 'two' / name}: the same picture as {tmp_path / 'one' / other}")
        for name, other in (("a.bmp", "a.png"), ("g.png", "g.png"))
    ]


def test_a_folder_without_pictures_is_one_problem_not_one_for_each(tmp_path: Path) -> None:
    for number in range(3):
        draw(tmp_path / "Set" / "HR" / f"{number}.png", seed=number)
    sets = benchmark_sets(tmp_path, scales=(2,))
    assert sets == [PictureSet(tmp_path / "Set" / "HR", {2: tmp_path / "Set" / "LR_bicubic" / "X2"})]
    (problem,) = problems(*sets)
    assert (problem.kind, problem.path) == ("missing", tmp_path / "Set" / "LR_bicubic" / "X2")
    with pytest.raises(DataError, match=r"holds no test set 'Sat' \(did you mean 'Set'"):
        benchmark_sets(tmp_path, ["Sat"], scales=(2,))
    with pytest.raises(DataError, match="HR holds no test set"):
        benchmark_sets(tmp_path / "Set" / "HR", scales=(2,))


def test_test_sets_are_checked_in_every_layout(tmp_path: Path) -> None:
    draw(tmp_path / "One" / "GTmod12" / "a.png", seed=1)
    draw(tmp_path / "HR" / "Two" / "x2" / "b_HR_x2.png", seed=2)
    (tmp_path / "One" / "LRbicx2").mkdir()
    assert benchmark_sets(tmp_path, scales=(2, 3)) == [
        PictureSet(tmp_path / "One" / "GTmod12", {2: tmp_path / "One" / "LRbicx2", 3: tmp_path / "One" / "LRbicx3"}),
        PictureSet(tmp_path / "HR" / "Two" / "x2", {2: tmp_path / "LRBI" / "Two" / "x2"}),
    ]


def test_too_little_memory_for_one_picture_is_a_problem_of_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png")

    def read(_path: Path) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr("finescale.data.check.read_hr_image", read)
    (problem,) = problems(PictureSet(tmp_path))
    assert (problem.kind, problem.reason) == (
        "unreadable",
        f"{tmp_path / 'a.png'}: too little memory; take fewer workers",
    )


def test_the_stored_benchmarks_are_sound(data_root: Path) -> None:
    sets = benchmark_sets(data_root / "benchmark", ["Set5", "Set14"], scales=(2, 3, 4))
    assert problems(*sets) == []
    assert plan_check(sets).num_pairs == 57
