"""``finescale quantize`` makes a small file of a network, and goes on where it was interrupted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import finescale
from finescale.cli.main import run
from finescale.images import write_image
from finescale.networks import FAMILIES, Frame
from finescale.quantize import QuantizationResult, QuantSettings
from finescale.quantize import run as room
from golden_ptq import published_file
from small_sets import picture


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, one of them smaller than a crop."""
    folder = tmp_path_factory.mktemp("pictures")
    for seed, (name, size) in enumerate({"a": (40, 30), "b": (26, 50), "small": (10, 60)}.items()):
        write_image(folder / f"{name}.png", picture(*size, seed=seed).float() / 255)
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    family = FAMILIES["drct"]
    network = family.network(settings=family.tiny["drct"], scale=2)
    finescale.save(network, path, source="a test", licence="MIT")
    return path


def arguments(weights: Path, folder: Path, output: Path, *more: str) -> list[str]:
    """Words of a short quantization; what ``more`` states anew is left out before."""
    usual = {"-n": str(weights), "-o": str(output), "--bits": "4", "--calibration": str(folder)}
    usual |= {"--crops": "4", "--crop-size": "16", "--epochs": "2"}
    if "--recipe" not in more:
        usual["--method"] = "dual"  # which takes less time than "auto"
    return ["quantize", *(word for flag, value in usual.items() if flag not in more for word in (flag, value)), *more]


def test_a_network_becomes_a_small_file_that_loads(
    weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tiny_4bit.safetensors"
    assert (
        run(arguments(weights, folder, output, "--method", "auto", "--json", "--sensitivity", "--keep", "first,last"))
        == 0
    )
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert list(report["fidelity_db"]) == ["dual", "minmax", "percentile", "density", "search", "refined"]
    assert report["fidelity_db"]["refined"] == max(report["fidelity_db"].values())
    assert report["settings"]["method"] in report["fidelity_db"]
    assert len(report["losses"]) == 2
    assert "layers.0.swin1.attn.qkv" in report["sensitivity"]
    assert report["bytes"] == output.stat().st_size < weights.stat().st_size
    assert "refinement: done" in printed.err
    assert printed.err.splitlines()[-1].startswith("note: with 12 channels the file is smaller, but integers gain ")
    loaded = finescale.load(output)
    assert loaded.quantization is not None
    assert (loaded.quantization.bits, loaded.quantization.keep) == (4, ("first", "last"))
    assert loaded.header["licence"] == "MIT"
    assert [path.name for path in tmp_path.iterdir()] == [output.name]


def test_the_same_command_makes_the_same_file(weights: Path, folder: Path, tmp_path: Path) -> None:
    one, other, third = (tmp_path / f"{name}.safetensors" for name in ("one", "other", "third"))
    for path in (one, other):
        assert run(arguments(weights, folder, path)) == 0
    assert run(arguments(weights, folder, third, "--seed", "1")) == 0
    assert one.read_bytes() == other.read_bytes() != third.read_bytes()


def test_an_interrupted_quantization_goes_on_to_the_same_file(
    weights: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, parted = tmp_path / "whole.safetensors", tmp_path / "parted.safetensors"
    assert run(arguments(weights, folder, whole)) == 0
    save = room.save_progress

    def save_and_stop(*given: Any, **named: Any) -> None:
        save(*given, **named)
        if named["progress"].losses:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(room, "save_progress", save_and_stop)
        assert run(arguments(weights, folder, parted)) == 130
    assert not parted.exists()
    assert (tmp_path / "parted.safetensors.partial").exists()
    assert "run the same command to continue" in capsys.readouterr().err
    assert run(arguments(weights, folder, parted, "--seed", "5")) == 1
    assert "with other settings, images or weights" in capsys.readouterr().err
    assert run(arguments(weights, folder, parted)) == 0
    assert parted.read_bytes() == whole.read_bytes()


def test_two_calls_make_the_file_of_one(
    weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, first, second = (tmp_path / f"{name}.safetensors" for name in ("whole", "first", "second"))
    few = {"--calibration": folder, "--crops": 1, "--crop-size": 16}
    stage_1 = {"-n": weights, "--bits": 4, "--recipe": "published", "--keep": "first", **few}
    stage_2 = {"-n": weights, "--start": first, **few, "-o": second}

    def quantize(flags: dict[str, Any]) -> int:
        return run(["quantize", *(str(word) for pair in flags.items() for word in pair)])

    assert quantize({**stage_1, "-o": whole, "--epochs": 1}) == 0
    assert quantize({**stage_1, "-o": first, "--epochs": 0}) == 0
    assert finescale.load(first).quantization == QuantSettings(
        bits=4, keep=("first",), epochs=0, averaging="running", include_zero=False, lr_unit="absolute",
        schedule="constant",
    )  # fmt: skip
    assert quantize({**stage_2, "--epochs": 1}) == 0
    assert second.read_bytes() == whole.read_bytes()
    second.unlink()
    capsys.readouterr()
    for change, reason in (
        ({"--bits": 6}, f"{first}: bits must be 4, by which the ranges were found, got 6"),
        ({"--set": "averaging=mean"}, f"{first}: averaging must be 'running', by which"),
        ({"--epochs": 0}, f"{first}: epochs must be at least 1"),
        ({"-n": first}, "refine it by --start, with its float network as -n"),
        ({"--start": weights}, f"{weights}: not quantized; name a file that finescale quantize wrote"),
    ):
        assert quantize({**stage_2, **change}) == 1
        assert reason in capsys.readouterr().err
        assert not second.exists()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([], "pictures of FOLDER: all of one size, taken whole, to learn from and to measure on"),
        (
            ["--recipe", "published"],
            "pictures of FOLDER: all of one size, taken whole, to learn from and to measure on",
        ),
        (["--crops", "3"], "3 crops of 48x48 pixels of FOLDER; 8 more to measure on"),
        (["--crops", "3", "--recipe", "published"], "no picture of 128 x 128 pixels at least to calibrate with"),
    ],
)
def test_patches_of_the_user_are_taken_as_they_are_unless_crops_are_asked_for(
    more: list[str],
    sentence: str,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def quantize(_network: Frame, _folder: Path, settings: QuantSettings, **_how: Any) -> QuantizationResult:
        return QuantizationResult(settings=settings, fidelity={"dual": 30}, losses=[])

    monkeypatch.setattr("finescale.quantize.quantize_network", quantize)
    patches = tmp_path / "patches"
    patches.mkdir()
    for seed in range(2):
        write_image(patches / f"{seed}.png", picture(50, 50, seed=seed).float() / 255)
    output = tmp_path / "a.safetensors"
    run(["quantize", "-n", str(weights), "-o", str(output), "--bits", "4", "--calibration", str(patches), *more])
    assert sentence.replace("FOLDER", str(patches)) in capsys.readouterr().err


def test_a_damaged_state_is_told(
    weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.safetensors.partial").write_bytes(b"no state")
    assert run(arguments(weights, folder, tmp_path / "a.safetensors")) == 1
    assert "damaged" in capsys.readouterr().err


def test_a_published_quantized_network_is_converted(tmp_path: Path) -> None:
    output = tmp_path / "craft.safetensors"
    assert run(["quantize", "-n", str(published_file(tmp_path, "br")), "-o", str(output)]) == 0
    loaded = finescale.load(output)
    assert loaded.quantization is not None
    assert loaded.quantization.bits == 4


def test_the_table_names_the_ranges_taken(
    weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(weights, folder, tmp_path / "a.safetensors", "--method", "percentile", "--epochs", "0")) == 0
    printed = capsys.readouterr().out
    assert "percentile, chosen" in printed
    assert "refined" not in printed


def test_a_comparison_prints_every_method_and_writes_no_file(
    weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--bits", "3", "--crops", "2", "--crop-size", "16", "--epochs", "1", "--compare"]
    command = ["quantize", "-n", str(weights), "--calibration", str(folder), *words]
    assert run([*command, "--json"]) == 0
    rows = {row["method"]: row for row in json.loads(capsys.readouterr().out)["methods"]}
    assert list(rows) == [
        "minmax", "percentile", "ptq4sr", "ptq4sr, refined", "dual", "dual, refined", "2dquant", "2dquant, refined",
    ]  # fmt: skip
    assert rows["minmax"]["bytes"] > rows["2dquant"]["bytes"] > 0  # a range for each row of weights, or for all
    assert rows["dual, refined"]["seconds"] > rows["dual"]["seconds"] > 0
    assert rows["dual, refined"]["fidelity_db"] != rows["dual"]["fidelity_db"]
    assert list(tmp_path.iterdir()) == []
    assert run(command[:-1]) == 1
    assert "give -o, a new .safetensors file, or --compare" in capsys.readouterr().err


@pytest.mark.parametrize(("recipe", "kept"), [("ptq4sr", ("first", "last")), ("2dquant", ())])
def test_the_recipe_of_a_paper_makes_a_file_that_loads(
    recipe: str, kept: tuple[str, ...], weights: Path, folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "a.safetensors"
    assert run(arguments(weights, folder, output, "--bits", "2", "--recipe", recipe, "--epochs", "2")) == 0
    settings = finescale.load(output).quantization
    assert settings is not None
    assert (settings.bits, settings.scheme, settings.keep) == (2, "anchored", kept)


@pytest.mark.parametrize(
    ("fidelity", "told"),
    [
        ({"minmax": 25.8, "percentile": 28.26, "dual": 24.3, "refined": 26.79}, True),
        ({"minmax": 25.8, "percentile": 28.26, "dual": 24.3}, True),
        ({"minmax": 35.4, "percentile": 35.2, "dual": 34.8, "refined": 36.4}, False),
        ({"minmax": 35.4, "percentile": 35.2, "dual": 35.6}, False),
        ({"minmax": 35.4, "percentile": 35.2, "dual": 36.4, "refined": 36.1}, False),
    ],
)
def test_ranges_that_are_nearer_than_what_was_reached_are_told(
    fidelity: dict[str, float],
    told: bool,
    weights: Path,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def quantize(_network: Frame, _folder: Path, settings: QuantSettings, **_how: Any) -> QuantizationResult:
        return QuantizationResult(settings=settings, fidelity=fidelity, losses=[])

    monkeypatch.setattr("finescale.quantize.quantize_network", quantize)
    assert run(arguments(weights, folder, tmp_path / "a.safetensors")) == 0
    printed = capsys.readouterr().err
    assert ("come closer to the float network" in printed) == told
    assert not told or ("by percentile come closer" in printed and "--method percentile starts" in printed)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (["--bits", "5"], "--bits must be 2, 3, 4, 6 or 8, got 5"),
        (["--keep", "middle"], "keep: no layer is named 'middle'"),
        (["--bits", "8", "--keep", "first"], "keep needs bits below 8"),
        (["--method", "magic"], "'method'"),
        (["--recipe", "ours"], "--recipe must be published, ptq4sr, 2dquant, got 'ours'"),
        (["--method", "auto", "--recipe", "2dquant"], "--method auto and --recipe, --start or --set method=... are"),
        (["--compare"], "--compare writes no file; omit -o"),
        (["--set", "bound_gradients=ptq4sr"], "bound_gradients 'ptq4sr' needs scheme 'anchored', got 'zero-point'"),
        (["--set", "epoch=3"], "did you mean 'epochs'?"),
        (["--crop-size", "64"], "no picture of 64 x 64 pixels"),
        (["--calibration", "nowhere"], "nowhere"),
        (["-o", "a.pth"], "must name a file that ends in .safetensors"),
        (["-o", "nowhere/a.safetensors"], "there is no folder nowhere"),
    ],
)
def test_wrong_usage_is_one_sentence(
    change: list[str], reason: str, weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments(weights, folder, tmp_path / "a.safetensors", *change)) == 1
    told = capsys.readouterr().err
    assert reason in told
    assert "Traceback" not in told


def test_an_existing_file_is_kept(
    weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a.safetensors"
    output.write_text("mine")
    assert run(arguments(weights, folder, output)) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_text() == "mine"
    assert run(arguments(weights, folder, output, "--overwrite")) == 0
    assert finescale.load(output).quantization is not None


def test_without_bits_a_float_network_is_not_quantized(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["quantize", "-n", str(weights), "-o", str(tmp_path / "a.safetensors")]) == 1
    assert "--bits 2, 3, 4, 6 or 8" in capsys.readouterr().err
