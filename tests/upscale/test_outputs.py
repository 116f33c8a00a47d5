"""Where results go; the rest is in tests/cli."""

from __future__ import annotations

from pathlib import Path

import pytest

from finescale.system import jobs as file_jobs
from finescale.system.jobs import collision_key
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


def test_every_picture_of_one_name_has_a_result_of_its_own() -> None:
    settings = OutputSettings(folder=Path("out"))
    named = [InputImage(Path(f"in/{folder}/cat.png")) for folder in "abcd"]
    assert outputs(*named, settings=settings) == [
        "out/cat_x2.png",
        "out/cat.png_x2.png",
        "out/c_cat.png_x2.png",
        "out/d_cat.png_x2.png",
    ]
    deep = [
        *named[2:],
        *(InputImage(Path(f"{folder}/{part}/cat.png")) for folder in ("in", "on", "un") for part in "ab"),
    ]
    made = outputs(*deep, settings=settings)
    assert len(set(made)) == len(deep)
    assert made[-1] == "out/un_b_cat.png_x2.png"


def test_a_second_choice_leaves_the_first_choices_of_later_pictures_alone() -> None:
    images = [InputImage(Path(name), Path()) for name in ("cat.jpg", "cat.png", "cat.webp", "cat.png.tif")]
    first = outputs(*images)
    assert first[0] == "cat_x2.png"
    assert first[3] == "cat.png_x2.png"
    assert len(set(first)) == 4
    assert "cat.png_x2.png" not in first[1:3]


def test_what_no_name_is_left_for_fails() -> None:
    images = [InputImage(Path(f"/{name}"), Path()) for name in ("oa.png", "ob.png", "oc.png")]
    jobs, _ = plan_jobs(images, OutputSettings(name="{stem:.1}"), scale=2, network="tiny")
    assert [job.output and job.output.name for job in jobs] == ["o.png", None, None]
    assert jobs[1].reason == "/ob.png: every name for its result is that of another picture or result; rename it"


@pytest.mark.parametrize("name", ["{stem}_x{scale}", "big_{stem}", "{stem:_>8}!"])
@pytest.mark.parametrize("folder", [None, Path("in")])
def test_a_second_run_has_the_results_of_the_first(name: str, folder: Path | None) -> None:
    """Results that lie beside the inputs are found with them then, those of second choice too."""
    settings = OutputSettings(name=name, folder=folder)
    names = ["cat.jpg", "cat.png", "cat.tif", "dog.png", "dog.webp", "dog_x2.webp", "x.png"]
    for within, by_pattern in ((Path(), False), (None, True)):
        images = [InputImage(Path("in") / one, within, by_pattern) for one in names]
        first, left_out = plan_jobs(images, settings, scale=2, network="tiny")
        assert left_out == []
        made = [job.output for job in first if job.output]
        assert len(set(made)) == len(made) >= 3
        found = sorted([*(image.path for image in images), *made])
        again, left_out = plan_jobs(
            [InputImage(path, within, by_pattern) for path in found], settings, scale=2, network="tiny"
        )
        assert again == sorted(first, key=lambda job: job.input)
        assert left_out == sorted(made)


def test_a_result_reached_through_a_link_does_not_replace_an_input(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to("in")
    settings = OutputSettings(folder=tmp_path / "link", name="{stem}", overwrite=True)
    jobs, _ = plan_jobs([InputImage(tmp_path / "in" / "a.png", Path())], settings, scale=2, network="tiny")
    assert jobs[0].output is None
    assert jobs[0].reason == f"{tmp_path}/link/a.png: the result would replace an input"


def test_planning_costs_the_same_for_each_of_many_pictures_beside_their_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Work is counted: each path is made a key once, and compared by its key only."""
    calls = {"keys": 0, "comparisons": 0}

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            calls["comparisons"] += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    def counted(name: str | Path) -> str:
        calls["keys"] += 1
        return Counted(collision_key(name))

    monkeypatch.setattr(file_jobs, "collision_key", counted)
    count = 500
    names = [f"{index:03}{ending}.png" for index in range(count) for ending in ("", "_x2")]
    planned, left_out = plan_jobs(
        [InputImage(Path(name), Path()) for name in names], OutputSettings(), scale=2, network="tiny"
    )
    assert len(planned) == len(left_out) == count
    assert calls["keys"] <= 4 * count
    assert calls["comparisons"] <= 40 * count
