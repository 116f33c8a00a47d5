"""``finescale models`` lists the networks, shows one in full and fetches its weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from finescale import weights, zoo
from finescale.cli import console
from finescale.cli.main import run
from finescale.networks import SCALES


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that succeeds prints."""
    assert run(["models", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


# ---- the list


def test_the_list_has_a_row_for_each_network_and_scale(capsys: pytest.CaptureFixture[str]) -> None:
    head, *lines = rows(told(capsys))
    assert head == ["name", "scale", "parameters", "multiply-adds", "weights", "licence"]
    expected = [*weights.bundled(), *((entry.name, entry.scale) for entry in zoo.models())]
    assert [(line[0], line[1]) for line in lines] == [(name, f"x{scale}") for name, scale in expected]
    assert ["hit-srf", "x4", "866,420", "57.1", "G", "(180x320)", "hub", "Apache-2.0"] in lines
    assert ["drct", "x2", "13,991,867", "71.83", "G", "(64x64)", "none", "-"] in lines
    assert ["craft", "x2", "737,756", "195.4", "G", "(368x640)", "link", "not", "stated"] in lines


def test_bundled_networks_come_first_with_what_their_files_say(capsys: pytest.CaptureFixture[str]) -> None:
    first = json.loads(told(capsys, "--json"))["models"][0]
    facts = weights.inspect(weights.find("default", scale=2))
    assert (first["name"], first["scale"], first["weights"]) == ("default", 2, "bundled")
    assert first["parameters"] == facts.num_parameters
    assert first["licence"] == facts.header["licence"]
    assert first["scores"] == {}


@pytest.mark.parametrize("arguments", [[], ["drct-l"], ["span"], ["hit-srf-df2k"], ["default"]])
def test_what_goes_into_a_pipe_is_plain_and_whole(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, *arguments)
    assert "\x1b" not in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= console.PIPE_WIDTH


def test_the_list_fits_a_terminal_of_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name, value in {"TERM": "dumb", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)
    text = told(capsys)
    assert max(map(len, text.splitlines())) <= 80
    assert len(text.splitlines()) == 1 + len(weights.bundled()) + len(zoo.models())
    assert "…" not in text


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--family", "dat", "-s", "4"], ["dat-s", "dat", "dat-2", "dat-light"]),
        (["--max-parameters", "500k", "--scale", "2"], ["default", "default-photo", "span"]),
        (["--min-parameters", "27.6M"], ["drct-l", "swinir-real-l", "swinir-real-l-gan", *["hat-l"] * 3]),
        (["--min-parameters", "14139579", "--max-parameters", "14139579"], ["drct"]),
    ],
)
def test_flags_narrow_the_list(arguments: list[str], names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert [line[0] for line in rows(told(capsys, *arguments))[1:]] == names


def test_an_empty_list_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--max-parameters", "1k"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "no network matches\n")


# ---- one network


def test_one_network_is_shown_with_all_its_facts(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "hit-srf")
    facts = {" ".join(line[:1]): line[1:] for line in rows(text)}
    assert facts["parameters"] == ["846,944", "855,059", "866,420"]
    assert facts["Set5"] == ["38.26/0.9615", "34.75/0.9300", "32.55/0.8999"]
    assert facts["file"] == [f"HiT-SRF-{scale}x.pth" for scale in SCALES]
    assert facts["hub"] == [f"XiangZ/hit-srf-{scale}x" for scale in SCALES]
    assert "https://arxiv.org/abs/2407.05878" in text
    assert "226.5 G (360x640) by rule 1" in text
    assert "rule 1" in text


def test_the_scale_shows_one_column(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "hit-srf", "-s", "3")
    assert "855,059" in text
    assert "846,944" not in text


def test_what_is_not_stated_is_not_made_up(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "span", "-s", "2")
    assert ["Set5", "not", "stated"] in rows(text)
    assert ["parameters", "499,680", "+", "3,240", "constants"] in rows(text)


@pytest.mark.parametrize(
    ("name", "words"), [("cit", "our own reading of an abstract"), ("span", "not the Swift Parameter-free Attention")]
)
def test_a_caution_is_shown(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in " ".join(told(capsys, name).split())


@pytest.mark.parametrize(("name", "restricted"), [("span", True), ("srformer-light", True), ("swinir", False)])
def test_a_licence_that_forbids_commercial_use_is_told(
    name: str, restricted: bool, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = "for non-commercial use only (CC-BY-NC-4.0)"
    assert (sentence in " ".join(told(capsys, name).split())) == restricted
    assert run(["models", "fetch", name]) == 1  # they are offered by a page alone
    assert (f"its weights are {sentence}\n" in capsys.readouterr().err) == restricted


def test_a_network_without_weights_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    lines = rows(told(capsys, "drct", "-s", "2"))
    assert ["weights", "none"] in lines
    assert ["remark", "its", "file", "was", "withdrawn", "by", "the", "author"] in lines
    assert "licence" not in [line[0] for line in lines if line]


def test_the_card_of_a_bundled_network_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    text = told(capsys, "default", "-s", "4")
    assert str(weights.BUNDLED / "README.md") in "".join(text.split())


def test_the_report_has_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    (report,) = json.loads(told(capsys, "drct", "-s", "4", "--json"))["models"]
    paper, printed = report.pop("paper"), report.pop("authors_print")
    assert paper["title"].startswith("DRCT: Saving Image Super-resolution")
    assert [count["giga"] for count in printed] == [5.92, 7.92]
    assert report == {
        "name": "drct",
        "scale": 4,
        "family": "drct",
        "variant": "drct",
        "parameters": 14_139_579,
        "constants": 0,
        "multiply_adds": {
            "giga": 74.34,
            "input_size": [64, 64],
            "rule": "convolutions, linear layers and matrix products",
        },
        "weights": "link",
        "licence": "MIT",
        "non_commercial": False,
        "file": "DRCT_X4.pth",
        "hub": None,
        "page": "https://github.com/ming053l/DRCT",
        "training_data": None,
        "remark": "the authors' option files train on DF2K, with or without a first stage on ImageNet",
        "scores": {
            "Set5": {"psnr": 33.11, "ssim": None},
            "Set14": {"psnr": 29.35, "ssim": None},
            "B100": {"psnr": 28.18, "ssim": None},
            "Urban100": {"psnr": 28.06, "ssim": None},
            "Manga109": {"psnr": 32.59, "ssim": None},
        },
        "code": "https://github.com/ming053l/DRCT",
        "caution": "",
    }


# ---- fetching


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Calls of `weights.fetch`, which a stand-in answers."""
    calls: list[tuple[str, dict[str, Any]]] = []

    def fetch(name: str, **how: Any) -> Path:
        calls.append((name, how))
        return Path("cache") / "model.safetensors"

    monkeypatch.setattr(weights, "fetch", fetch, raising=False)
    return calls


def test_fetching_prints_where_the_file_is(
    fetched: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, "fetch", "hit-srf").strip() == str(Path("cache") / "model.safetensors")
    assert fetched == [("hit-srf", {"scale": None, "offline": False})]


def test_fetching_takes_scale_and_offline(
    fetched: list[tuple[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    report = json.loads(told(capsys, "fetch", "hit-srf", "-s", "2", "--offline", "--json"))
    assert report == {"name": "hit-srf", "file": str(Path("cache") / "model.safetensors")}
    assert fetched == [("hit-srf", {"scale": 2, "offline": True})]


# ---- wrong usage


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["hit-srff"],
            "no network is called 'hit-srff' (did you mean 'hit-srf'?); known: default, default-photo, hit-sir, ",
        ),
        (["--family", "hitsr"], "no family is called 'hitsr' (did you mean 'hit-sr'?); known: hit-sr, "),
        (["-s", "5"], "scale must be 1, 2, 3, 4 or 8, got 5"),
        (["hit-srf", "hit-sir"], "Invalid value: give one NAME, got hit-srf hit-sir"),
        (["fetch"], "Invalid value: fetch needs the NAME of a network, such as hit-srf"),
        (["hit-srf", "--offline"], "Invalid value: --offline needs fetch NAME"),
        (
            ["hit-srf", "--max-parameters", "1M"],
            "Invalid value: --family, --min-parameters and --max-parameters filter the list; omit the NAME",
        ),
        (
            ["--max-parameters", "1 lot"],
            "Invalid value: --max-parameters must be a number such as 500k or 1.5M, got '1 lot'",
        ),
    ],
)
def test_wrong_usage_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", *arguments]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"finescale: {sentence}")
    assert captured.err.count("\n") == 1
