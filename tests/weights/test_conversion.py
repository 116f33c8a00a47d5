"""A converted file gives the same answers bit for bit, loads strictly in published code, and loses no setting."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from finescale import weights
from finescale.errors import MissingExtraError, SettingsError, WeightsError, WeightsMismatchError
from finescale.networks import FAMILIES, Frame, build, from_options
from finescale.weights import load_by_spandrel
from golden_ptq import published_file
from helpers import GOLDEN, load_case, seeded_input, seeded_state
from publishing import write
from quantizing import quantize

TINY = [
    pytest.param(path, id=f"{name}/{path.stem}")
    for name in FAMILIES
    for path in sorted((GOLDEN / name).glob("*.npz"))
    if "tiny" in path.stem
]


def tiny(family: str, *, scale: int = 2, **changes: Any) -> Frame:
    torch.manual_seed(0)
    known = FAMILIES[family]
    return known.network(settings=next(iter(known.tiny.values())).model_copy(update=changes), scale=scale).eval()


def ours(network: Frame, folder: Path, **facts: Any) -> Path:
    path = folder / "ours.safetensors"
    weights.save(network, path, **{"source": "a test", **facts})
    return path


def assert_same_answer(one: torch.nn.Module, other: torch.nn.Module, *, channels: int = 3) -> None:
    image = seeded_input((1, channels, 19, 25))
    with torch.inference_mode():
        assert torch.equal(one(image), other(image))


# ---- as published code loads it


@pytest.mark.filterwarnings("ignore:.*no network reads")
@pytest.mark.parametrize("path", TINY)
def test_a_pth_loads_strictly_in_the_published_network_and_gives_the_same_answer(path: Path, tmp_path: Path) -> None:
    case = load_case(path)
    network = from_options(case.options).eval()
    network.load_state_dict({**network.state_dict(), **seeded_state(case.shapes)})
    files = FAMILIES[path.parent.name].files
    stated = case.config.get("img_size", case.config.get("training_img_size")) if files.masks else None
    size = stated if isinstance(stated, int) else None  # the table of positions shows an oblong one
    output = tmp_path / "net.pth"
    done = weights.convert(ours(network, tmp_path), output, image_size=size, allow_unstated=True)
    content = torch.load(output, weights_only=True)
    if files.key != "none":
        assert list(content) == [files.key]
        content = content[files.key]
    found = {key: tuple(tensor.shape) for key, tensor in content.items()}
    assert found == {**case.shapes, **case.buffers}
    assert done.num_derived == len(found) - len(network.state_dict())
    loaded = weights.load(output, settings=done.unstated)
    assert loaded.settings == network.settings
    with torch.inference_mode():
        assert torch.equal(loaded.network(case.input), network(case.input))


@pytest.mark.parametrize("variant", ["hit-sng", "craft", "span", "dat-light", "cit"])
def test_a_published_network_needs_nothing_stated(variant: str, tmp_path: Path) -> None:
    done = weights.convert(ours(build(variant, scale=4), tmp_path), tmp_path / "net.pth")
    assert (done.network, done.key, dict(done.unstated)) == (f"{variant} x4", "params", {})
    assert weights.inspect(tmp_path / "net.pth").variant == variant


@pytest.mark.parametrize(
    ("family", "changes", "lost"),
    [
        ("craft", {"window_size": 16, "shift_mask": True}, "shift_mask = True"),
        ("dat", {"image_range": 255.0}, "image_range = 255.0"),
        ("drct", {"mean": (0.5, 0.5, 0.5)}, r"mean = \(0.5, 0.5, 0.5\)"),
        ("span", {}, "overlap_size = 2"),
        ("hit-sr", {}, r"base_window = \(4, 4\), window_ratios = \(0.5, 2.0\)"),
    ],
)
def test_a_setting_that_a_pth_cannot_state_is_refused_and_not_lost(
    family: str, changes: dict[str, Any], lost: str, tmp_path: Path
) -> None:
    path = ours(tiny(family, **changes), tmp_path)
    sentence = f"^{re.escape(str(path))}: a .pth cannot state {lost}; convert it to .safetensors, or give --unstated"
    with pytest.raises(ValueError, match=sentence):
        weights.convert(path, tmp_path / "net.pth")
    assert not (tmp_path / "net.pth").exists()
    done = weights.convert(path, tmp_path / "net.pth", allow_unstated=True)
    loaded = weights.load(tmp_path / "net.pth", settings=done.unstated)
    assert_same_answer(loaded.network, weights.load(path).network)


def test_what_matters_in_training_alone_is_told(tmp_path: Path) -> None:
    done = weights.convert(ours(tiny("dat"), tmp_path), tmp_path / "net.pth")
    assert done.unstated == {"drop_path_rate": 0}


@pytest.mark.parametrize("key", ["params", "params_ema", "none"])
def test_the_state_dict_is_where_it_is_asked_for(key: Any, tmp_path: Path) -> None:
    network = tiny("cit")
    weights.convert(ours(network, tmp_path), tmp_path / "net.pth", key=key)
    content = torch.load(tmp_path / "net.pth", weights_only=True)
    state = content if key == "none" else content.pop(key)
    assert content == {} or key == "none"
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())
    assert weights.inspect(tmp_path / "net.pth").wrapper == (None if key == "none" else key)


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    path = ours(tiny("drct"), tmp_path)
    for name in ("one.pth", "two.pth"):
        weights.convert(path, tmp_path / name)
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "two.pth").read_bytes()


def test_a_failed_conversion_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, old = ours(tiny("dat"), tmp_path), tmp_path / "net.pth"
    old.write_bytes(b"precious")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WeightsError, match=r"net\.pth: cannot be written .No space left"):
        weights.convert(path, old)
    assert old.read_bytes() == b"precious"
    assert sorted(tmp_path.iterdir()) == [old, path]


# ---- with a header


def test_a_published_file_gets_a_header_and_a_file_of_ours_keeps_it(tmp_path: Path) -> None:
    network = tiny("dat", image_range=2.0)
    theirs = write({"params_ema": network.state_dict()}, tmp_path / "theirs.pth")
    stated = {"image_range": 2, "drop_path_rate": 0, "window_size": [2, 2]}
    done = weights.convert(theirs, tmp_path / "net.safetensors", settings=stated)
    assert (done.network, done.key, done.num_derived, done.unstated) == ("dat x2", None, 0, {})
    assert done.notes[0].startswith("assumed, since shapes do not show it: mean")
    loaded = weights.load(tmp_path / "net.safetensors")
    assert (loaded.header["source"], loaded.settings.image_range, loaded.wrapper) == ("theirs.pth", 2, None)
    assert_same_answer(loaded.network, network)
    full = ours(network, tmp_path, source="a training", licence="MIT", training={"lr": 5e-4})
    weights.convert(full, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == full.read_bytes()


def test_a_damaged_training_in_a_header_is_told(tmp_path: Path) -> None:
    path = ours(tiny("dat"), tmp_path, training={"lr": 1})
    path.write_bytes(path.read_bytes().replace(b'{\\"lr\\": 1}', b'[\\"lr\\", 1]'))
    with pytest.raises(WeightsError, match=r"ours\.safetensors: damaged header"):
        weights.convert(path, tmp_path / "net.safetensors")


# ---- quantized networks


def test_a_quantized_network_stays_one_in_safetensors_alone(tmp_path: Path) -> None:
    network = tiny("drct")
    quantize(network, FAMILIES["drct"], seeded_input((2, 3, 16, 16)), bits=4)
    path = ours(network, tmp_path)
    done = weights.convert(path, tmp_path / "net.safetensors")
    assert done.network == "drct x2 at 4 bits"
    assert (tmp_path / "net.safetensors").read_bytes() == path.read_bytes()
    for output, reader in (("net.pth", None), ("other.safetensors", "spandrel")):
        with pytest.raises(
            ValueError, match=r"4-bit integers, which neither published code nor spandrel can read; con"
        ):
            weights.convert(path, tmp_path / output, reader=reader)  # type: ignore[arg-type]


def test_the_authors_quantized_network_is_converted(tmp_path: Path) -> None:
    path = published_file(tmp_path, "br")
    weights.convert(path, tmp_path / "net.safetensors")
    loaded = weights.load(tmp_path / "net.safetensors")
    assert loaded.quantization is not None
    assert loaded.quantization.bits == 4
    assert_same_answer(loaded.network, weights.load(path).network)


# ---- spandrel


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("family", ["dat", "drct"])
def test_a_file_for_spandrel_is_read_by_it(family: str, suffix: str, spandrel: ModuleType, tmp_path: Path) -> None:
    network, output = tiny(family, scale=3), tmp_path / f"net{suffix}"
    done = weights.convert(ours(network, tmp_path), output, reader="spandrel")
    assert done.num_derived == len(FAMILIES[family].files.derived(network))
    assert load_by_spandrel(output).network.architecture.lower() == family
    assert_same_answer(weights.load(output).network, network)


@pytest.mark.parametrize(
    ("family", "changes", "reason"),
    [
        ("hit-sr", {}, "spandrel does not know networks of hit-sr"),
        ("span", {}, "spandrel does not know networks of span"),
        ("dat", {"image_range": 255.0}, "spandrel reads it as DAT x2, whose answers are others"),
        ("drct", {"mean": (0.5, 0.5, 0.5)}, "spandrel reads it as DRCT x2, whose answers are others"),
    ],
)
def test_what_spandrel_cannot_know_is_refused(
    family: str, changes: dict[str, Any], reason: str, spandrel: ModuleType, tmp_path: Path
) -> None:
    path = ours(tiny(family, **changes), tmp_path)
    with pytest.raises(WeightsMismatchError, match=f"^{re.escape(str(path))}: {reason}"):
        weights.convert(path, tmp_path / "net.safetensors", reader="spandrel")
    assert list(tmp_path.iterdir()) == [path]


def test_without_spandrel_nothing_is_promised_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="spandrel"):
        weights.convert(ours(tiny("dat"), tmp_path), tmp_path / "net.safetensors", reader="spandrel")


def test_a_third_party_network_is_converted_by_its_own_keys(spandrel: ModuleType, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = spandrel.architectures.ESRGAN.ESRGAN(num_filters=8, num_blocks=2, scale=4).eval()
    state = {key: tensor.half() for key, tensor in network.state_dict().items()}
    path = write({"params_ema": state}, tmp_path / "theirs.pth")
    done = weights.convert(path, tmp_path / "net.safetensors")
    assert done.network == "ESRGAN x4, read by spandrel"
    assert weights.convert(tmp_path / "net.safetensors", tmp_path / "net.pth").key == "params"
    assert torch.load(tmp_path / "net.pth", weights_only=True)["params"].keys() == state.keys()
    expected = load_by_spandrel(path).network
    found = weights.load(tmp_path / "net.safetensors")
    assert (found.header["family"], found.header["scale"], found.header["source"]) == ("third-party", "4", "theirs.pth")
    assert json.loads(found.header["settings"])["architecture"] == "ESRGAN"
    for other in (found.network, load_by_spandrel(tmp_path / "net.pth").network):
        assert_same_answer(other, expected)
    with pytest.raises(ValueError, match=r"settings must be left out for .*, a third-party network"):
        weights.convert(path, tmp_path / "other.safetensors", settings={"image_range": 255})


# ---- wrong usage


@pytest.mark.parametrize(
    ("output", "arguments", "error", "reason"),
    [
        ("net.onnx", {}, ValueError, r"ends in \.safetensors or \.pth, got the name 'net\.onnx'"),
        ("net.safetensors", {"key": "params"}, ValueError, r"key must be left out for \.safetensors, .* got 'params'"),
        ("net.safetensors", {"image_size": 64}, ValueError, "image_size is for files that hold masks, .*, got 64"),
        ("net.pth", {"image_size": 65}, ValueError, "image_size must be a multiple of"),
        ("net.safetensors", {"settings": {"image_range": 2}}, ValueError, "whose header states them"),
    ],
)
def test_an_argument_that_does_not_fit_is_refused(
    output: str, arguments: dict[str, Any], error: type[Exception], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=reason):
        weights.convert(ours(tiny("drct"), tmp_path), tmp_path / output, **arguments)


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    path = write({"params": tiny("dat").state_dict()}, tmp_path / "theirs.pth")
    with pytest.raises(SettingsError, match="image_rang"):
        weights.convert(path, tmp_path / "net.safetensors", settings={"image_rang": 2})


def test_the_report_of_a_conversion_is_plain(tmp_path: Path) -> None:
    done = weights.convert(ours(tiny("hit-sr"), tmp_path), tmp_path / "net.pth", allow_unstated=True)
    assert json.loads(json.dumps(dict(done.unstated))) == {"base_window": [4, 4], "window_ratios": [0.5, 2.0]}
