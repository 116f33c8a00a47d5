from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from finescale.data import DegradationSettings, DownsampleSettings, downsample_files, find_hr_images
from finescale.data.degradation import degrade
from finescale.errors import DataError
from finescale.evaluate import benchmark_cases
from finescale.resize import downsample
from pictures import draw, files_below, stored

GOLDEN = Path(__file__).parents[1] / "golden" / "bicubic"


def reports(paths: list[Path], **settings: object) -> list[tuple[str, str | None, tuple[str, ...]]]:
    found = downsample_files(paths, DownsampleSettings.model_validate(settings), workers=2)
    return [(report.status, report.reason, report.notes) for report in found]


@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_the_files_of_the_benchmarks_are_made_bit_for_bit(data_root: Path, tmp_path: Path, name: str) -> None:
    folder = data_root / "benchmark" / name
    settings = DownsampleSettings(folder=tmp_path)
    assert {report.status for report in downsample_files(find_hr_images([folder / "HR"]), settings, workers=2)} == {
        "done"
    }
    expected = files_below(folder / "LR_bicubic")
    assert files_below(tmp_path) == expected
    assert len(expected) == {"Set5": 15, "Set14": 42}[name]
    for path in expected:
        assert torch.equal(stored(tmp_path / path), stored(folder / "LR_bicubic" / path)), path


@pytest.mark.parametrize(
    ("variant", "key"),
    [
        ("A", ""),
        ("uint8", ""),
        ("B", "_double"),
        ("double", "_double"),
        ("C", "_replicate"),
        ("uint8-replicate", "_replicate"),
    ],
)
@pytest.mark.parametrize("case", ["bird_part", "gray_small"])
def test_each_variant_makes_its_golden_files(tmp_path: Path, case: str, variant: str, key: str) -> None:
    with np.load(GOLDEN / f"{case}.npz", allow_pickle=False) as golden:
        Image.fromarray(golden["hr"]).save(tmp_path / "picture.png")
        reports([tmp_path / "picture.png"], folder=tmp_path / "lr", variant=variant)
        for scale in (2, 3, 4):
            made = stored(tmp_path / "lr" / f"X{scale}" / f"picturex{scale}.png")
            assert torch.equal(made, torch.tensor(np.atleast_3d(golden[f"x{scale}{key}"])).permute(2, 0, 1))


def test_uneven_originals_are_cut_for_each_scale_and_that_is_told(tmp_path: Path) -> None:
    levels = draw(tmp_path / "hr" / "comic.png", width=25, height=36)
    assert reports([tmp_path / "hr" / "comic.png"], folder=tmp_path / "lr") == [
        ("done", None, ("cut from 25 x 36 to 24 x 36 for x2, x3, x4",))
    ]
    assert torch.equal(stored(tmp_path / "lr" / "X3" / "comicx3.png"), downsample(levels, scale=3))


def test_cut_originals_are_multiples_of_all_scales_and_their_pictures_fit(tmp_path: Path) -> None:
    levels = draw(tmp_path / "hr" / "comic.png", width=31, height=40)[:, :36, :24]
    settings = {"folder": tmp_path, "scales": (2, 3, 4), "layout": "basicsr", "cut_folder": tmp_path / "GTmod12"}
    assert reports([tmp_path / "hr" / "comic.png"], **settings) == [
        ("done", None, ("cut from 31 x 40 to 24 x 36 for x2, x3, x4, HR",))
    ]
    folders = ("GTmod12", "LRbicx2", "LRbicx3", "LRbicx4")
    assert files_below(tmp_path) == {"hr/comic.png", *(f"{folder}/comic.png" for folder in folders)}
    assert torch.equal(stored(tmp_path / "GTmod12" / "comic.png"), levels)
    assert torch.equal(stored(tmp_path / "LRbicx2" / "comic.png"), downsample(levels, scale=2))


@pytest.mark.parametrize(
    ("layout", "lr", "hr", "files"),
    [
        ("edsr", "Set5/LR_bicubic", "Set5/HR", {"Set5/LR_bicubic/X4/comicx4.png", "Set5/HR/comic.png"}),
        ("basicsr", "Set5", "Set5/GTmod12", {"Set5/LRbicx4/comic.png", "Set5/GTmod12/comic.png"}),
        ("rcan", "LRBI/Set5", "HR/Set5", {"LRBI/Set5/x4/comic_LRBI_x4.png", "HR/Set5/x4/comic_HR_x4.png"}),
    ],
)
def test_every_layout_is_read_back_by_evaluate(layout: str, lr: str, hr: str, files: set[str], tmp_path: Path) -> None:
    levels = draw(tmp_path / "mine" / "comic.png", width=31, height=42)
    root = tmp_path / "root"
    reports([tmp_path / "mine" / "comic.png"], folder=root / lr, cut_folder=root / hr, layout=layout)
    assert files <= files_below(root)
    assert len(files_below(root)) == (6 if layout == "rcan" else 4)
    for scale in (2, 3, 4):
        cut = scale if layout == "rcan" else 12
        (case,) = benchmark_cases(root, ["Set5"], scale=scale)
        assert case.hr is not None
        assert case.lr is not None
        expected = levels[:, : 42 // cut * cut, : 31 // cut * cut]
        assert torch.equal(stored(case.hr), expected)
        assert torch.equal(stored(case.lr), downsample(expected, scale=scale))


def test_pictures_that_are_cut_for_each_scale_are_told_apart(tmp_path: Path) -> None:
    draw(tmp_path / "hr" / "comic.png", width=31, height=42)
    folders = {"folder": tmp_path / "LRBI" / "Set5", "cut_folder": tmp_path / "HR" / "Set5"}
    assert reports([tmp_path / "hr" / "comic.png"], layout="rcan", **folders) == [
        ("done", None, ("cut from 31 x 42 to 30 x 42 for x2, x3, HR", "cut from 31 x 42 to 28 x 40 for x4, HR"))
    ]


def test_an_original_in_the_layout_of_rcan_gives_a_picture_that_is_paired_with_it(tmp_path: Path) -> None:
    path = tmp_path / "HR" / "Set5" / "x4" / "a_HR_x4.png"
    draw(path)
    reports([path], folder=tmp_path / "LRBI" / "Set5", layout="rcan", scales=(4,))
    (case,) = benchmark_cases(tmp_path, scale=4)
    assert (case.name, case.lr) == ("a", tmp_path / "LRBI" / "Set5" / "x4" / "a_LRBI_x4.png")


def test_pictures_at_scale_1_are_degraded_originals_which_are_kept_apart_from_cut_ones(tmp_path: Path) -> None:
    levels = draw(tmp_path / "hr" / "comic.png", width=31, height=40)
    degradation = {"clean": 0, "jpeg": 1, "jpeg_quality": (30, 30)}
    settings = {"folder": tmp_path, "scales": (1, 8), "cut_folder": tmp_path / "cut", "degradation": degradation}
    assert reports([tmp_path / "hr" / "comic.png"], **settings) == [
        ("done", None, ("cut from 31 x 40 to 24 x 40 for x1, x8, HR",))
    ]
    assert files_below(tmp_path) == {"hr/comic.png", "cut/comic.png", "X1/comicx1.png", "X8/comicx8.png"}
    assert torch.equal(stored(tmp_path / "cut" / "comic.png"), levels[:, :40, :24])
    restored, small = stored(tmp_path / "X1" / "comicx1.png"), stored(tmp_path / "X8" / "comicx8.png")
    assert (restored.shape, small.shape) == ((3, 40, 24), (3, 5, 3))
    how = DegradationSettings.model_validate(degradation)
    expected = degrade(levels[:, :40, :24], how, scale=1, seed=0, index=zlib.crc32(b"comic 1"))
    assert torch.equal(restored, expected)
    assert not torch.equal(restored, levels[:, :40, :24])


@pytest.mark.parametrize("scale", [8, 16])
def test_pictures_a_sixteenth_as_large_are_the_exact_bicubic(tmp_path: Path, scale: int) -> None:
    levels = draw(tmp_path / "hr" / "comic.png", width=50, height=40)
    reports([tmp_path / "hr" / "comic.png"], folder=tmp_path / "lr", scales=(scale,))
    made = stored(tmp_path / "lr" / f"X{scale}" / f"comicx{scale}.png")
    assert torch.equal(made, downsample(levels, scale=scale))
    assert made.shape == (3, 40 // scale, 50 // scale)


def test_what_exists_is_kept_and_the_rest_is_made(tmp_path: Path) -> None:
    paths = [tmp_path / "hr" / "a.png", tmp_path / "hr" / "b.png"]
    for path in paths:
        draw(path)
    reports(paths[:1], folder=tmp_path / "lr", scales=(2,))
    mine = tmp_path / "lr" / "X2" / "bx2.png"
    mine.write_text("mine")
    first, second = reports(paths, folder=tmp_path / "lr", scales=(2, 4))
    assert first[2][0] == second[2][0] == "1 of 2 results exist already and are kept"
    assert mine.read_text() == "mine"
    assert {status for status, _, _ in reports(paths, folder=tmp_path / "lr", scales=(2, 4))} == {"kept"}
    reports(paths, folder=tmp_path / "lr", scales=(2, 4), overwrite=True)
    assert stored(mine).shape == (3, 5, 6)


def test_bad_pictures_fail_with_their_names_and_the_others_are_done(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("bad.png", "good.png", "good.bmp", "tiny.png")]
    paths[0].write_bytes(b"no picture")
    draw(paths[1])
    draw(paths[2])
    draw(paths[3], width=3, height=9)
    bad, good, same, tiny = reports(paths, folder=tmp_path / "lr", scales=(4,))
    assert (bad[0], good[0], same[0], tiny[0]) == ("failed", "done", "failed", "failed")
    assert f"{paths[0]}: not an image" in str(bad[1])
    assert f"{paths[2]}: its results would have the same names as those of {paths[1]}" in str(same[1])
    assert tiny[1] == f"{paths[3]}: 3 x 9 pixels cannot be cut to a multiple of 4"
    assert files_below(tmp_path / "lr") == {"X4/goodx4.png"}


def test_a_folder_is_not_mixed_from_two_variants(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    reports([tmp_path / "a.png"], folder=tmp_path / "lr", variant="uint8", scales=(2,))
    reports([tmp_path / "a.png"], folder=tmp_path / "lr", variant="A", scales=(3,))
    with pytest.raises(DataError, match=r"was made with variant A, .* not with variant B, "):
        reports([tmp_path / "a.png"], folder=tmp_path / "lr", variant="double", scales=(4,), overwrite=True)


def test_originals_are_never_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "X2" / "a.png"
    draw(path)
    with pytest.raises(ValueError, match="X2 holds the originals"):
        reports([path], folder=tmp_path, scales=(2,), overwrite=True)
    with pytest.raises(ValueError, match="LRbicx2 is for low-resolution pictures"):
        reports([path], folder=tmp_path, layout="basicsr", scales=(2,), cut_folder=tmp_path / "LRbicx2")
    assert files_below(tmp_path) == {"X2/a.png"}


@pytest.mark.parametrize("scales", [(), (1,), (17,), (2, 2)])
def test_scales_that_make_no_sense_are_refused(tmp_path: Path, scales: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="scales"):
        DownsampleSettings(folder=tmp_path, scales=scales)
