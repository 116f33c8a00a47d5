"""Each verb checks its inputs, then its settings, and only then gets its network, which may have to be fetched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from finescale.cli.main import run
from hub_stand_in import HubStandIn
from small_sets import write_set

pytestmark = pytest.mark.usefixtures("pictures")


@pytest.fixture
def someones(hub: HubStandIn, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubStandIn:
    """A hub with a network that was not fetched yet, and a working folder with pictures and a test set."""
    hub.files["someone/net"] = {"model.safetensors": tiny_weights.read_bytes()}
    write_set(tmp_path / "sets")
    monkeypatch.chdir(tmp_path)
    return hub


WRONG = [
    # inputs
    ("upscale nowhere.png", 2, "nowhere.png: no such file or folder"),
    ("upscale no*.png", 2, "no*.png: no file matches this pattern"),
    ("upscale pictures -o one.png", 1, "one.png can hold one result, got 2 inputs"),
    ("evaluate --data nowhere", 1, "nowhere is not a folder"),
    ("evaluate --data nowhere -s 2", 1, "nowhere is not a folder"),
    ("evaluate --data pictures", 1, "pictures holds no test set"),
    ("evaluate --data sets --sets Set14", 1, "sets holds no test set 'Set14'"),
    ("evaluate --lr nowhere", 1, "nowhere is not a folder"),
    ("quantize --bits 8 -o n.safetensors --calibration nowhere", 1, "nowhere is not a folder"),
    ("quantize --bits 8 -o n.safetensors --calibration pictures", 1, "no picture of 48 x 48 pixels"),
    ("analyze attribution nowhere.png --at 0,0 -o a.svg", 1, "nowhere.png: cannot be read"),
    # outputs
    ("evaluate --data sets -o pictures", 1, "pictures contains files that are not results"),
    ("quantize --bits 8 -o n.pth --calibration pictures", 1, "-o must name a file that ends in .safetensors"),
    ("export --size 8x8 -o n.pth", 1, "-o must name a file that ends in .onnx"),
    # settings
    ("upscale pictures --precision float8", 1, "precision must be"),
    ("upscale pictures --engine magic", 1, "engine must be"),
    ("upscale pictures --device toaster", 1, "device must be"),
    ("upscale pictures --set shift_mask", 1, "must have the form name=value"),
    ("evaluate --data sets --precision float8", 1, "precision must be"),
    ("evaluate --data sets --protocol paper", 1, "no protocol is called 'paper'"),
    ("evaluate --data sets --set shift_mask", 1, "must have the form name=value"),
    (
        "quantize --bits 5 -o n.safetensors --calibration pictures --crop-size 8",
        1,
        "--bits must be 2, 3, 4, 6 or 8, got 5",
    ),
    ("export --size 8 -o n.onnx", 1, "--size must be WIDTHxHEIGHT"),
    ("export --size 8x8 -o n.onnx --set shift_mask", 1, "must have the form name=value"),
]


@pytest.mark.parametrize(("command", "code", "sentence"), WRONG, ids=[command for command, _, _ in WRONG])
def test_what_is_wrong_is_told_before_a_network_is_fetched(
    command: str, code: int, sentence: str, someones: HubStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command.split(), "-n", "someone/net"]) == code
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert not someones.requests


@pytest.mark.parametrize(
    "command",
    [
        "upscale pictures nowhere.png -o out",
        "evaluate --data sets",
        "quantize --bits 8 -o n.safetensors --calibration pictures --crop-size 8 --crops 1 --epochs 0",
    ],
)
def test_a_network_is_fetched_once_the_inputs_are_known(command: str, someones: HubStandIn) -> None:
    assert run([*command.split(), "-n", "someone/net"]) in (0, 2)
    assert someones.requests


def test_missing_packages_are_told_before_a_network_is_fetched(
    someones: HubStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert run(["export", "--size", "8x8", "-o", "n.onnx", "-n", "someone/net"]) == 1
    assert "export to ONNX needs onnx" in capsys.readouterr().err
    monkeypatch.setattr("finescale.evaluate.perceptual.importlib.util.find_spec", lambda name: None)
    assert run(["evaluate", "--data", "sets", "--metrics", "lpips", "-n", "someone/net"]) == 1
    assert "pip install 'finescale[perceptual]'" in capsys.readouterr().err
    assert not someones.requests


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--hr", "nowhere"], "nowhere: no such file or folder"),
        (["--hr", "pictures", "--val", "nowhere"], "nowhere: no such file or folder"),
        (["--hr", "pictures", "--set", "train.batchs=8"], "did you mean 'train.batch'?"),
    ],
)
def test_a_training_looks_for_its_pictures_before_its_first_weights(
    flags: list[str], sentence: str, someones: HubStandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["train", "hit-sir", "-s", "2", "--start", "someone/net", *flags]) == 1
    assert sentence in capsys.readouterr().err
    assert not someones.requests
