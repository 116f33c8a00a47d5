"""Where results go; the rest is in tests/cli."""

from __future__ import annotations

from pathlib import Path

import pytest

from finescale.upscale.inputs import InputImage
from finescale.upscale.outputs import OutputSettings, plan_jobs


def outputs(*images: InputImage, settings: OutputSettings | None = None) -> list[str | None]:
    jobs, _ = plan_jobs(images, settings or OutputSettings(), scale=2, network="tiny")
    return [job.output and job.output.as_posix() for job in jobs]


def test_folders_below_the_named_one_are_kept() -> None:
    settings = OutputSettings(folder=Path("out"))
    images = (
        InputImage(Path("in/a.png"), Path()),
        InputImage(Path("in/deep/er/a.png"), Path("deep/er")),
        InputImage(Path("x/a.jpg")),
    )
    assert outputs(*images, settings=settings) == ["out/a_x2.png", "out/deep/er/a_x2.png", "out/a.jpg_x2.png"]


def test_names_that_differ_only_in_case_or_composition_do_not_meet() -> None:
    settings = OutputSettings(folder=Path("out"), name="{stem}_{network}")
    assert outputs(InputImage(Path("e\u0301.png")), InputImage(Path("\u00c9.png")), settings=settings) == [
        "out/e\u0301_tiny.png",
        "out/\u00c9.png_tiny.png",
    ]


def test_results_of_an_earlier_run_are_left_out_of_a_folder_but_not_when_named() -> None:
    both = Path("a.png"), Path("a_x2.png")
    jobs, results = plan_jobs([InputImage(path, Path()) for path in both], OutputSettings(), scale=2, network="tiny")
    assert ([job.input for job in jobs], results) == ([both[0]], [both[1]])
    jobs, results = plan_jobs([InputImage(path) for path in both], OutputSettings(), scale=2, network="tiny")
    assert results == []
    assert jobs[0].reason == "a_x2.png: the result would replace an input"
    assert jobs[1].output == Path("a_x2_x2.png")


@pytest.mark.parametrize("name", ["res.jxl", "res.HEIC", "res.gif", "res.jfif", "res.cr2"])
def test_a_picture_that_cannot_be_written_is_not_taken_for_a_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"pictures are not written as \{Path(name).suffix}; name a folder, or a file"
    ):
        OutputSettings(folder=tmp_path / name)
    (tmp_path / name).mkdir()
    assert OutputSettings(folder=tmp_path / name).folder == tmp_path / name
    assert OutputSettings(folder=tmp_path / "v1.2").folder == tmp_path / "v1.2"


def test_standard_output_is_not_taken_for_a_folder() -> None:
    with pytest.raises(ValueError, match="results cannot be written to standard output; name a folder or a file"):
        OutputSettings(folder=Path("-"))
