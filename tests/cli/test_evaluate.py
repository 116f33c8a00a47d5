"""``finescale evaluate`` through its entry point: tables, reports, files, and how it ends."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from finescale import images
from finescale.cli.main import run
from small_sets import picture, write_set

ENTRY_POINT = Path(sys.executable).with_name("finescale")


def evaluate(*arguments: object) -> int:
    return run(["evaluate", *map(str, arguments)])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_set(write_set(tmp_path / "data", "Set14"), "set5")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_leaves_its_report_in_three_forms_and_the_pictures(
    data: Path, tiny_weights: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in data.rglob("*.png")}
    assert evaluate("-n", tiny_weights, "-n", "default", "-s", 2, "--data", data, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["set"]) for row in report["rows"]] == [
        (model, name) for model in ("bicubic", "tiny_x2", "default") for name in ("Set5", "Set14")
    ]
    for row in report["rows"]:
        assert row["scale"] == 2
        assert row["images"] == 2
        assert row["protocol"] == "papers"
        assert row["published_psnr"] is None
        assert row["psnr"] > 0
        assert 0 < row["ssim"] < 1
    assert (report["rows"][0]["tiles"], report["rows"][2]["tiles"]) == (None, "whole")
    assert report["rows"][4]["precision"] == "float32"
    folder = here / "results" / "tiny_x2_default_x2"
    assert json.loads((folder / "report.json").read_text()) == report
    lines = list(csv.DictReader((folder / "report.csv").read_text().splitlines()))
    assert len(lines) == 12
    mean = sum(float(line["psnr"]) for line in lines if (line["model"], line["set"]) == ("default", "Set5")) / 2
    assert mean == pytest.approx(report["rows"][4]["psnr"], abs=1e-12)
    assert "| default |" in (folder / "report.md").read_text()
    assert images.read_image(folder / "images" / "default" / "Set5" / "one_x2.png").size == (44, 50)
    assert {path: path.read_bytes() for path in before} == before


def test_a_second_run_takes_what_is_finished_and_says_the_same(
    data: Path, tiny_weights: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("-n", tiny_weights, "--data", data, "--name", "mine")
    assert evaluate(*flags, "--sets", "Set5") == 0
    assert evaluate(*flags) == 0
    told = capsys.readouterr()
    assert told.err.count("kept: ") == 4
    assert told.err.count("done: ") == 4 + 4
    before = {path: path.read_bytes() for path in (here / "results" / "mine").glob("report.*")}
    assert evaluate(*flags, "--overwrite") == 0
    assert "kept: " not in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert len(before) == 3


def test_the_table_can_be_read_when_piped(data: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("-n", tiny_weights, "--data", data, "--no-save-images") == 0
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert lines[0] == "PSNR (dB) / SSIM at x2, protocol papers"
    assert lines[1].split() == ["model", "Set5", "Set14"]
    assert [line.split()[0] for line in lines[2:4]] == ["bicubic", "tiny_x2"]
    assert "tiny_x2 - bicubic" in told.out
    assert "results: results/tiny_x2_x2" in told.err
    assert not Path("results/tiny_x2_x2/images").exists()


def test_published_values_stand_beside_a_file_of_the_authors_name(
    data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from finescale import networks

    torch.manual_seed(0)
    torch.save({"params": networks.build("craft", scale=2).state_dict()}, here / "CRAFT_MODEL_X2.pth")
    assert evaluate("-n", "CRAFT_MODEL_X2.pth", "--data", data, "--sets", "set5", "--json") == 0
    row = json.loads(capsys.readouterr().out)["rows"][1]
    assert (row["published_psnr"], row["published_ssim"]) == (38.23, 0.9615)
    assert row["psnr_difference"] == pytest.approx(row["psnr"] - 38.23)
    assert row["padding"] == "mirror, to the next multiple of 16"


def test_bad_pairs_are_named_left_out_and_told_by_the_exit_code(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low = data / "set5" / "LR_bicubic" / "X2"
    (low / "onex2.png").unlink()
    images.write_image(data / "Set14" / "LR_bicubic" / "X2" / "twox2.png", torch.zeros(3, 21, 31))
    assert evaluate("-n", "bicubic", "-s", 2, "--data", data, "--json") == 2
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert [(row["set"], row["images"], row["failed"]) for row in report["rows"]] == [("Set5", 1, 1), ("Set14", 1, 1)]
    assert [(one["set"], one["image"], one["model"]) for one in report["failed"]] == [
        ("Set5", "one", None),
        ("Set14", "two", None),
    ]
    assert "failed: " in told.err
    assert "onex2.png: cannot be read" in told.err
    assert "31 x 21 pixels, where an HR image of 62 x 40 needs 31 x 20" in told.err


def test_missing_small_pictures_are_made_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_set(tmp_path / "hr", "BSD100", lr=False)
    assert evaluate("-n", "bicubic", "-s", 3, "--data", root, "--sets", "bsds100", "--json") == 0
    told = capsys.readouterr()
    assert "note: B100: no low-resolution pictures at x3; made from the originals" in told.err
    assert json.loads(told.out)["rows"][0]["low_resolution"] == "made"


def test_pictures_without_originals_are_upscaled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small").mkdir()
    images.write_image(tmp_path / "small" / "a.png", picture(9, 12).float() / 255)
    assert evaluate("-n", "default", "-s", 2, "--lr", tmp_path / "small", "--json") == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [(row["psnr"], row["images"]) for row in rows] == [(None, 1), (None, 1)]
    assert images.read_image(Path("results/default_x2/images/default/small/a_x2.png")).size == (18, 24)


FOLDERS = [("--hr", "--lr", "-n"), ("--input", "--folder_lq", "--model_path")]


@pytest.mark.parametrize(("hr", "lr", "model"), FOLDERS)
def test_two_folders_are_measured_on_luma_and_rgb_in_one_run(
    hr: str, lr: str, model: str, data: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = data / "set5"
    assert evaluate(model, tiny_weights, hr, folder / "HR", lr, folder / "LR_bicubic" / "X2", "-o", "both") == 0
    assert "PSNR (dB) / SSIM at x2 on RGB" in capsys.readouterr().out
    found = json.loads(Path("both/report.json").read_text())["rows"]
    for protocol, keys in (("papers", ("psnr", "ssim")), ("rgb", ("psnr_rgb", "ssim_rgb"))):
        assert evaluate("-n", tiny_weights, "--data", data, "--sets", "Set5", "--protocol", protocol, "--json") == 0
        expected = json.loads(capsys.readouterr().out)["rows"]
        values = [{**row, **row["metrics"]} for row in found]
        assert [row["set"] for row in values] == ["Set5", "Set5"]
        assert [[row[key] for key in keys] for row in values] == [[row["psnr"], row["ssim"]] for row in expected]


def test_originals_alone_are_measured_on_what_is_made_of_them(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("-n", "bicubic", "-s", 2, "--hr", data / "set5" / "HR", "--json") == 0
    assert [row["low_resolution"] for row in json.loads(capsys.readouterr().out)["rows"]] == ["made"]


def test_the_text_log_has_the_time_and_the_lines_that_users_search(
    data: Path, tiny_weights: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("-n", tiny_weights, "--data", data, "--sets", "Set5", "--json") == 0
    row = json.loads(capsys.readouterr().out)["rows"][1]
    (log,) = (here / "results" / "tiny_x2_x2").glob("test_*.log")
    text = log.read_text()
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO: done: tiny_x2: Set5 one: ", text, re.MULTILINE)
    assert f"INFO: Validation Set5, tiny_x2\n\t # psnr: {row['psnr']:.4f}\n\t # ssim: {row['ssim']:.4f}\n" in text


def test_only_the_first_of_several_processes_evaluates(
    data: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("-n", "bicubic", "-s", 2, "--data", data, "--launcher", "pytorch")
    monkeypatch.setenv("RANK", "1")
    assert evaluate(*flags) == 0
    assert capsys.readouterr().err == ""
    assert not (here / "results").exists()
    monkeypatch.setenv("RANK", "0")
    assert evaluate(*flags) == 0
    assert "note: --launcher pytorch" in capsys.readouterr().err


def test_a_comparison_picture_is_made_when_it_is_asked_for(
    data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("-n", "default", "-s", 2, "--data", data, "--compare-picture")
    assert evaluate(*flags, "--sets", "Set5", "--picture", "one", "--crop", "4,4,30,30", "-o", "out") == 0
    assert "picture: out/comparison/Set5_one_x2.png" in capsys.readouterr().err
    assert images.read_image(here / "out" / "comparison" / "Set5_one_x2.png").size[1] > 720


def test_a_protocol_tiles_and_ensemble_are_followed_and_stated(
    data: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--tile-rule", "chop", "--ensemble", "--precision", "bf16", "--protocol", "rgb")
    assert evaluate("-n", tiny_weights, "--data", data, "--sets", "Set5", *flags, "--json") == 0
    bicubic, row = json.loads(capsys.readouterr().out)["rows"]
    assert (row["tiles"], row["ensemble"], row["precision"]) == ("chop", True, "bf16")
    assert (row["protocol"], row["channel"], row["border"]) == ("rgb", "rgb", 2)
    assert (bicubic["ensemble"], bicubic["channel"]) == (None, "rgb")


def option_file(data: Path, weights: Path) -> str:
    """A published option file for testing, on one set."""
    return f"""
name: published
model_type: HiTModel
scale: 2
datasets:
  test_1: {{name: Set14, type: PairedImageDataset, dataroot_gt: {data}/Set14/HR,
    dataroot_lq: {data}/Set14/LR_bicubic/X2, filename_tmpl: '{{}}x2', io_backend: {{type: disk}}}}
network_g: {{type: HiT_SIR, upscale: 2, embed_dim: 48, depths: [2, 1], num_heads: [2, 1], base_win_size: [4, 4],
  hier_win_ratios: [0.5, 2], expansion_factor: 2, upsampler: pixelshuffledirect}}
path: {{pretrain_network_g: {weights}, strict_load_g: true}}
val: {{save_img: true, suffix: mine, metrics: {{psnr: {{type: calculate_psnr, crop_border: 2, test_y_channel: true}}}}}}
"""


@pytest.mark.parametrize("form", ["argument", "--option-file", "-opt", "--opt"])
def test_a_published_option_file_is_run(
    form: str, data: Path, tiny_weights: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = here / "test_x2.yml"
    file.write_text(option_file(data, tiny_weights))
    arguments = [file] if form == "argument" else [form, file]
    assert evaluate(*arguments, "--json") == 0
    told = capsys.readouterr()
    assert [(row["model"], row["set"]) for row in json.loads(told.out)["rows"]] == [
        ("bicubic", "Set14"),
        ("tiny_x2", "Set14"),
    ]
    (note,) = (line for line in told.err.splitlines() if line.startswith("note: "))
    assert all(word in note for word in ("model_type", "path.strict_load_g", "expansion_factor"))
    assert (here / "results" / "published" / "visualization" / "Set14" / "one_mine.png").is_file()
    assert evaluate(*arguments, "-n", "default") == 1
    assert "an option file already states all of this; omit -n" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([], "no MODEL"),
        (["-n", "defualt", "-s", "2"], "did you mean 'default'?"),
        (["-n", "default", "-s", "5"], "scale must be 2, 3 or 4 for default, got 5"),
        (["-n", "default"], "holds no test set"),
        (["-n", "bicubic"], "bicubic has no scale of its own"),
        (["-n", "bicubic", "-s", "0"], "scale must be a whole number from 1 to 16, got 0"),
        (["-n", "default", "-s", "2", "--sets", "Set15"], "there are Set5, Set14"),
        (["-n", "default", "-s", "2", "--protocol", "paper"], "did you mean 'papers'?"),
        (["-n", "default", "-s", "2", "-t", "atuo"], "tile"),
        (["-n", "default", "-s", "2", "--tile-rule", "chops"], "'rule'"),
        (["-n", "default", "-s", "2", "--tile-rule", "chop", "-t", "64"], "leave both at their defaults"),
        (["-n", "default", "-s", "2", "--precision", "float8"], "float8"),
        (["-n", "default", "-s", "2", "--device", "toaster"], "toaster"),
        (["-n", "default", "-s", "2", "--crop", "1,2,3,4"], "need --compare-picture"),
        (["-n", "default", "-s", "2", "--compare-picture", "--crop", "1,2"], "x,y,width,height"),
        (["-n", "default", "-s", "2", "--name", "a", "-o", "b"], "are mutually exclusive"),
        (["-n", "default", "-s", "2", "--engine", "auto"], "engine must be 'torch', 'compile', 'openvino'"),
        (["-n", "default", "-s", "2", "--lr", "small"], "give --data, .* or --lr"),
        (["a.yml", "--option-file", "b.yml"], "name one option file, got two"),
        (["nowhere.yml"], "omit --data"),
        (["-opt", "nowhere.yml"], "omit --data"),
        (["-optt", "nowhere.yml"], "no such option: -optt (did you mean --opt?)"),
        (["-n", "default", "-s", "2", "--hr", "originals"], "give --data, .* or --hr"),
    ],
)
def test_wrong_usage_is_one_sentence_and_exit_code_1(
    flags: list[str], sentence: str, data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = data if "holds no" not in sentence else here / "data" / "Set14" / "HR"
    assert evaluate(*flags, "--data", where) == 1
    told = capsys.readouterr()
    assert re.search(re.escape(sentence).replace(r"\.\*", ".*"), told.err)
    assert len(told.err.splitlines()) == 1
    assert told.out == ""
    assert not (here / "results").exists()


def test_metrics_without_pyiqa_are_refused_with_the_install_line(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("finescale.evaluate.perceptual.importlib.util.find_spec", lambda name: None)
    assert evaluate("-n", "default", "-s", 2, "--data", data, "--metrics", "lpips,niqe") == 1
    assert "pip install 'finescale[perceptual]'" in capsys.readouterr().err


def test_an_interrupted_run_ends_with_130_and_goes_on_where_it_was(tiny_weights: Path, tmp_path: Path) -> None:
    sizes = {f"{index:02}": (400, 400) for index in range(20)}
    data = write_set(tmp_path / "many", sizes=sizes)
    command = [ENTRY_POINT, "evaluate", "-n", tiny_weights, "--data", data, "-o", tmp_path / "out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    log = tmp_path / "out" / "finished.jsonl"
    deadline = time.monotonic() + 120
    while not log.exists() or len(log.read_bytes().splitlines()) < 4:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    finished = len(log.read_bytes().splitlines())
    assert said.endswith(
        f"{finished} of 40 results are finished; run the same command to continue\nfinescale: interrupted\n"
    )
    assert "Traceback" not in said
    assert not (tmp_path / "out" / "report.json").exists()
    assert 4 <= finished < 40
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True, timeout=240)
    assert done.stderr.count("kept: ") == finished
    assert done.stderr.count("done: ") == 40 - finished


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--name", "../../x"), "--name must be a name without folders, got '../../x'"),
        (("--name", ".."), "--name must be a name without folders, got '..'"),
        (("--name", "x" * 300), "--name must have at most 255 bytes, got 'xxx"),
        (("-o", "x" * 300), "cannot be used (File name too long); name another folder for the results"),
    ],
)
def test_a_name_that_cannot_be_is_one_sentence_and_nothing_is_written(
    flags: tuple[str, str], sentence: str, data: Path, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(here.parent.rglob("*"))
    assert evaluate("-n", "bicubic", "-s", 2, "--data", data, *flags) == 1
    told = capsys.readouterr().err
    assert sentence in told
    assert "Traceback" not in told
    assert sorted(here.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "change",
    [
        ("name: published", "name: ../../x"),
        ("name: Set14", "name: ../../x"),
        ("suffix: mine", "suffix: a/../../../../../x"),
    ],
)
@pytest.mark.parametrize("flags", [(), ("--no-save-images", "--compare-picture")], ids=["pictures", "comparison"])
def test_an_option_file_writes_nowhere_else(
    change: tuple[str, str],
    flags: tuple[str, ...],
    data: Path,
    tiny_weights: Path,
    here: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = option_file(data, tiny_weights)
    assert change[0] in text
    (here / "test_x2.yml").write_text(text.replace(*change))
    before = set(here.parent.rglob("*.png"))
    assert evaluate("test_x2.yml", *flags) == 1
    told = capsys.readouterr().err
    assert "must be a name without folders, got" in told
    assert "Traceback" not in told
    made = set(here.parent.rglob("*.png")) - before
    assert all(path.is_relative_to(here / "results") for path in made)
