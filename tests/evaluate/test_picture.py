from __future__ import annotations

from pathlib import Path

import pytest
import torch

from finescale.evaluate import Model, Report, ResultsFolder, Score, benchmark_cases, bicubic, run
from finescale.evaluate.gallery import write_comparisons
from finescale.evaluate.picture import Crop, Panel, comparison_picture, salient_crop, salient_image
from finescale.evaluate.protocol import PAPERS
from finescale.images import read_image
from small_sets import write_set


def test_the_detail_is_where_the_models_differ_most_from_the_baseline() -> None:
    baseline = torch.full((3, 60, 90), 0.5)
    other = baseline.clone()
    other[:, 30:40, 70:80] = 1.0
    crop = salient_crop(baseline, [other, baseline], size=20)
    assert (crop.width, crop.height) == (20, 20)
    assert 20 <= crop.y <= 30
    assert 60 <= crop.x <= 70
    assert salient_crop(baseline, [other], size=200) == Crop(salient_crop(baseline, [other], size=60).x, 0, 60, 60)


def test_the_picture_shown_is_the_one_with_the_largest_gain() -> None:
    scores = [
        Score("bicubic", "Set5", "a", 30.0, 0.9),
        Score("net", "Set5", "a", 31.0, 0.9),
        Score("bicubic", "Set5", "b", 20.0, 0.9),
        Score("net", "Set5", "b", 23.0, 0.9),
        Score("net", "Set5", "c", 90.0, 0.9),
        Score("bicubic", "Set14", "d", 20.0, 0.9),
    ]
    assert salient_image(scores, "Set5", baseline="bicubic") == "b"
    assert salient_image(scores, "Set14", baseline="bicubic") is None


def test_a_comparison_shows_each_detail_enlarged_without_change() -> None:
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 50, 70, generator=generator) for _ in range(6)]
    crop = Crop(30, 10, 24, 20)
    panels = [Panel(f"net {number}\n28.00 dB", image) for number, image in enumerate(images)]
    picture = comparison_picture(images[0], "a & b <c>", panels, crop)
    assert picture.shape[0] == 3
    assert picture.min() >= 0
    assert picture.max() <= 1
    for image in images:
        enlarged = crop.cut(image).repeat_interleave(10, 1).repeat_interleave(10, 2)
        wanted = enlarged[:, :30, :30]
        corners = (picture[0, :-30, :-30] == wanted[0, 0, 0]).nonzero().tolist()
        assert any(torch.equal(picture[:, y : y + 200, x : x + 240], enlarged) for y, x in corners)


def test_a_label_is_written_in_black_on_white_under_its_detail() -> None:
    image = torch.full((3, 40, 40), 0.5)
    pictures = [comparison_picture(image, "t", [Panel(label, image)], Crop(0, 0, 40, 40)) for label in ("x", "a\nb")]
    inked = [(picture < 0.2).all(0).any(1).sum() for picture in pictures]
    assert inked[0] > 0
    assert inked[1] > inked[0]


def test_each_set_gets_a_comparison_and_wrong_wishes_are_refused(tmp_path: Path) -> None:
    root = write_set(write_set(tmp_path / "data", "Set5"), "Set14")
    cases = benchmark_cases(root, scale=2)
    models = [bicubic(scale=2), Model(name="net", upscale=bicubic(scale=2).upscale)]
    results = ResultsFolder(tmp_path / "results", suffix="x2", keep_pictures=False)
    scores = [score for score in run(models, cases, scale=2, results=results) if isinstance(score, Score)]
    report = Report(models=models, scale=2, protocol=PAPERS, scores=scores)
    paths = list(write_comparisons(report, cases, results, baseline="bicubic"))
    assert [path.name for path in paths] == ["Set5_one_x2.png", "Set14_one_x2.png"]
    assert read_image(paths[0]).size[1] > 3 * 240
    chosen = list(write_comparisons(report, cases, results, baseline="bicubic", image="two", crop=(1, 2, 30, 30)))
    assert [path.name for path in chosen] == ["Set5_two_x2.png", "Set14_two_x2.png"]
    with pytest.raises(ValueError, match="no picture 'three' was measured"):
        list(write_comparisons(report, cases, results, baseline="bicubic", image="three"))
    with pytest.raises(ValueError, match="40 x 40 pixels at 20,10 does not lie inside one, which has 50 x 44"):
        list(write_comparisons(report, cases, results, baseline="bicubic", image="one", crop=(20, 10, 40, 40)))
