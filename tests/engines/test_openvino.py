"""OpenVINO beside the network itself: equal in float32, near in bf16, and kept on disk."""

from __future__ import annotations

import copy
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale.engines import openvino as engine_module
from finescale.engines.openvino import OpenVINOEngine, delete_least_recently_used, translate
from finescale.errors import NumericalError
from finescale.networks import FAMILIES, Frame
from finescale.quantize import switched_off
from finescale.quantize.modules import quantized_layers
from finescale.upscale import Tiling, Upscaler
from heads import one_block
from helpers import seeded_input, seeded_tensor
from quantizing import quantize

pytest.importorskip("openvino")

pytestmark = pytest.mark.usefixtures("cache")

# Windows with softmax and without, and integers that fill half of a byte; tests/export asks every family.
QUANTIZED = [
    pytest.param(FAMILIES["hit-sr"], "hit-sir", 8, id="hit-sr"),
    pytest.param(FAMILIES["swinir"], "swinir", 8, id="swinir"),
    pytest.param(FAMILIES["hit-sr"], "hit-sng", 4, id="4 bits"),
]
TRANSLATING = "translating the network for OpenVINO; the result is cached"


def tiny(family: str = "hit-sr", variant: str | None = None, *, scale: int = 2) -> Frame:
    """A tiny network in eval mode, with weights that make every part count; by default one of a single block."""
    if variant is None:
        network = one_block("pixelshuffledirect", scale)
    else:
        network = FAMILIES[family].network(settings=FAMILIES[family].tiny[variant], scale=scale)
    state = {}
    for key, tensor in network.state_dict().items():
        value = seeded_tensor(key, tensor.shape) if tensor.is_floating_point() else tensor
        state[key] = 1 + value.abs() if key.endswith(".running_var") else value
    network.load_state_dict(state)
    return network.eval()


@torch.no_grad()
def answer(network: Frame, images: Tensor) -> Tensor:
    result: Tensor = network(images)
    return result


TRANSLATED: dict[tuple[Any, ...], Any] = {}
"""Translations of this module's tests, by network."""


@pytest.fixture
def translate_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Translate no network twice; a translation takes seconds."""

    def remembered(network: Frame, *, integers: bool, size: tuple[int, int] | None) -> Any:
        key = (integers, size, *(value.numpy().tobytes() for value in network.state_dict().values()))
        if key not in TRANSLATED:
            TRANSLATED[key] = translate(network, integers=integers, size=size)
        return TRANSLATED[key]

    monkeypatch.setattr(engine_module, "translate", remembered)


@pytest.mark.slow
@pytest.mark.parametrize(("head", "scale"), [("restoration", 1), ("pixelshuffle", 8)])
def test_heads_at_other_scales_have_the_same_answer(head: str, scale: int) -> None:
    network, images = one_block(head, scale), seeded_input((1, 3, 9, 12))
    found = OpenVINOEngine(network)(images, precision="float32")
    torch.testing.assert_close(found, answer(network, images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(33, 31), (9, 16)])
@pytest.mark.usefixtures("translate_once")
def test_each_size_has_the_same_answer(size: tuple[int, int]) -> None:
    network, images = tiny(scale=3), seeded_input((2, 3, *size))
    found = OpenVINOEngine(network)(images, precision="float32")
    torch.testing.assert_close(found, answer(network, images), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("family", "variant", "bits"), QUANTIZED)
def test_quantized_networks_are_translated_to_integers(family: Any, variant: str, bits: int) -> None:
    network, images = tiny(family.name, variant), seeded_input((1, 3, 16, 24))
    quantize(network, family, images, bits=bits)
    engine = OpenVINOEngine(network)
    found, expected = engine(images, precision="float32"), answer(network, images)
    with switched_off(network):
        unquantized = answer(network, images)
    assert (found - expected).norm() < 2 * (expected - unquantized).norm()
    if not engine.multiplies_integers:
        pytest.skip("sums of bytes saturate on this CPU, so the integers are not multiplied")
    compiled = engine.compiled((1, 3, 16, 24), "float32")
    computed = Counter(
        tuple(facts[key].astype(str) for key in ("layerType", "runtimePrecision"))
        for facts in (operator.get_rt_info() for operator in compiled.get_runtime_model().get_ops())
    )
    layers = Counter({kind: count for kind, count in computed.items() if kind[0] in ("Convolution", "FullyConnected")})
    assert sum(layers.values()) > len(quantized_layers(network)) // 2  # the others make constants
    float_layers = 3 if variant == "hit-sng" else 0  # products with constants, which have no quantizers
    assert sum(count for (_, kind), count in layers.items() if kind not in ("u8", "i8")) == float_layers


def test_a_quantized_network_computes_in_floats_where_sums_of_bytes_saturate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "multiplies_bytes_exactly", lambda *_: False)
    family, network, images = FAMILIES["hit-sr"], tiny(), seeded_input((1, 3, 16, 24))
    quantize(network, family, images, bits=8)
    engine = OpenVINOEngine(network)
    assert not engine.multiplies_integers
    found, expected = engine(images, precision="float32"), answer(network, images)
    with switched_off(network):
        unquantized = answer(network, images)
    assert (found - expected).norm() < 2 * (expected - unquantized).norm()
    kinds = {
        operator.get_rt_info()["runtimePrecision"].astype(str)
        for operator in engine.compiled((1, 3, 16, 24), "float32").get_runtime_model().get_ops()
        if operator.get_rt_info()["layerType"].astype(str) in ("Convolution", "FullyConnected")
    }
    assert kinds == {"f32"}


@pytest.mark.usefixtures("translate_once")
def test_bf16_is_near_where_there_is_bf16() -> None:
    network, images = tiny(), seeded_input((1, 3, 20, 20))
    engine = OpenVINOEngine(network)
    if "bf16" not in engine.precisions:
        pytest.skip("this CPU has no bf16")
    difference = engine(images, precision="bf16") - answer(network, images)
    assert 1e-4 < difference.abs().max() < 0.1


@pytest.mark.usefixtures("translate_once")
def test_what_was_compiled_is_kept_in_the_cache(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="finescale")
    network, images = tiny(), seeded_input((1, 3, 20, 20))
    first = OpenVINOEngine(network)(images, precision="float32")
    assert sorted(path.suffix for path in (cache / "openvino").iterdir()) == [".blob", ".onnx"]
    again = OpenVINOEngine(copy.deepcopy(network))(images, precision="float32")
    assert torch.equal(again, first)
    assert caplog.messages == [TRANSLATING]
    with torch.no_grad():
        network.conv_first.weight.add_(0.1)
    changed = OpenVINOEngine(network)(images, precision="float32")
    assert caplog.messages == [TRANSLATING] * 2
    torch.testing.assert_close(changed, answer(network, images), rtol=0, atol=1e-4)


@pytest.mark.parametrize("damaged", ["*.blob", "*.onnx"])
@pytest.mark.usefixtures("translate_once")
def test_a_damaged_file_is_reported_and_replaced(damaged: str, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    network, images = tiny(), seeded_input((1, 3, 20, 20))
    expected = OpenVINOEngine(network)(images, precision="float32")
    (file,) = (cache / "openvino").glob(damaged)
    content = bytearray(file.read_bytes())
    content[1000] ^= 1
    file.write_bytes(content)
    for other in set((cache / "openvino").iterdir()) - {file}:
        if damaged == "*.onnx":
            other.unlink()
    assert torch.equal(OpenVINOEngine(network)(images, precision="float32"), expected)
    assert f"{file} is damaged and will be replaced" in caplog.messages
    assert file.read_bytes() != content


@pytest.mark.usefixtures("translate_once")
def test_a_cache_that_cannot_be_written_is_reported(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file, not a folder")
    network, images = tiny(), seeded_input((1, 3, 20, 20))
    found = OpenVINOEngine(network)(images, precision="float32")
    torch.testing.assert_close(found, answer(network, images), rtol=0, atol=1e-4)
    told = [message for message in caplog.messages if "cannot be written" in message]
    assert len(told) == 2  # the translation, and what was compiled for the size
    for message in told:
        assert message.startswith(f"{cache / 'openvino'}")
        assert message.endswith("so the network is translated again next time")


def test_what_was_not_used_for_longest_is_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, name in enumerate(("new", "old", "oldest")):
        file = tmp_path / f"{name}.blob"
        file.write_bytes(bytes(100))
        os.utime(file, (1000 - age, 1000 - age))
    monkeypatch.setattr(engine_module, "MAX_CACHED_BYTES", 200)
    delete_least_recently_used(tmp_path)
    assert sorted(path.stem for path in tmp_path.glob("*.blob")) == ["new", "old"]


@pytest.mark.usefixtures("translate_once")
def test_a_translation_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    network, other = tiny(), tiny()
    with torch.no_grad():
        other.conv_first.weight.add_(0.1)
    translated = engine_module.translate
    monkeypatch.setattr(engine_module, "translate", lambda _network, **how: translated(other, **how))
    with pytest.raises(NumericalError, match=r"differs from the network by .*, more than .*; use engine 'torch'"):
        OpenVINOEngine(network)(seeded_input((1, 3, 20, 20)), precision="float32")
    assert not cache.exists()


@pytest.mark.usefixtures("translate_once")
def test_no_more_networks_are_held_than_a_picture_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_COMPILED", 1)
    engine = OpenVINOEngine(tiny())
    first, second = (engine.compiled(shape, "float32") for shape in ((1, 3, 20, 20), (1, 3, 40, 40)))
    assert engine.compiled((1, 3, 40, 40), "float32") is second
    assert engine.compiled((1, 3, 20, 20), "float32") is not first


def test_the_network_is_left_as_it_was() -> None:
    network = tiny("dat", "dat-light")
    before = {name: type(module) for name, module in network.named_modules()}
    OpenVINOEngine(network)(seeded_input((1, 3, 16, 16)), precision="float32")
    assert {name: type(module) for name, module in network.named_modules()} == before
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.usefixtures("translate_once")
def test_an_upscaler_by_openvino_serves_several_threads() -> None:
    network, picture = tiny(), seeded_input((1, 3, 40, 40))[0]
    expected = Upscaler(network)(picture)
    upscaler = Upscaler(network, engine="openvino", tiling=Tiling(tile=0))
    with ThreadPoolExecutor(3) as threads:
        results = list(threads.map(upscaler, [picture] * 3))
    for result in results:
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-4)
