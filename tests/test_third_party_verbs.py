"""SwinIR through spandrel and SwinIR of finescale's own give equal results in every verb.

The files hold the same tensors. That of spandrel's network states so in its header, since finescale would recognise the
tensors as its own.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from finescale import Upscaler, weights
from finescale.cli.main import run
from finescale.images import read_image, write_image
from finescale.integrations.openmodeldb import entry_of
from finescale.networks import FAMILIES, Frame, WrappedNetwork
from finescale.quantize import QuantSettings, insert_quantizers, trace
from finescale.quantize.calibrate import calibrate
from finescale.quantize.modules import quantizers
from finescale.quantize.tracing import insert_products
from finescale.weights.third_party import ThirdPartySettings, build_third_party
from helpers import seeded_input
from publishing import write
from small_sets import picture, write_set

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")  # by third-party code, once in each process

SWINIR = {
    "img_size": 16,
    "in_chans": 3,
    "embed_dim": 12,
    "depths": [2],
    "num_heads": [2],
    "window_size": 4,
    "mlp_ratio": 2.0,
    "upscale": 2,
    "upsampler": "pixelshuffledirect",
    "drop_path_rate": 0.0,  # spandrel builds files with 0.1: the header decides
}
"""Arguments of a tiny SwinIR in spandrel."""

CLOSE = 1e-5
"""Largest difference of equal networks' answers, which sum in another order."""

TRAINING = """
name: {name}
scale: 2
{variant}
data: {{hr: [{hr}], patch: 16}}
train: {{batch: 2, iterations: 2, lr: 1e-3, average: 0}}
output: {output}
"""


@pytest.fixture(scope="module")
def pair(spandrel: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Files of one network: as finescale's own, and as spandrel's."""
    folder = tmp_path_factory.mktemp("pair")
    settings = ThirdPartySettings(architecture="SwinIR", constructor="SwinIR", arguments=SWINIR, in_channels=3)
    torch.manual_seed(0)
    theirs = build_third_party(settings, scale=2)
    assert theirs.model.hyperparameters["drop_path_rate"] == 0.0
    for tensor in theirs.model.parameters():  # the published initial values give flat pictures
        torch.nn.init.normal_(tensor, std=0.1)
    own, other = folder / "own.safetensors", folder / "theirs.safetensors"
    bare = weights.load(write(theirs.model.state_dict(), folder / "bare.pth"))
    assert bare.family == "swinir"
    ours = weights.load(folder / "bare.pth", settings={"drop_path_rate": 0.0})
    weights.save(ours.network, own, source="a test")
    weights.save(theirs, other, source="a test", licence="MIT")
    return own, other


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for seed, size in enumerate(((40, 30), (33, 52))):
        write_image(folder / f"{seed}.png", picture(*size, seed=seed).float() / 255)
    return folder


def in_both(
    pair: tuple[Path, Path], words: Callable[[Path], list[str]], capsys: pytest.CaptureFixture[str]
) -> list[Any]:
    """The reports of a command for both files."""
    reports = []
    for path in pair:
        capsys.readouterr()
        assert run([*words(path), "--json"]) == 0, capsys.readouterr().err
        reports.append(json.loads(capsys.readouterr().out))
    return reports


def difference(first: Any, second: Any, *, size: tuple[int, int] = (19, 27)) -> float:
    image = seeded_input((2, 3, *size))
    with torch.no_grad():
        return float((first(image) - second(image)).abs().max())


def test_a_saved_file_states_architecture_and_arguments(pair: tuple[Path, Path]) -> None:
    loaded = weights.load(pair[1])
    assert (loaded.family, loaded.nearest, loaded.scale) == ("third-party", "SwinIR", 2)
    assert isinstance(loaded.settings, ThirdPartySettings)
    assert loaded.settings.arguments is not None
    assert loaded.settings.arguments.items() >= SWINIR.items()
    assert loaded.header["licence"] == "MIT"
    assert isinstance(loaded.network, WrappedNetwork)
    assert loaded.network.model.hyperparameters["drop_path_rate"] == 0.0
    assert difference(weights.load(pair[0]).network, loaded.network) <= CLOSE
    weights.save(loaded.network, pair[1].with_name("again.safetensors"), source="a test", licence="MIT")
    assert pair[1].with_name("again.safetensors").read_bytes() == pair[1].read_bytes()


def test_upscale(pair: tuple[Path, Path], pictures: Path, tmp_path: Path) -> None:
    for path in pair:
        words = ["upscale", str(pictures), "-n", str(path), "-o", str(tmp_path / path.stem), "-t", "0"]
        assert run(words) == 0
    for name in ("0_x2.png", "1_x2.png"):
        own, other = (read_image(tmp_path / path.stem / name).pixels for path in pair)
        assert (own - other).abs().max() <= 1 / 255 + 1e-6  # values midway between two integers
        assert (own != other).float().mean() < 1e-3


def test_evaluate(pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_set(tmp_path / "data", scale=2)

    def words(path: Path) -> list[str]:  # how the authors' test code extends images is not known of a third party
        flags = ["--protocol", "network-padding", "-o", str(tmp_path / path.stem)]
        return ["evaluate", "-n", str(path), "--data", str(data), *flags]

    reports = in_both(pair, words, capsys)
    own, other = ([row for row in report["rows"] if row["model"] != "bicubic"] for report in reports)
    assert [row["psnr"] for row in own] == pytest.approx([row["psnr"] for row in other], abs=1e-3)
    assert [row["ssim"] for row in own] == pytest.approx([row["ssim"] for row in other], abs=1e-5)


def test_quantize(pair: tuple[Path, Path], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The crops are extended as in the authors' test code for finescale's network alone, so ranges are not equal."""

    def words(path: Path) -> list[str]:
        flags = ["--bits", "8", "--method", "minmax", "--epochs", "0", "--crops", "4", "--crop-size", "16"]
        return ["quantize", "-n", str(path), "--calibration", str(pictures), *flags, "-o", str(tmp_path / path.name)]

    own, other = in_both(pair, words, capsys)
    assert own["traced"] is None
    assert other["traced"]["in_float"] == {}
    assert list(other["traced"]["products"].values()) == [2, 2]  # of both blocks
    assert other["fidelity_db"]["minmax"] == pytest.approx(own["fidelity_db"]["minmax"], abs=1.5)
    assert weights.load(tmp_path / pair[1].name).quantization == weights.load(tmp_path / pair[0].name).quantization


def test_quantizers_have_equal_ranges_for_equal_images(pair: tuple[Path, Path]) -> None:
    """The network's result is quantized in finescale's network alone, which makes that less close to the float one."""
    images, settings = seeded_input((4, 3, 16, 20)), QuantSettings(bits=8, method="minmax")
    own, other = (weights.load(path).network for path in pair)
    assert isinstance(own, Frame)
    assert isinstance(other, WrappedNetwork)
    placement = FAMILIES["swinir"].quantization.placement(own.settings)
    insert_quantizers(own, placement, settings)
    calibrate(own, [images], placement, settings)
    other.allow_batches()
    traced = trace(other, images)
    insert_quantizers(other, traced.placement, settings)
    insert_products(other, traced, settings)
    calibrate(other, [images], traced.placement, settings)
    places, theirs = quantizers(own), quantizers(other)
    assert len(places) == len(theirs) + 1
    for path, one in theirs.items():
        if "quantized_products" in path:
            continue
        twin = places[path.removeprefix("model.")]
        torch.testing.assert_close(one.low, twin.low, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(one.high, twin.high, rtol=1e-3, atol=1e-5)
        assert one.bits == twin.bits
    operands = [(float(one.low), float(one.high)) for path, one in theirs.items() if "quantized_products" in path]
    attention = ("query", "key", "probabilities", "value")
    twins = [
        (float(places[f"{path}.{name}"].low), float(places[f"{path}.{name}"].high))
        for path in dict.fromkeys(place.rpartition(".")[0] for place in places if place.endswith(".query"))
        for name in attention
    ]
    assert sorted(operands) == [pytest.approx(twin, rel=1e-3, abs=1e-5) for twin in sorted(twins)]
    with torch.no_grad():
        error = (other(images) - weights.load(pair[1]).network(images)).square().mean()
        whole = (own(images) - weights.load(pair[0]).network(images)).square().mean()
        places["result"].is_on = False
        # Numbers midway between two integers may be rounded to either, of which there are few.
        assert (own(images) - other(images)).square().mean() < 0.5 * error <= whole


def test_a_quantized_file_loads_in_other_verbs(
    pair: tuple[Path, Path], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantized = tmp_path / "theirs_4bit.safetensors"
    flags = ["--bits", "4", "--method", "minmax", "--epochs", "1", "--crops", "4", "--crop-size", "16"]
    words = ["quantize", "-n", str(pair[1]), "--calibration", str(pictures), *flags, "-o", str(quantized)]
    assert run(words) == 0
    assert "found: 12 layers and 4 products to quantize, the network's result and 0 parts stay in float" in (
        capsys.readouterr().err
    )
    loaded = weights.load(quantized)
    assert loaded.quantization is not None
    again = tmp_path / "again.safetensors"
    assert run(["convert", str(quantized), "-o", str(again)]) == 0
    assert difference(weights.load(again).network, loaded.network) == 0
    assert run(["upscale", str(pictures), "-n", str(quantized), "-o", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert run(["inspect", str(quantized), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["architecture"], report["quantization"]["bits"]) == ("SwinIR", 4)


@pytest.mark.parametrize(("file_format", "ending"), [("onnx", ".onnx"), ("program", ".pt2")])
def test_export(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], file_format: str, ending: str
) -> None:
    if file_format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")

    def words(path: Path) -> list[str]:
        output = tmp_path / f"{path.stem}{ending}"
        return ["export", "-n", str(path), "--format", file_format, "--size", "16x12", "-o", str(output)]

    own, other = in_both(pair, words, capsys)
    assert (own["family"], other["family"]) == ("swinir", "third-party")
    assert max(own["largest_difference"], other["largest_difference"]) <= CLOSE
    assert own["input"] == other["input"] == [1, 3, 12, 16]


def test_openvino(pair: tuple[Path, Path], cache: Path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    image = seeded_input((1, 3, 13, 16))
    own = Upscaler.from_pretrained(pair[0])(image)
    other = Upscaler.from_pretrained(pair[1], engine="openvino")(image)
    assert (own - other).abs().max() <= 1e-4


def test_train(pair: tuple[Path, Path], pictures: Path, tmp_path: Path) -> None:
    """Two steps from the same weights; a third-party network is that of the file to start from."""
    results = []
    for path, variant in zip(pair, (f"variant: swinir-light\nnetwork: {own_sizes(pair[0])}", ""), strict=True):
        recipe = tmp_path / f"{path.stem}.yml"
        text = TRAINING.format(name=path.stem, variant=variant, hr=pictures, output=tmp_path)
        recipe.write_text(text, encoding="utf-8")
        assert run(["train", str(recipe), "--start", str(path)]) == 0
        results.append(weights.load(tmp_path / path.stem / "weights.safetensors"))
    own, other = results
    assert (other.family, other.nearest) == ("third-party", "SwinIR")
    assert difference(own.network, other.network) <= 10 * CLOSE  # Adam scales gradients near zero up
    assert difference(other.network, weights.load(pair[1]).network) > 1000 * CLOSE


def own_sizes(path: Path) -> str:
    """All fields of the settings of a file of finescale's own, as YAML reads them."""
    return weights.inspect(path).settings.model_dump_json()


def test_a_training_goes_on_without_the_file_it_started_from(
    pair: tuple[Path, Path], pictures: Path, tmp_path: Path
) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(pair[1].read_bytes())
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(TRAINING.format(name="resumed", variant="", hr=pictures, output=tmp_path), encoding="utf-8")
    assert run(["train", str(recipe), "--start", str(start)]) == 0
    start.unlink()
    settings = tmp_path / "resumed" / "settings.yml"
    assert run(["train", str(settings), "--set", "train.iterations=3", "--resume"]) == 0


def test_analyze_cost(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    own, other = (
        report["rows"][0]
        for report in in_both(
            pair, lambda path: ["analyze", "cost", "-n", str(path), "-s", "2", "--input", "16x16"], capsys
        )
    )
    for count in ("parameters", "multiply_adds", "executed_multiply_adds"):
        assert own[count] == other[count], count


def test_analyze_attribution(
    pair: tuple[Path, Path], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def words(path: Path) -> list[str]:
        figure = str(tmp_path / f"{path.stem}.svg")
        flags = ["--at", "20,20", "--size", "8", "--region", "16", "--steps", "2"]
        return ["analyze", "attribution", str(pictures / "0.png"), "-n", str(path), "-o", figure, *flags]

    own, other = in_both(pair, words, capsys)
    for value in ("diffusion_index", "detector", "attributed"):
        assert own[value] == pytest.approx(other[value], rel=1e-3), value


def test_the_memory_estimate_is_measured(pair: tuple[Path, Path]) -> None:
    own, other = (Upscaler.from_pretrained(path).bytes_per_pixel for path in pair)
    assert 0.2 * own < other < 5 * own


# ---- one answer everywhere

VERBS: dict[str, Callable[[str, str], list[str]]] = {
    "upscale": lambda file, folder: ["upscale", folder, "-n", file],
    "evaluate": lambda file, folder: ["evaluate", "-n", file, "--data", folder],
    "inspect": lambda file, _: ["inspect", file],
    "convert": lambda file, folder: ["convert", file, "-o", f"{folder}/out.safetensors"],
    "quantize": lambda file, folder: [
        "quantize", "-n", file, "--bits", "8", "--calibration", folder, "--crop-size", "16",
        "-o", f"{folder}/quantized.safetensors",
    ],
    "export": lambda file, folder: ["export", "-n", file, "-o", f"{folder}/net.pt2", "--format", "program"],
    "train": lambda file, folder: ["train", f"{folder}/recipe.yml", "--start", file],
    "analyze cost": lambda file, _: ["analyze", "cost", "-n", file, "-s", "2"],
    "analyze attribution": lambda file, folder: [
        "analyze", "attribution", f"{folder}/Set5/HR/one.png", "-n", file, "--at", "8,8", "-o", f"{folder}/map.svg"
    ],
}  # fmt: skip
"""Commands for a weight file and a folder."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test set, which is also pictures to train on, and a file that nobody knows."""
    folder = write_set(tmp_path_factory.mktemp("refused"), scale=2)
    hr = folder / "Set5" / "HR"
    for path in hr.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    text = TRAINING.format(name="refused", variant="", hr=hr, output=folder)
    (folder / "recipe.yml").write_text(text, encoding="utf-8")
    write({"some.weight": torch.zeros(2)}, folder / "unknown.pth")
    return folder


@pytest.mark.parametrize("is_installed", [True, False], ids=["with spandrel", "without spandrel"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_file_that_nobody_reads_is_refused_by_one_sentence(
    verb: str,
    is_installed: bool,
    folder: Path,
    spandrel: ModuleType,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_installed:
        found = importlib.util.find_spec

        def find(name: str, package: str | None = None) -> Any:
            return None if name == "spandrel" else found(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", find)
    file = folder / "unknown.pth"
    assert run(VERBS[verb](str(file), str(folder))) == 1
    reason = "spandrel does not know it either" if is_installed else "pip install 'finescale[spandrel]' may read it"
    last = capsys.readouterr().err.splitlines()[-1].removeprefix("finescale: ")
    assert last.startswith(f"{file}: no known family has its keys (first: 'some.weight'); known: ")
    assert last.endswith(f"; {reason}")


def test_an_entry_of_openmodeldb_is_for_networks_of_finescale(pair: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=r"theirs\.safetensors: SwinIR, a third-party network; entries are"):
        entry_of(pair[1], author="me", date="2026-01-31", urls=["https://example.org/theirs.safetensors"])
