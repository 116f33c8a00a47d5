from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import typer.main

from finescale import images
from finescale.analyze.cost_report import CostReport
from finescale.cli.analyze import analyze
from finescale.cli.main import run
from finescale.networks import variants

COMMANDS = typer.main.get_command(analyze).commands  # type: ignore[attr-defined]
MANUAL = Path(__file__).parents[2] / "docs" / "analyze.md"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "picture.png"
    images.write_image(path, torch.rand(3, 30, 40))
    return path


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_flag_stands_in_the_manual(verb: str) -> None:
    page = MANUAL.read_text(encoding="utf-8")
    section = page.partition(f"## finescale analyze {verb}")[2].partition("\n## finescale")[0]
    flags = {flag for option in COMMANDS[verb].params for flag in (*option.opts, *option.secondary_opts)}
    flags = {flag for flag in flags if flag.startswith("--")} - {"--help"}
    assert flags
    assert {flag for flag in flags if f"{flag}`" not in section and f"{flag} " not in section} == set()


def test_without_a_command_the_commands_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze"]) == 1
    printed = capsys.readouterr().out
    assert all(verb in printed for verb in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["cost"], "Invalid value: name networks with -n MODEL, or use --all"),
        (
            ["cost", "--all", "-n", "span"],
            "Invalid value: name networks with -n MODEL, or use --all",
        ),
        (
            ["cost", "-n", "span", "--input", "64x64", "--output", "9x9"],
            "Invalid value: --input and --output are mutually exclusive",
        ),
        (
            ["cost", "-n", "span", "--input", "64"],
            "Invalid value: --input must be two numbers of pixels such as 64x64, got '64'",
        ),
        (
            ["cost", "-n", "span", "--output", "0x9"],
            "Invalid value: --output must be two numbers of pixels such as 64x64, got '0x9'",
        ),
        (
            ["cost", "--all", "--hierarchical"],
            "Invalid value: --hierarchical needs -n MODEL; not every published variant can be converted",
        ),
        (["cost", "-n", "span", "-s", "0"], "scale must be a whole number from 1 to 16, got 0"),
        (["cost", "-n", "span", "--device", "tpux"], "device 'tpux' cannot be used here; use 'cpu'"),
        (["cost", "-n", "span", "--runs", "0"], "Invalid value: --runs must be at least 1, got 0"),
        (["plot", "-o", "a.gif"], "a figure's name must end in .svg or .png, got 'a.gif'"),
        (
            ["plot", "-o", "a.svg", "--x", "beauty"],
            "axis must be one of parameters, multiply-adds, time, memory, got 'beauty'",
        ),
        (
            ["cost", "-n", "span", "--rule", "macs"],
            "no counting rule is called 'macs'; known: fvcore, torchinfo, torchinfo-pass, linear-2d, swinir, "
            "swinir-size, or all",
        ),
        (["plot", "-o", "a.svg", "--point", "mine"], "a point needs a name and a PSNR, got no psnr in 'mine'"),
        (["plot", "-o", "a.svg", "--points", "no.csv"], "no.csv: cannot be read (No such file or directory)"),
        (["curve", "a", "b"], "Invalid value: several trainings need -o FIGURE"),
        (["curve", "a", "--from", "5"], "Invalid value: --from needs -o FIGURE"),
        (["curve", "a", "b", "-o", "c.gif"], "a figure's name must end in .svg or .png, got 'c.gif'"),
        (
            ["plot", "-o", "a.svg", "--results", "nowhere.json"],
            "nowhere.json: cannot be read (No such file or directory)",
        ),
        (
            ["attribution", "a.png", "--at", "1", "-o", "a.svg"],
            "Invalid value: --at must be two numbers of pixels such as 120,64, got '1'",
        ),
        (
            ["attribution", "nowhere.png", "--at", "1,1", "-o", "a.svg"],
            "nowhere.png: cannot be read (No such file or directory)",
        ),
        (
            ["attribution", "nowhere.png", "-n", "nowhere.pth", "--at", "1,1", "-o", "a.svg"],
            "nowhere.png: cannot be read (No such file or directory)",
        ),
    ],
)
def test_wrong_usage_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["analyze", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.err == f"finescale: {sentence}\n"
    assert printed.out == ""


# ---- cost


def test_costs_are_a_table_beside_what_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "cost", "-n", "span", "--no-time"]) == 0
    printed = capsys.readouterr()
    lines = [line.split() for line in printed.out.splitlines()]
    assert ["span", "x4", "180x320", "519,156", "48.48", "G", "48.09", "G"] in lines
    assert ["span", "x4", "64x64", "519,156", "3.43", "G", "3.40", "G"] in lines
    published = ["span", "x4", "180x320", "48.48", "G", "48.48", "G", "convolutions,"]
    assert published in [line[: len(published)] for line in lines]
    assert printed.err == ""


def test_a_network_and_the_hierarchical_one_stand_beside_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run(["analyze", "cost", "-n", "swinir-light", "-s", "2", "--hierarchical", "--input", "64x64", "--no-time"])
        == 0
    )
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["x2,", "64x64", "swinir-light", "hit-sir", "ratio"] in lines
    assert ["parameters", "910,152", "772,064", "0.85"] in lines


def test_costs_are_a_report(tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-n", str(tiny_weights), "-s", "2", "--output", "48x32", "--runs", "2", "--json"]
    assert run(["analyze", "cost", *arguments]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    (row,) = report["rows"]
    assert (row["model"], row["scale"], row["input_size"]) == (str(tiny_weights), 2, [16, 24])
    assert row["time"]["runs"] == 2
    assert row["memory_mib"] > 0
    assert report["published"] == []
    assert report["machine"]["torch"] == torch.__version__
    assert printed.err == f"timing {tiny_weights} x2 on 16x24 pixels\n"


def test_costs_by_published_rules_are_a_table_and_a_report(
    tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["analyze", "cost", "-n", str(tiny_weights), "-s", "2", "--input", "8x8", "--no-time"]
    assert run([*arguments, "--rule", "torchinfo-pass", "--rule", "fvcore"]) == 0
    printed = capsys.readouterr().out
    assert "fvcore  forward/backward pass" in printed
    assert printed.splitlines()[-1].endswith(" MB")
    assert run([*arguments, "--rule", "all", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    names = ["fvcore", "torchinfo", "torchinfo-pass", "linear-2d", "swinir", "swinir-size"]
    assert list(row["by_rule"]) == names
    assert row["by_rule"]["fvcore"] > row["multiply_adds"]
    assert row["by_rule"]["swinir-size"] == row["parameters"]  # no tables of relative positions


def test_what_was_measured_before_a_failure_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["analyze", "cost", "-n", "hit-sir", "-n", "hit-xyz", "--no-time", "--input", "8x8", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [row["model"] for row in report["rows"]] == ["hit-sir"]


# ---- plot


def test_a_plot_is_drawn_with_results_of_ours_and_then_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    rows = [
        {"model": "default", "scale": 4, "set": "Set5", "psnr": 30.97},
        {"model": "default", "scale": 4, "set": "Set14", "psnr": 27.8},
    ]
    report.write_text(json.dumps({"rows": rows}))
    figure = tmp_path / "figure.svg"
    arguments = ["analyze", "plot", "-o", str(figure), "--set", "Set5", "--results", str(report), "--json"]
    assert run(arguments) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["output"], printed["status"]) == (str(figure), "done")
    assert [point["psnr_db"] for point in printed["points"] if point["measured"]] == [30.97]
    assert ">default</text>" in figure.read_text()

    figure.write_text("precious")
    assert run(arguments) == 0
    kept = capsys.readouterr()
    assert json.loads(kept.out)["status"] == "kept"
    assert kept.err == f"kept: {figure}: already exists; use --overwrite to replace it\n"
    assert figure.read_text() == "precious"
    assert run([*arguments, "--overwrite"]) == 0
    assert figure.read_text() != "precious"


def test_a_plot_shows_the_named_networks_and_points_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "points.csv").write_text("name,psnr,parameters,family\nCARN,26.07,1592K,CNN\n")
    arguments = ["-o", str(tmp_path / "figure.svg"), "--points", str(tmp_path / "points.csv"), "--json"]
    arguments += ["--point", "mine,26.9,700K", "--area", "parameters", "--only", "hit-srf,CARN,mine"]
    assert run(["analyze", "plot", *arguments]) == 0
    points = json.loads(capsys.readouterr().out)["points"]
    assert [(point["label"], point["x"], point["area"]) for point in points] == [
        ("hit-srf", 866.42, 866.42), ("CARN", 1592, 1592), ("mine", 700, 700),
    ]  # fmt: skip
    assert [point["family"] for point in points] == ["HiT-SR", "CNN", "others"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "not a report, because it is not JSON"),
        ("[]", "has no list named 'rows'"),
        ('{"rows": 1}', "no list named 'rows'"),
    ],
)
def test_what_is_no_report_is_refused(
    tmp_path: Path, content: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").write_text(content)
    arguments = ["-o", str(tmp_path / "figure.svg"), "--results", str(tmp_path / "report.json")]
    assert run(["analyze", "plot", *arguments]) == 1
    assert sentence in capsys.readouterr().err


# ---- curve


def test_the_curve_of_a_training_is_drawn_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.csv").write_text("step,loss,psnr_y\n1,0.2,\n2,0.1,30.5\n")
    assert run(["analyze", "curve", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"output": str(tmp_path / "curve.png"), "status": "done"}
    assert images.read_image(tmp_path / "curve.png").pixels.std() > 0.01
    assert run(["analyze", "curve", str(tmp_path / "none")]) != 0
    assert "has no values to draw yet; let the training run to its first report" in capsys.readouterr().err


def test_several_trainings_are_drawn_in_one_figure_and_then_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, last in (("one", 31.0), ("two", 30.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text(f"step,loss,psnr_y\n1,0.2,\n2,0.1,29.0\n4,0.1,{last}\n")
    figure = tmp_path / "figure.svg"
    arguments = ["analyze", "curve", str(tmp_path / "one"), str(tmp_path / "two"), "-o", str(figure)]
    assert run(arguments) == 0
    drawn = figure.read_text()
    assert all(f">{text}</text>" in drawn for text in ("one", "two", "2 trainings, 4 steps", "validation PSNR, dB"))
    assert not (tmp_path / "one" / "curve.png").exists()
    assert run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "kept"
    assert run([*arguments, "--overwrite", "--from", "2"]) == 0
    assert "0.2</text>" not in figure.read_text()
    capsys.readouterr()
    assert run([*arguments, "--overwrite", "--from", "5"]) == 1
    assert "has no values from step 5 on; draw from an earlier step" in capsys.readouterr().err


def test_trainings_of_the_same_name_are_told_apart_and_none_is_drawn_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent / "mine").mkdir(parents=True)
        (tmp_path / parent / "mine" / "metrics.csv").write_text("step,loss\n1,0.2\n2,0.1\n")
    folders, figure = [str(tmp_path / parent / "mine") for parent in ("a", "b")], tmp_path / "figure.svg"
    assert run(["analyze", "curve", *folders, "-o", str(figure)]) == 0
    assert all(f">{name}</text>" in figure.read_text() for name in ("a/mine", "b/mine"))
    assert run(["analyze", "curve", folders[0], folders[0], "-o", str(figure), "--overwrite"]) == 1
    assert "each training must be named once" in capsys.readouterr().err


# ---- attribution


def test_networks_are_attributed_side_by_side(
    tmp_path: Path, picture: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other, figure = tmp_path / "other.safetensors", tmp_path / "figure.svg"
    other.write_bytes(tiny_weights.read_bytes())
    arguments = ["--at", "30,20", "--size", "8", "--region", "16", "--steps", "2", "--json", "-o", str(figure)]
    networks = ["-n", str(tiny_weights), "-n", str(other)]
    assert run(["analyze", "attribution", str(picture), *networks, *arguments]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert "diffusion_index" not in report
    assert [one["model"] for one in report["networks"]] == [str(tiny_weights), str(other)]
    (index,) = {one["diffusion_index"] for one in report["networks"]}
    assert f"tiny_x2: diffusion index {index:.2f} in 16x16 pixels" in printed.err
    drawn = figure.read_text()
    assert drawn.count(f">diffusion index {index:.2f}</text>") == 2
    assert all(f">{name}</text>" in drawn for name in ("tiny_x2", "other"))


def test_an_attribution_is_drawn_and_reported(
    tmp_path: Path, picture: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figure = tmp_path / "figure.png"
    arguments = ["-n", str(tiny_weights), "--at", "30,20", "--size", "8", "--region", "16", "--steps", "2", "--json"]
    assert run(["analyze", "attribution", str(picture), *arguments, "-o", str(figure)]) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["patch"] == {"top": 20, "left": 30, "size": 8}
    assert report["region"] == {"corner": [4, 9], "size": [16, 16]}
    assert 0 < report["diffusion_index"] <= 100
    assert f"diffusion index {report['diffusion_index']:.2f} in 16x16 pixels" in printed.err
    assert images.read_image(figure).size[1] > 3 * 384


def test_a_patch_outside_of_the_result_is_refused(
    tmp_path: Path, picture: Path, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["-n", str(tiny_weights), "--at", "79,0", "-o", str(tmp_path / "figure.png")]
    assert run(["analyze", "attribution", str(picture), *arguments]) == 1
    assert (
        "a patch of 16 pixels at 79,0 does not lie in the result, which has 80 x 60 pixels" in capsys.readouterr().err
    )
    assert not (tmp_path / "figure.png").exists()


def test_all_counts_the_variants_that_exist_at_the_scale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    counted: list[str] = []
    monkeypatch.setattr(CostReport, "add", lambda _self, name, **_how: counted.append(name))
    assert run(["analyze", "cost", "--all", "-s", "2"]) == 0
    told = re.search(r"not published at x2: (.*)", capsys.readouterr().err)
    assert told is not None
    missing = told[1].split(", ")
    assert counted == [name for name in variants() if name not in missing]
    assert {"swinir-gray-dn", "swinir-real-l"} <= set(missing)
    assert {"hit-srf", "hat", "ngswin"} <= set(counted)
