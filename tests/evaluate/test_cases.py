from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale.errors import DataError, ImageReadError
from finescale.evaluate import Case, benchmark_cases, cases_without_originals
from finescale.images import write_image
from finescale.resize import downsample
from small_sets import picture, write_set


def test_the_original_is_cut_to_what_belongs_to_the_small_picture(tmp_path: Path) -> None:
    case = benchmark_cases(write_set(tmp_path, scale=4), ["set5"], scale=4)[0]
    lr, hr = case.read(scale=4)
    assert (case.set, case.name) == ("Set5", "one")
    assert lr.shape == (3, 11, 12)
    assert hr is not None
    assert torch.equal((hr * 255).round(), picture(45, 50)[:, :44, :48].float())


def test_a_missing_folder_of_small_pictures_is_made_up_for(tmp_path: Path) -> None:
    files = benchmark_cases(write_set(tmp_path / "a", scale=3), scale=3)
    made = benchmark_cases(write_set(tmp_path / "b", scale=3, lr=False), scale=3)
    assert [case.lr for case in made] == [None, None]
    for one, other in zip(files, made, strict=True):
        assert torch.equal(one.read(scale=3)[0], other.read(scale=3)[0])


def test_pictures_to_restore_are_read_and_never_made_of_the_originals(tmp_path: Path) -> None:
    root = write_set(tmp_path / "data", scale=1)
    write_image(root / "Set5" / "LR_bicubic" / "X1" / "onex1.png", torch.full((3, 45, 50), 0.5))
    lr, hr = benchmark_cases(root, ["set5"], scale=1)[0].read(scale=1)
    assert hr is not None
    assert hr.shape == lr.shape == (3, 45, 50)
    assert lr.sub(0.5).abs().max() < 0.01
    with pytest.raises(DataError, match=r"one\.png: no picture to restore; .* such as LR_bicubic/X1"):
        benchmark_cases(write_set(tmp_path / "originals", lr=False), ["set5"], scale=1)
    with pytest.raises(DataError, match=r"one\.png: no picture to restore"):
        Case("Set5", "one", hr=tmp_path / "data" / "Set5" / "HR" / "one.png", lr=None).read(scale=1)


def test_grey_pictures_have_three_equal_channels(tmp_path: Path) -> None:
    grey = picture(24, 24, channels=1)
    write_image(tmp_path / "hr.png", grey.float() / 255)
    write_image(tmp_path / "lr.png", downsample(grey, scale=2).float() / 255)
    lr, hr = Case("Set", "grey", hr=tmp_path / "hr.png", lr=tmp_path / "lr.png").read(scale=2)
    assert hr is not None
    assert lr.shape == (3, 12, 12)
    assert torch.equal(lr[0], lr[2])
    assert torch.equal(hr[0], hr[1])


@pytest.mark.parametrize("size", [(12, 11), (11, 12), (13, 12), (12, 13)])
def test_a_pair_whose_sizes_do_not_belong_together_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    write_image(tmp_path / "hr.png", torch.zeros(3, 50, 51))
    write_image(tmp_path / "lr.png", torch.zeros(3, *size))
    case = Case("Set", "bad", hr=tmp_path / "hr.png", lr=tmp_path / "lr.png")
    sentence = rf"lr\.png: {size[1]} x {size[0]} pixels, where an HR image of 51 x 50 needs 12 x 12 at scale 4"
    with pytest.raises(DataError, match=sentence):
        case.read(scale=4)


def test_files_that_are_missing_or_too_small_are_named(tmp_path: Path) -> None:
    write_image(tmp_path / "hr.png", torch.zeros(3, 3, 3))
    with pytest.raises(ImageReadError, match=r"gone\.png: cannot be read"):
        Case("Set", "bad", hr=tmp_path / "hr.png", lr=tmp_path / "gone.png").read(scale=2)
    with pytest.raises(DataError, match="3 x 3 pixels are too few for scale 4"):
        Case("Set", "bad", hr=tmp_path / "hr.png", lr=None).read(scale=4)


def test_a_folder_without_originals_is_a_set_of_its_own(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", torch.zeros(3, 5, 6))
    (case,) = cases_without_originals(tmp_path)
    assert case == Case(tmp_path.name, "a", hr=None, lr=tmp_path / "a.png")
    assert case.read(scale=4)[1] is None


def test_a_changed_file_changes_the_fingerprint(tmp_path: Path) -> None:
    case = benchmark_cases(write_set(tmp_path), scale=2)[0]
    before = case.fingerprint()
    assert case.hr is not None
    write_image(case.hr, torch.zeros(3, 45, 50))
    assert case.fingerprint()[0] != before[0]
    assert case.fingerprint()[1] == before[1]
