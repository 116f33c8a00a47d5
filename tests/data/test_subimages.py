from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finescale.data import CropSettings, crop_files
from finescale.data.subimages import Part, plan_parts
from finescale.errors import DataError
from finescale.system.jobs import FileReport
from pictures import draw, files_below, stored


def corners(picture: tuple[int, int], **settings: object) -> list[tuple[int, int]]:
    parts = plan_parts(picture, CropSettings.model_validate({"folder": Path("x"), **settings}))
    return [(part.top, part.left) for part in parts]


def crop(paths: list[Path], lr: dict[Path, Path] | None = None, **settings: object) -> list[FileReport]:
    return list(crop_files(paths, CropSettings.model_validate(settings), lr=lr, workers=2))


def test_parts_lie_on_a_grid_row_by_row_with_a_last_one_at_the_far_border() -> None:
    # 1404 pixels: 0 240 480 720, which ends at 1200; 204 remain, so a last part begins at 924. 960 pixels fit exactly.
    assert corners((1404, 960), size=480, step=240) == [
        (top, left) for top in (0, 240, 480, 720, 924) for left in (0, 240, 480)
    ]


@pytest.mark.parametrize(("threshold", "starts"), [(0, [0, 10, 15]), (4, [0, 10, 15]), (5, [0, 10])])
def test_a_rest_that_is_not_wider_than_the_threshold_is_dropped(threshold: int, starts: list[int]) -> None:
    assert corners((20, 35), size=20, step=10, threshold=threshold) == [(0, left) for left in starts]


def test_small_pictures_are_left_out_or_kept_as_they_are() -> None:
    assert corners((19, 50), size=20, step=20) == []
    assert plan_parts((19, 50), CropSettings(folder=Path("x"), size=20, step=20, keep_small=True)) == [
        Part(0, left, 19, 20) for left in (0, 20, 30)
    ]


@given(st.integers(1, 99), st.integers(1, 99), st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None)
def test_parts_lie_inside_and_with_steps_no_longer_than_parts_cover_all(h: int, w: int, size: int, step: int) -> None:
    asked = CropSettings(folder=Path("x"), size=size, step=min(step, size), keep_small=True)
    covered = torch.zeros(1, h, w, dtype=torch.int)
    for part in plan_parts((h, w), asked):
        inside = part.of(covered)
        assert inside.shape == (1, min(size, h), min(size, w))
        inside += 1
    assert (covered > 0).all()


def test_parts_are_the_pixels_at_their_places(tmp_path: Path) -> None:
    levels = draw(tmp_path / "hr" / "0001.png", width=25, height=20)
    (report,) = crop([tmp_path / "hr" / "0001.png"], folder=tmp_path / "sub", size=12, step=8)
    assert report.status == "done"
    names = [path.name for path in report.outputs]
    assert names == [f"0001_s00{number}.png" for number in range(1, 7)]
    for path, (top, left) in zip(report.outputs, [(t, c) for t in (0, 8) for c in (0, 8, 13)], strict=True):
        assert torch.equal(stored(path), levels[:, top : top + 12, left : left + 12])


def test_pairs_are_cut_alike_also_where_the_original_is_uncut(tmp_path: Path) -> None:
    hr, lr = tmp_path / "hr" / "a.png", tmp_path / "lr" / "ax3.png"
    high = draw(hr, width=41, height=38)
    low = draw(lr, width=13, height=12)
    settings = {"folder": tmp_path / "hr_sub", "lr_folder": tmp_path / "lr_sub", "scale": 3, "size": 18, "step": 12}
    (report,) = crop([hr], {hr: lr}, **settings)
    assert (
        files_below(tmp_path / "hr_sub") == files_below(tmp_path / "lr_sub") == {f"a_s00{n}.png" for n in range(1, 10)}
    )
    assert len(report.outputs) == 18
    places = [(top, left) for top in (0, 12, 18) for left in (0, 12, 21)]
    for number, (top, left) in enumerate(places, start=1):
        big, small = (stored(tmp_path / folder / f"a_s00{number}.png") for folder in ("hr_sub", "lr_sub"))
        assert torch.equal(big, high[:, top : top + 18, left : left + 18])
        assert torch.equal(small, low[:, top // 3 : top // 3 + 6, left // 3 : left // 3 + 6])


def test_bad_pairs_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / "hr" / name for name in ("alone.png", "odd.png", "good.png")]
    for path in paths:
        draw(path, width=20, height=20)
    lr = {paths[1]: tmp_path / "lr" / "oddx2.png", paths[2]: tmp_path / "lr" / "goodx2.png"}
    draw(lr[paths[1]], width=10, height=9)
    draw(lr[paths[2]], width=10, height=10)
    settings = {"folder": tmp_path / "a", "lr_folder": tmp_path / "b", "scale": 2, "size": 10, "step": 10}
    alone, odd, good = crop(paths, lr, **settings)
    assert alone.reason == f"{paths[0]}: its low-resolution picture is missing"
    assert odd.reason == (
        f"{lr[paths[1]]}: 10 x 9 pixels, where an HR image of 20 x 20 needs 10 x 10 at scale 2"
    )  # fmt: skip
    assert good.status == "done"


def test_small_pictures_are_named_and_work_goes_on_where_it_stopped(tmp_path: Path) -> None:
    paths = [tmp_path / "hr" / name for name in ("large.png", "small.png")]
    draw(paths[0], width=20, height=20)
    draw(paths[1], width=9, height=30)
    settings = {"folder": tmp_path / "sub", "size": 10, "step": 10}
    large, small = crop(paths, **settings)
    assert (small.status, small.reason) == ("left out", f"{paths[1]}: 9 x 30 pixels are fewer than a part of 10 x 10")
    large.outputs[2].unlink()
    assert crop(paths[:1], **settings)[0].notes == ("3 of 4 parts exist already and are kept",)
    assert crop(paths[:1], **settings)[0].status == "kept"
    large.outputs[2].write_text("mine")
    assert crop(paths[:1], **settings, overwrite=True)[0].status == "done"
    assert stored(large.outputs[2]).shape == (3, 10, 10)
    with pytest.raises(DataError, match=r"was made with size 10, step 10, .* not with size 12, step 10"):
        crop(paths, **{**settings, "size": 12})


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"size": 0}, "greater than or equal to 1"),
        ({"scale": 2}, "scale and lr_folder must be given together"),
        ({"scale": 3, "lr_folder": "y", "size": 10}, "size 10 and step 240 must be multiples of scale 3"),
        ({"scale": 2, "lr_folder": "x"}, "x cannot hold both halves of the pairs"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        CropSettings.model_validate({"folder": "x", **settings})


def test_pairs_need_their_scale(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="low-resolution pictures and their scale must be given together"):
        crop_files([], CropSettings(folder=tmp_path), lr={})
