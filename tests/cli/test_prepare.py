"""``finescale prepare`` through its entry point: what it makes, what it says, how it ends."""

from __future__ import annotations

import json
import signal
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch

from finescale.cli import console
from finescale.cli.main import run
from finescale.data import DegradationSettings, degrade, open_cache
from finescale.resize import downsample
from pictures import draw, files_below, stored


def prepare(*arguments: object) -> int:
    return run(["prepare", *map(str, arguments)])


def report(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def hr(tmp_path: Path) -> Path:
    """Two originals of different sizes."""
    draw(tmp_path / "hr" / "a.png", width=24, height=36, seed=1)
    draw(tmp_path / "hr" / "b.png", width=25, height=25, seed=2)
    return tmp_path / "hr"


def interrupt_at_the_first_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C whenever a picture is reported done."""
    say = console.say

    def say_and_interrupt(text: str) -> None:
        say(text)
        if text.startswith("done: "):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(console, "say", say_and_interrupt)


@pytest.fixture
def bad_hr(hr: Path) -> Path:
    """The same with a file that is none."""
    (hr / "bad.png").write_bytes(b"no picture")
    return hr


# ---- downsample


def test_downsampling_makes_all_three_scales_and_touches_no_original(hr: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in hr.iterdir()}
    assert prepare("downsample", hr, "-o", tmp_path / "lr", "--workers", 2) == 0
    assert files_below(tmp_path / "lr") == {f"X{s}/{name}x{s}.png" for s in (2, 3, 4) for name in "ab"}
    assert {path: path.read_bytes() for path in hr.iterdir()} == before


@pytest.mark.parametrize(("given", "letter"), [("double", "B"), ("C", "C")])
def test_scale_variant_layout_and_cut_are_as_asked(hr: Path, tmp_path: Path, given: Any, letter: Any) -> None:
    out = tmp_path / "out"
    arguments = ("-s", "2,4", "--variant", given, "--layout", "basicsr", "--cut-hr", out / "GTmod4")
    assert prepare("downsample", hr, "-o", out, *arguments) == 0
    assert files_below(out) == {f"{folder}/{name}.png" for folder in ("LRbicx2", "LRbicx4", "GTmod4") for name in "ab"}
    cut = stored(hr / "b.png")[:, :24, :24]
    assert torch.equal(stored(out / "GTmod4" / "b.png"), cut)
    assert torch.equal(stored(out / "LRbicx4" / "b.png"), downsample(cut, scale=4, variant=letter))


def test_degraded_pictures_are_made_from_the_fields_of_a_file(
    hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photo.yml").write_text("clean: 0\nnoise: 1\n", encoding="utf-8")
    asked = ("--degradation", tmp_path / "photo.yml", "-s", 2)
    for folder, seed in (("one", 0), ("again", 0), ("other", 1)):
        assert prepare("downsample", hr, "-o", tmp_path / folder, *asked, "--seed", seed) == 0
    one, again, other = (stored(tmp_path / folder / "X2" / "ax2.png") for folder in ("one", "again", "other"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    settings = DegradationSettings(clean=0, noise=1)
    index = zlib.crc32(b"a 2")
    assert torch.equal(one, degrade(stored(hr / "a.png"), settings, scale=2, seed=0, index=index))
    capsys.readouterr()
    assert prepare("downsample", hr, "-o", tmp_path / "one", "-s", 2) == 1
    assert "was made with" in capsys.readouterr().err
    assert prepare("downsample", hr, "-o", tmp_path / "new", *asked, "--variant", "double") == 1
    assert "variant must be 'uint8' where pictures are degraded" in " ".join(capsys.readouterr().err.split())


def test_what_was_done_is_told_line_by_line_and_in_the_report(
    bad_hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lr"
    assert prepare("downsample", bad_hr, "-o", out, "-s", 2, "--json") == 2
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        f"done: {bad_hr / 'a.png'} -> {out / 'X2' / 'ax2.png'}",
        f"done: {bad_hr / 'b.png'} -> {out / 'X2' / 'bx2.png'}",
        f"note: {bad_hr / 'b.png'}: cut from 25 x 25 to 24 x 24 for x2",
        f"failed: {bad_hr / 'bad.png'}: not an image (its first bytes are not those of PNG, JPEG, WebP, TIFF, GIF, "
        "AVIF, HEIC, BMP)",
        "2 done, 1 failed",
    ]
    facts = json.loads(told.out)
    assert (facts["output"], facts["whole"]) == (str(out), True)
    assert facts["files"][1] == {
        "input": str(bad_hr / "b.png"),
        "status": "done",
        "outputs": [str(out / "X2" / "bx2.png")],
        "reason": None,
        "notes": ["cut from 25 x 25 to 24 x 24 for x2"],
    }
    assert prepare("downsample", bad_hr, "-o", out, "-s", 2, "--json") == 2
    assert [file["status"] for file in report(capsys)["files"]] == ["kept", "kept", "failed"]
    assert prepare("downsample", bad_hr, "-o", out, "-s", 2, "--json", "--overwrite") == 2
    assert [file["status"] for file in report(capsys)["files"]] == ["done", "done", "failed"]


def test_an_interrupt_ends_after_the_picture_at_hand_and_the_next_run_goes_on(
    hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(9):
        draw(hr / f"more{number}.png", seed=number)

    with monkeypatch.context() as patch:
        interrupt_at_the_first_result(patch)
        assert prepare("downsample", hr, "-o", tmp_path / "lr", "-s", 2, "--workers", 1, "--json") == 130
    told = capsys.readouterr()
    assert "1 done, 10 not started" in told.err
    assert json.loads(told.out)["whole"] is False
    made = files_below(tmp_path / "lr")
    assert 1 <= len(made) < 11
    assert prepare("downsample", hr, "-o", tmp_path / "lr", "-s", 2, "--json") == 0
    statuses = [file["status"] for file in report(capsys)["files"]]
    assert (statuses.count("kept"), statuses.count("done")) == (len(made), 11 - len(made))


# ---- crops


def test_crops_are_cut_with_their_low_resolution_pictures(
    hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("downsample", hr, "-o", tmp_path / "lr", "-s", 2) == 0
    lr = tmp_path / "lr" / "X2"
    draw(lr / "strangerx2.png")
    capsys.readouterr()
    arguments = ("--size", 16, "--step", 8, "--threshold", 2, "--lr", lr, "--lr-output", tmp_path / "lr_sub", "-s", 2)
    assert prepare("crops", hr, "-o", tmp_path / "hr_sub", *arguments, "--json") == 2
    assert files_below(tmp_path / "hr_sub") == files_below(tmp_path / "lr_sub")
    assert len(files_below(tmp_path / "hr_sub")) == 2 * 4 + 2 * 2
    stranger, *others = report(capsys)["files"]
    assert stranger["reason"] == f"{lr / 'strangerx2.png'}: its original is missing"
    assert [file["status"] for file in others] == ["done", "done"]


def test_small_pictures_are_named_and_left_out_or_kept(
    hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("crops", hr, "-o", tmp_path / "sub", "--size", 25, "--step", 20) == 0
    told = capsys.readouterr().err
    assert f"left out: {hr / 'a.png'}: 24 x 36 pixels are fewer than a part of 25 x 25" in told
    assert "1 done, 1 left out" in told
    assert prepare("crops", hr, "-o", tmp_path / "all", "--size", 25, "--step", 20, "--keep-small") == 0
    assert files_below(tmp_path / "all") == {"a_s001.png", "a_s002.png", "b_s001.png"}


# ---- cache and lmdb


def test_a_cache_is_made_and_kept(bad_hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("cache", bad_hr, "-o", tmp_path / "cache", "--json") == 2
    assert [file["status"] for file in report(capsys)["files"]] == ["done", "done", "failed"]
    assert torch.equal(open_cache(tmp_path / "cache")[1], stored(bad_hr / "b.png"))
    (bad_hr / "bad.png").unlink()
    assert prepare("cache", bad_hr, "-o", tmp_path / "cache") == 1
    assert "is a cache of other pictures, or they have changed" in capsys.readouterr().err
    assert prepare("cache", bad_hr, "-o", tmp_path / "cache", "--overwrite", "--workers", 2) == 0
    assert prepare("cache", bad_hr, "-o", tmp_path / "cache") == 0
    assert capsys.readouterr().err.endswith("2 kept\n")


def test_an_interrupted_cache_is_not_made(
    hr: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_at_the_first_result(monkeypatch)
    assert prepare("cache", hr, "-o", tmp_path / "cache", "--json") == 130
    assert report(capsys)["whole"] is False
    assert [path.name for path in tmp_path.iterdir()] == ["hr"]


def test_an_lmdb_is_made(hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lmdb")
    (hr / "a.png").rename(hr / "ax2.png")
    assert prepare("lmdb", hr, "-o", tmp_path / "lr.lmdb", "--drop-ending", "x2", "--json") == 2
    assert [file["status"] for file in report(capsys)["files"]] == ["done", "failed"]
    assert (tmp_path / "lr.lmdb" / "meta_info.txt").read_text() == "a.png (36,24,3) 1\n"


# ---- check


def test_a_sound_folder_is_reported_sound(hr: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("check", hr) == 0
    assert capsys.readouterr().err == "originals: 2, pairs: 0, problems: 0\n"


def test_problems_are_listed_and_counted(bad_hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path / "lr" / "ax3.png", width=8, height=11)
    draw(tmp_path / "lr" / "badx3.png")
    assert prepare("check", bad_hr, "--lr", tmp_path / "lr", "-s", 3, "--json", "--workers", 2) == 2
    told = capsys.readouterr()
    facts = json.loads(told.out)
    assert {key: facts[key] for key in ("whole", "originals", "pairs")} == {"whole": True, "originals": 3, "pairs": 2}
    assert {(problem["kind"], Path(problem["path"]).name) for problem in facts["problems"]} == {
        ("missing", "b.png"),
        ("mis-sized", "ax3.png"),
        ("unreadable", "bad.png"),
    }
    assert told.err.endswith("originals: 3, pairs: 2, problems: 3\n")
    assert (
        f"mis-sized: {tmp_path / 'lr' / 'ax3.png'}: 8 x 11 pixels, where an HR image of 24 x 36 needs 8 x 12"
        in told.err
    )


def test_test_sets_are_checked_below_their_root(hr: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("SetA", "SetB"):
        draw(tmp_path / "root" / name / "HR" / "a.png", width=12, height=12, seed=len(name))
        assert prepare(
            "downsample", tmp_path / "root" / name / "HR", "-o", tmp_path / "root" / name / "LR_bicubic", "-s", "2,4"
        ) == 0  # fmt: skip
    capsys.readouterr()
    assert prepare("check", "--root", tmp_path / "root", "--sets", "SetA", "-s", "2,4", "--json") == 0
    assert report(capsys)["pairs"] == 2
    assert prepare("check", "--root", tmp_path / "root", "--json") == 2
    kinds = [problem["kind"] for problem in report(capsys)["problems"]]
    assert kinds == ["missing", "missing", "duplicate"]  # scale 3 of both; and SetB's picture is SetA's


def test_an_interrupted_check_tells_what_it_found(
    hr: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from finescale.data import check

    read = check.read_hr_image

    def interrupted(path: Path) -> Any:
        signal.raise_signal(signal.SIGINT)
        return read(path)

    monkeypatch.setattr(check, "read_hr_image", interrupted)
    assert prepare("check", hr, "--workers", 1, "--json") == 130
    assert report(capsys)["whole"] is False


# ---- wrong usage


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["downsample", "HR"], "Missing option '-o' / '--output'."),
        (["downsample", "nowhere", "-o", "x"], "nowhere is not a folder; name the folder that holds the pictures"),
        (
            ["downsample", "HR", "-o", "x", "-s", "two"],
            "--scale must be one or several numbers such as 2,3,4, got 'two'",
        ),
        (
            ["downsample", "HR", "-o", "x", "-s", "1"],
            "scales with 1 need a degradation; without, pictures at scale 1 are the HR images",
        ),
        (["downsample", "HR", "-o", "x", "--variant", "cubic"], "'variant': input should be 'A', 'uint8', "),
        (
            ["downsample", "HR", "-o", "x", "--layout", "flat"],
            "'layout': input should be 'edsr', 'basicsr' or 'rcan', got 'flat'",
        ),
        (["downsample", "HR", "-o", "x", "--cut-hr", "HR"], "HR holds the originals; name another folder"),
        (["downsample", "HR", "-o", "x", "--workers", "0"], "Invalid value for '--workers'"),
        (["crops", "HR", "-o", "HR"], "HR holds the originals; name another folder for the results"),
        (["crops", "HR", "-o", "x", "--step", "0"], "'step': input should be greater than or equal to 1, got 0"),
        (["crops", "HR", "-o", "x", "-s", "2"], "--lr, --lr-output and --scale must be given together"),
        (["cache", "HR", "-o", "HR"], "HR holds other files (a.png, b.png); name a new folder"),
        (["lmdb", "HR", "-o", "x"], "the name of an LMDB must end in .lmdb, got x"),
        (["check"], "give either folders of originals or --root"),
        (["check", "HR", "--root", "R"], "give either folders of originals or --root"),
        (["check", "HR", "--sets", "Set5"], "--sets needs --root"),
        (["check", "HR", "--lr", "L"], "--lr and one --scale must be given together, for one folder of originals"),
        (["check", "HR", "--lr", "L", "-s", "2,3"], "--lr and one --scale must be given together"),
        (["check", "HR", "G", "--lr", "L", "-s", "2"], "for one folder of originals"),
        (["check", "HR", "-s", "2"], "--lr and one --scale must be given together"),
        (["check", "--root", "R", "--lr", "L"], "--lr and --root are mutually exclusive"),
        (["check", "--root", "HR"], "HR holds no test set"),
    ],
)
def test_wrong_usage_is_one_sentence_and_makes_nothing(
    arguments: list[str],
    sentence: str,
    hr: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if arguments[0] == "lmdb":
        pytest.importorskip("lmdb")
    hr.rename(tmp_path / "HR")
    monkeypatch.chdir(tmp_path)
    assert prepare(*arguments) == 1
    told = capsys.readouterr()
    assert told.err.startswith("finescale: ")
    assert sentence in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert files_below(tmp_path) == {"HR/a.png", "HR/b.png"}
