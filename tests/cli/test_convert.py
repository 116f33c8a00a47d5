"""``finescale convert`` writes a weight file in another form, or says in one sentence why not."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from finescale import weights
from finescale.cli.main import run
from finescale.networks import FAMILIES
from publishing import authors_file, tiny_network


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny DRCT as its authors would publish it."""
    return authors_file(tiny_network("drct", "drct", scale=2), tmp_path_factory.mktemp("weights") / "theirs.pth")


def test_a_published_file_becomes_one_with_a_header_and_back(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, back = tmp_path / "ours.safetensors", tmp_path / "back.pth"
    assert run(["convert", str(theirs), "-o", str(ours), "--set", "image_range=2"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1] == f"{ours}: drct x2, {ours.stat().st_size:,} bytes"
    assert "note: assumed, since shapes do not show it: mean" in told.err
    assert weights.inspect(ours).settings.image_range == 2
    arguments = ["convert", str(ours), "-o", str(back), "--key", "params_ema", "--image-size", "16"]
    assert run(arguments) == 1
    sentence = (
        f"finescale: {ours}: a .pth cannot state image_range = 2.0; convert it to .safetensors, or give --unstated"
    )
    assert capsys.readouterr().err.startswith(sentence)
    assert run([*arguments, "--unstated", "--json"]) == 0
    told = capsys.readouterr()
    assert "note: the file does not state --set 'image_range=2.0', which finescale must be given with it" in told.err
    assert json.loads(told.out) == {
        "input": str(ours),
        "output": str(back),
        "network": "drct x2",
        "key": "params_ema",
        "derived_tensors": 7,
        "unstated": {"image_range": 2.0},
        "bytes": back.stat().st_size,
        "notes": [],
    }
    state = torch.load(back, weights_only=True)["params_ema"]
    assert state["layers.0.swin2.attn_mask"].shape == (16, 16, 16)
    assert (
        state.keys() - weights.load(ours).network.state_dict().keys()
        == FAMILIES["drct"].files.derived(weights.load(ours).network).keys()
    )


def test_a_file_is_made_for_spandrel(
    theirs: Path, spandrel: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "for_others.safetensors"
    assert run(["convert", str(theirs), "-o", str(output), "--for", "spandrel", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["derived_tensors"] == 7
    assert run(["convert", str(theirs), "-o", str(output), "--for", "spandrel", "--set", "image_range=9"]) == 1
    assert "--overwrite" in capsys.readouterr().err
    refused = tmp_path / "refused.safetensors"
    assert run(["convert", str(theirs), "-o", str(refused), "--for", "spandrel", "--set", "image_range=9"]) == 1
    assert "spandrel reads it as DRCT x2, whose answers are others" in capsys.readouterr().err
    assert not refused.exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["FILE"], "Missing option '-o'"),
        (["FILE", "-o", "net.onnx"], "-o must name a file that ends in .safetensors or .pth, got 'net.onnx'"),
        (["FILE", "-o", "nowhere/net.pth"], "there is no folder nowhere"),
        (["FILE", "-o", "net.pth", "--key", "state_dict"], "--key must be params, params_ema, none, got 'state_dict'"),
        (["FILE", "-o", "net.pth", "--for", "chainner"], "--for must be spandrel, got 'chainner'"),
        (["FILE", "-o", "net.safetensors", "--key", "params"], "key must be left out for .safetensors"),
        (["FILE", "-o", "net.safetensors", "--set", "image_rang=2"], "did you mean 'image_range'?"),
        (["nowhere.pth", "-o", "net.pth"], "nowhere.pth: cannot be read"),
    ],
)
def test_wrong_usage_is_one_sentence(
    arguments: list[str],
    sentence: str,
    theirs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["convert", *(str(theirs) if word == "FILE" else word for word in arguments)]) == 1
    told = capsys.readouterr()
    assert sentence in told.err
    assert len(told.err.splitlines()) == 1
    assert told.out == ""
    assert list(tmp_path.iterdir()) == []
