"""``finescale export`` writes a file that other runtimes read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from finescale.cli.main import run


def arguments(weights: Path, output: Path, *more: str) -> list[str]:
    """Words of a small export; what ``more`` states anew is left out before."""
    usual = {"-n": str(weights), "-o": str(output), "--size": "24x16"}
    return ["export", *(word for flag, value in usual.items() if flag not in more for word in (flag, value)), *more]


def test_a_network_becomes_an_onnx_file(tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    output = tmp_path / "tiny.onnx"
    assert run(arguments(tiny_weights, output, "--json")) == 0
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert report["bytes"] == output.stat().st_size
    assert report["input"] == [1, 3, 16, 24]
    assert (report["format"], report["half"]) == ("onnx", False)
    assert report["bits"] is None
    assert report["largest_difference"] < 1e-4
    first, last = printed.err.splitlines()
    assert first == f"writing {output} for images of 24 x 16 pixels"
    assert last.startswith(f"{output}: {report['bytes']:,} bytes; ONNX Runtime differs from the network by ")
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.onnx"]

    assert run(arguments(tiny_weights, output)) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("exists; name another file or give --overwrite")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--size", "24"], "--size must be WIDTHxHEIGHT, such as 128x96, got '24'"),
        (["--size", "0x5"], "--size must be WIDTHxHEIGHT, such as 128x96, got '0x5'"),
        (["--format", "tflite"], "--format must be onnx or program, got 'tflite'"),
        (["--format", "program"], "-o must name a file that ends in .pt2, got "),
        (["--format", "program", "--fp16"], "--fp16 is for --format onnx, got --format program"),
        (["-o", "n.pth"], "-o must name a file that ends in .onnx, got 'n.pth'"),
        (["-o", "nowhere/n.onnx"], "-o: there is no folder nowhere; create it first"),
    ],
)
def test_what_is_wrong_is_told(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], message: str
) -> None:
    assert run(arguments(tiny_weights, tmp_path / "n.onnx", *more)) == 1
    assert message in capsys.readouterr().err


def test_a_network_becomes_a_program(tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "tiny.pt2"
    assert run(arguments(tiny_weights, output, "--format", "program", "--json")) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["largest_difference"] < 1e-5
    assert "; the program differs from the network by at most " in printed.err
    assert output.is_file()


def test_what_is_not_installed_is_told(
    tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setitem(sys.modules, "onnx", sys)
    assert run(arguments(tiny_weights, tmp_path / "n.onnx")) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "finescale: export to ONNX needs onnxruntime, which is not installed; pip install 'finescale[export]'"
    )
