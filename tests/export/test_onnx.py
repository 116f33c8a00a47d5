"""ONNX files are what the network is, by ONNX Runtime: equal in float32, integers where it is quantized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import finescale
from finescale.engines import parity
from finescale.engines.openvino import multiplies_bytes_exactly
from finescale.errors import NumericalError, WeightsError
from finescale.export import export_onnx
from finescale.networks import FAMILIES, Frame
from finescale.quantize import switched_off
from finescale.quantize.modules import quantized_layers
from finescale.weights import load_named
from heads import one_block
from helpers import ALIKE, seeded_input, usual_scale
from quantizing import quantize

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

SHAPES = [(1, 3, 53, 69), (3, 3, 11, 6), (1, 3, 5, 80), (1, 3, 66, 7), (2, 3, 32, 32)]
"""Odd sizes, some below a window, a wide and a tall one, whole windows; none of those by which an export is checked."""


def largest(family: Any) -> str:
    """The variant of a family whose tiny network is exported for every size, cut down to its largest group."""
    if family.name == "ngram":  # the other variant has four stages
        return "swinir-ng"
    depths = {variant: settings.depths for variant, settings in family.tiny.items()}
    return max(depths, key=lambda variant: (max(depths[variant]), -len(depths[variant])))


def one_group(family: Any) -> Any:
    """Settings of a tiny network cut down to its largest group; each layer takes seconds."""
    tiny = family.tiny[largest(family)]
    group = tiny.depths.index(max(tiny.depths))
    return tiny.model_copy(update={"depths": (tiny.depths[group],), "num_heads": (tiny.num_heads[group],)})


TINY = [
    pytest.param(family, variant, id=variant)
    for family in FAMILIES.values()
    for variant in family.tiny
    if variant not in (*ALIKE, largest(family))
]
"""Variants beside those that are exported for every size."""

QUANTIZED = [
    *(pytest.param(family, next(iter(family.tiny)), 8, id=family.name) for family in FAMILIES.values()),
    pytest.param(FAMILIES["hit-sr"], "hit-srf", 4, id="4 bits"),
]


def tiny(family: Any, variant: str, *, bits: int | None = None) -> Frame:
    torch.manual_seed(0)
    network: Frame = family.network(settings=family.tiny[variant], scale=usual_scale(family.tiny[variant])).eval()
    if bits is not None:
        quantize(network, family, seeded_input((2, 3, 20, 24)), bits=bits)
    return network


def by_onnx_runtime(file: Path, images: Tensor) -> Tensor:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # no sums that saturate
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["output"], {"input": images.numpy()})[0])


@torch.no_grad()
def answer(network: Frame, images: Tensor) -> Tensor:
    result: Tensor = network(images)
    return result


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Frame, Path]]:
    """Export one network of a family for every size, once; it takes seconds."""
    folder = tmp_path_factory.mktemp("exported")

    def export(name: str) -> tuple[Frame, Path]:
        family = FAMILIES[name]
        file = folder / f"{name}.onnx"
        torch.manual_seed(0)
        network: Frame = family.network(settings=one_group(family), scale=2).eval()
        if not file.exists():
            told = export_onnx(network, file, source="a test", licence="CC0-1.0")
            assert told.largest < 1e-4
            assert told.psnr > 100
        return network, file

    return export


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", FAMILIES)
def test_one_file_serves_every_size(name: str, exported: Callable[[str], tuple[Frame, Path]]) -> None:
    network, file = exported(name)
    for batch, channels, *size in SHAPES:
        images = seeded_input((batch, min(channels, network.in_channels), *size))
        torch.testing.assert_close(by_onnx_runtime(file, images), answer(network, images), rtol=0, atol=1e-5)
    assert file.stat().st_size < 4 * sum(tensor.numel() for tensor in network.parameters()) + 500_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_bundled_network_is_written_for_every_size(tmp_path: Path) -> None:
    network = load_named("default").network
    told = export_onnx(network, tmp_path / "n.onnx")
    assert told.largest < 1e-5
    assert (tmp_path / "n.onnx").stat().st_size < 2_500_000


def test_a_file_states_what_it_is(exported: Callable[[str], tuple[Frame, Path]]) -> None:
    network, file = exported("hit-sr")
    model = onnx.load(file)
    facts = {fact.key: fact.value for fact in model.metadata_props}
    assert facts == {
        "producer": f"finescale {finescale.__version__}",
        "family": "hit-sr",
        "settings": network.settings.model_dump_json(),
        "scale": "2",
        "channels": "3",
        "range": "0 1",
        "source": "a test",
        "licence": "CC0-1.0",
        "least_size": "1",
        "period": str(network.period),
        "tile": "256",
        "overlap": "64",
    }
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 19)]
    axes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert axes == [["batch", 3, "height", "width"], ["batch", 3, "2*height", "2*width"]]
    assert not [node for node in model.graph.node if node.metadata_props or node.doc_string]


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    network = one_block("pixelshuffledirect", 2)
    export_onnx(network, tmp_path / "whole.onnx", size=(9, 12))
    told = export_onnx(network, tmp_path / "half.onnx", size=(9, 12), half=True)
    assert 1e-6 < told.largest < 1e-2
    kinds = Counter()
    for tensor in onnx.load(tmp_path / "half.onnx").graph.initializer:
        kinds[tensor.data_type] += onnx.numpy_helper.to_array(tensor).size
    assert kinds[onnx.TensorProto.FLOAT16] > 10 * kinds[onnx.TensorProto.FLOAT]
    assert (tmp_path / "half.onnx").stat().st_size < (tmp_path / "whole.onnx").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize(("family", "variant"), TINY)
def test_every_network_has_the_same_answer(family: Any, variant: str, tmp_path: Path) -> None:
    network = tiny(family, variant)
    images = seeded_input((1, network.in_channels, 17, 23))
    told = export_onnx(network, tmp_path / "n.onnx", size=(17, 23))
    torch.testing.assert_close(by_onnx_runtime(tmp_path / "n.onnx", images), answer(network, images), rtol=0, atol=1e-4)
    assert told.largest < 1e-4
    assert told.psnr > 100


@pytest.mark.slow
@pytest.mark.parametrize(("head", "scale"), [("restoration", 1), ("pixelshuffle", 8)])
def test_heads_at_other_scales_have_the_same_answer(head: str, scale: int, tmp_path: Path) -> None:
    network, images = one_block(head, scale), seeded_input((1, 3, 9, 12))
    export_onnx(network, tmp_path / "n.onnx", size=(9, 12))
    torch.testing.assert_close(by_onnx_runtime(tmp_path / "n.onnx", images), answer(network, images), rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "variant", "bits"), QUANTIZED)
def test_quantized_networks_are_integers(family: Any, variant: str, bits: int, tmp_path: Path) -> None:
    network, images = tiny(family, variant, bits=bits), seeded_input((1, 3, 17, 23))
    export_onnx(network, tmp_path / "n.onnx", size=(17, 23))
    expected = answer(network, images)
    with switched_off(network):
        unquantized = answer(network, images)
    found = by_onnx_runtime(tmp_path / "n.onnx", images)
    assert (found - expected).norm() < 2 * (expected - unquantized).norm()

    graph = onnx.load(tmp_path / "n.onnx").graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    read = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear"}
    weights = [kinds.get(node.input[0]) for node in read.values() if node.input[0] in kinds]
    assert weights.count(onnx.TensorProto.INT8) > len(quantized_layers(network)) // 2  # the others make constants
    products = [node for node in graph.node if node.op_type == "Conv"]
    assert products
    assert all(node.input[0] in read and node.input[1] in read for node in products)


def test_signed_and_unsigned_integers_say_what_our_quantizers_say(tmp_path: Path) -> None:
    network, images = tiny(FAMILIES["span"], "span", bits=6), seeded_input((1, 3, 20, 20))
    export_onnx(network, tmp_path / "n.onnx", size=(20, 20))
    torch.testing.assert_close(by_onnx_runtime(tmp_path / "n.onnx", images), answer(network, images), rtol=0, atol=2e-3)
    kinds = Counter(tensor.data_type for tensor in onnx.load(tmp_path / "n.onnx").graph.initializer if not tensor.dims)
    assert kinds[onnx.TensorProto.UINT8] > 0 < kinds[onnx.TensorProto.INT8]


def test_weights_are_stored_as_integers(tmp_path: Path) -> None:
    network = tiny(FAMILIES["drct"], "drct", bits=8)
    export_onnx(network, tmp_path / "n.onnx", size=(16, 16))
    stored = onnx.load(tmp_path / "n.onnx").graph.initializer
    integers = sum(
        len(tensor.raw_data) for tensor in stored if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims
    )
    rows = sum(layer.weight.shape[0] for layer in quantized_layers(network).values())  # a zero point for each
    weights = sum(layer.weight.numel() for layer in quantized_layers(network).values())
    assert weights <= integers <= weights + rows


def test_a_network_for_one_size_needs_that_size(tmp_path: Path) -> None:
    family = FAMILIES["swinir"]
    settings = family.tiny["swinir-light"].model_copy(update={"position_size": 8})
    with pytest.raises(ValueError, match=r"images of 8 x 8 pixels alone, .*; export it for that size"):
        export_onnx(family.network(settings=settings, scale=2), tmp_path / "n.onnx")


def test_half_precision_is_refused_for_integers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="half must be False for a quantized network"):
        export_onnx(tiny(FAMILIES["drct"], "drct", bits=8), tmp_path / "n.onnx", half=True)


def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "TOLERANCE", 0.0)
    with pytest.raises(NumericalError, match=r"ONNX Runtime .* differs from the network by .*; nothing is written"):
        export_onnx(tiny(FAMILIES["drct"], "drct"), tmp_path / "n.onnx", size=(16, 16))
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"n\.onnx: cannot be written \(No such file or directory\)"):
        export_onnx(tiny(FAMILIES["drct"], "drct"), tmp_path / "nowhere" / "n.onnx", size=(16, 16))


def test_openvino_reads_the_file_too(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    if not multiplies_bytes_exactly(openvino, openvino.Core()):
        pytest.skip("sums of bytes saturate on this CPU")
    network, images = tiny(FAMILIES["craft"], "craft", bits=8), seeded_input((1, 3, 16, 24))
    export_onnx(network, tmp_path / "n.onnx", size=(16, 24))
    compiled = openvino.Core().compile_model(tmp_path / "n.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found, expected = torch.from_numpy(compiled([images.numpy()])[0]), answer(network, images)
    assert (found - expected).norm() < 0.05 * expected.std() * expected.numel() ** 0.5
