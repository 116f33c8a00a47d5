"""Integers are stored at their real width, and a quantized file loads to the same answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

import finescale
from finescale import weights
from finescale.errors import WeightsError, WeightsMismatchError
from finescale.networks import FAMILIES, Family, Frame, FrameSettings
from finescale.quantize import QuantSettings, insert_quantizers, settings_of
from finescale.quantize.calibrate import calibrate
from finescale.quantize.packing import BOUNDS, CODES, pack, packed_size, unpack
from finescale.weightfiles.tensors import write_tensors
from heads import heads
from quantizing import quantize


@given(st.sampled_from((2, 3, 4, 6, 8, 16)), st.integers(1, 70), st.integers(0, 2**31))
def test_what_is_packed_takes_its_bits_and_comes_back(bits: int, count: int, seed: int) -> None:
    numbers = torch.randint(0, 2**bits, (count,), generator=torch.Generator().manual_seed(seed))
    packed = pack(numbers, bits=bits)
    assert packed.shape == (packed_size(count, bits=bits),) == (-(-count * bits // 8),)
    assert torch.equal(unpack(packed, bits=bits, count=count).long(), numbers)


def quantized(family: str, variant: str, **settings: Any) -> Frame:
    torch.manual_seed(0)
    tiny = FAMILIES[family].tiny[variant]
    network = FAMILIES[family].network(settings=tiny, scale=2).eval()
    placement = FAMILIES[family].quantization.placement(tiny)
    how = QuantSettings(**settings)
    insert_quantizers(network, placement, how)
    calibrate(network, [torch.rand(1, 3, 16, 16)], placement, how)
    return network


@pytest.mark.parametrize("family", FAMILIES)
def test_a_quantized_file_of_any_family_loads_to_the_same_answers(family: str, tmp_path: Path) -> None:
    network = quantized(family, next(iter(FAMILIES[family].tiny)), bits=6)
    path = tmp_path / "small.safetensors"
    finescale.save(network, path, source="a test")
    loaded = finescale.load(path)
    image = torch.rand(1, 3, 13, 9)
    with torch.no_grad():
        assert torch.equal(loaded.network(image), network(image))
    assert loaded.quantization == settings_of(network)
    assert loaded.dtype == "6-bit integers"
    again = tmp_path / "again.safetensors"
    finescale.save(loaded.network, again, source="a test")
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_anchored_ranges_of_whole_weights_and_of_their_thirds_come_back(bits: int, tmp_path: Path) -> None:
    how = {"scheme": "anchored", "granularity": "tensor", "split_qkv": True, "method": "search"}
    network = quantized("swinir", "swinir", bits=bits, **how)
    path = tmp_path / "small.safetensors"
    finescale.save(network, path, source="a test")
    facts = json.loads(header_of(path)["quantization"])
    assert facts["scheme"] == "uniform-anchored"
    thirds = {name: entry[2:] for name, entry in facts["weights"].items()}
    assert thirds["layers.0.residual_group.blocks.0.attn.qkv"] == [3]
    assert thirds["layers.0.residual_group.blocks.0.attn.proj"] == [1]
    loaded = finescale.load(path)
    image = torch.rand(1, 3, 13, 9)
    with torch.no_grad():
        assert torch.equal(loaded.network(image), network(image))
    again = tmp_path / "again.safetensors"
    finescale.save(loaded.network, again, source="a test")
    assert again.read_bytes() == path.read_bytes()
    for change, reason in (
        ({"scheme": "uniform-asymmetric"}, "its scheme is 'uniform-asymmetric', where its settings state 'anchored'"),
        ({"weights": facts["weights"] | {"conv_first": [*facts["weights"]["conv_first"][:2], 2]}}, "known are 1 and 3"),
    ):
        finescale.save(network, path, source="a test")
        rewritten(path, **change)
        with pytest.raises(WeightsError, match=reason):
            finescale.load(path)


@pytest.mark.parametrize(("family", "settings", "scale"), heads(["hit-sr"]))
def test_a_quantized_file_at_another_scale_loads_to_the_same_answers(
    family: Family, settings: FrameSettings, scale: int, tmp_path: Path
) -> None:
    network = family.network(settings=settings, scale=scale).eval()
    image = torch.rand(1, 3, 13, 9)
    quantize(network, family, image, bits=4)
    finescale.save(network, tmp_path / "small.safetensors", source="a test")
    loaded = finescale.load(tmp_path / "small.safetensors", scale=scale)
    with torch.no_grad():
        assert torch.equal(loaded.network(image), network(image))


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_weights_take_their_bits_in_the_file(bits: int, tmp_path: Path) -> None:
    network = quantized("drct", "drct", bits=bits)
    path = tmp_path / "small.safetensors"
    finescale.save(network, path, source="a test")
    facts = json.loads(header_of(path)["quantization"])
    numbers = sum(torch.Size(shape).numel() for _, shape in facts["weights"].values())
    with safe_open(path, framework="pt") as file:
        packed = file.get_tensor(CODES)
        assert "conv_first.weight" not in file.keys()  # noqa: SIM118
    # Each layer begins with a new byte.
    assert numbers * bits / 8 <= packed.numel() < numbers * bits / 8 + len(facts["weights"])


def test_upscaling_and_inspecting_take_a_quantized_file_like_any_other(tmp_path: Path) -> None:
    network = quantized("hit-sr", "hit-srf", bits=8)
    path = tmp_path / "small.safetensors"
    finescale.save(network, path, source="a test")
    upscaler = finescale.Upscaler.from_pretrained(path)
    assert upscaler(torch.rand(3, 12, 10)).shape == (3, 24, 20)
    facts = weights.inspect(path)
    assert facts.quantization is not None
    assert facts.quantization.bits == 8
    assert "quantization" not in facts.header


def header_of(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata())


def rewritten(path: Path, *, tensors: dict[str, Any] | None = None, **facts: Any) -> None:
    """Change facts of a file's quantization, or its tensors; a value of None takes one away."""
    header = header_of(path)
    stated = json.loads(header["quantization"]) | facts
    header["quantization"] = json.dumps({key: value for key, value in stated.items() if value is not None})
    with safe_open(path, framework="pt") as file:
        state = {key: file.get_tensor(key) for key in file.keys()} | (tensors or {})  # noqa: SIM118
    write_tensors(path, {key: tensor for key, tensor in state.items() if tensor is not None}, header)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"scheme": "logarithmic"}, "update finescale"),
        ({"settings": None}, "lacks settings"),
        ({"settings": {"bits": 5}}, "bits"),
        ({"weights": {"conv_first": [4, [12, 3, 3, 10**6]]}}, "does not have the size"),
        ({"weights": {"conv_first": [99, [12, 3, 3, 3]]}}, "without width or shape"),
        ({"activations": {"result": "eight"}}, "without width"),
        ({"tensors": {CODES: None}}, "is missing"),
        ({"tensors": {BOUNDS: torch.zeros(3)}}, "does not have the size"),
    ],
)
def test_a_damaged_quantization_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    finescale.save(quantized("drct", "drct", bits=4), path, source="a test")
    rewritten(path, **change)
    with pytest.raises(WeightsError, match=reason):
        finescale.load(path)


def test_bounds_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    finescale.save(quantized("drct", "drct", bits=4), path, source="a test")
    with safe_open(path, framework="pt") as file:
        bounds = file.get_tensor(BOUNDS)
    bounds[0] = torch.nan
    rewritten(path, tensors={BOUNDS: bounds})
    with pytest.raises(WeightsError, match="NaN"):
        finescale.load(path)


def test_quantizers_elsewhere_than_in_the_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    finescale.save(quantized("drct", "drct", bits=4), path, source="a test")
    activations = json.loads(header_of(path)["quantization"])["activations"]
    activations["elsewhere"] = activations.pop("result")
    rewritten(path, activations=activations)
    for read in (finescale.load, weights.inspect):
        with pytest.raises(WeightsMismatchError, match="no quantizer at 'result'"):
            read(path)


def test_published_buffers_are_not_offered_for_integers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be False for a quantized network"):
        finescale.save(
            quantized("drct", "drct", bits=4), tmp_path / "a.safetensors", source="a test", published_buffers=True
        )


def test_quantizers_without_bounds_are_not_saved(tmp_path: Path) -> None:
    family = FAMILIES["drct"]
    network = family.network(settings=family.tiny["drct"], scale=2)
    insert_quantizers(network, family.quantization.placement(network.settings), QuantSettings(bits=4))
    with pytest.raises(ValueError, match="calibrate it before"):
        finescale.save(network, tmp_path / "a.safetensors", source="a test")


@pytest.mark.parametrize("change", ["swapped", "empty"])
def test_ranges_without_width_are_refused(change: str, tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    finescale.save(quantized("drct", "drct", bits=4), path, source="a test")
    bounds = load_file(path)[BOUNDS]
    rewritten(path, tensors={BOUNDS: -bounds if change == "swapped" else torch.zeros_like(bounds)})
    with pytest.raises(WeightsError, match="is empty, or its lower bound is above its upper bound"):
        weights.load(path)


def test_bounds_of_public_reports_are_refused(data_root: Path) -> None:
    with pytest.raises(WeightsError, match="is empty, or its lower bound is above its upper bound"):
        weights.load(data_root / "reports" / "faults" / "qq_bounds_negated.safetensors")
