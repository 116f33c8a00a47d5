"""Whole networks: quantized CRAFT is the published one, and every family keeps the promises of quantization."""

from __future__ import annotations

import copy
import itertools
import statistics
from typing import Any

import pytest
import torch
from torch import Tensor

from finescale.layers.explicit_attention import Tap
from finescale.networks import FAMILIES, Family, Frame, FrameSettings
from finescale.quantize import QuantSettings, insert_quantizers, switched_off
from finescale.quantize import calibrate as room
from finescale.quantize.calibrate import calibrate
from finescale.quantize.modules import bounds_of, quantized_layers, quantizers, switch
from finescale.quantize.observers import Observer
from finescale.quantize.refine import Refinement, refine
from golden_ptq import Case, names, published_name, quantized_network, set_bounds
from helpers import ALIKE, seeded_input, usual_scale

networks = pytest.mark.parametrize("name", names("network"))
refinements = pytest.mark.parametrize("name", names("refine"))

TINY = [
    pytest.param(family, settings, id=variant)
    for family in FAMILIES.values()
    for variant, settings in family.tiny.items()
    if variant not in ("drct-l", "dat-s", "dat-2", *ALIKE)  # which differ from their siblings in numbers alone
]
families = pytest.mark.parametrize(("family", "tiny"), TINY)


# ---- golden cases


@networks
def test_quantized_craft_answers_as_published(name: str) -> None:
    case = Case(name)
    network, _, settings = quantized_network(case)
    with torch.no_grad():
        torch.testing.assert_close(network(case["input"]), case["float_output"], rtol=0, atol=1e-4)
        set_bounds(network, case.bounds("bounds"))
        difference = (network(case["input"]) - case["output"]).abs()
    assert difference.mean() < 4e-3
    assert settings.bits == 8 or difference.max() < 1e-3


@networks
def test_every_quantizer_of_craft_sees_the_tensor_that_the_published_one_sees(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(name)
    network, placement, settings = quantized_network(case)
    seen: list[list[tuple[float, float, int]]] = []

    class Spy(Observer):
        def __init__(self, settings: QuantSettings, *, per_row: bool = False, **how: Any) -> None:
            super().__init__(settings, per_row=per_row, **how)
            self._log: list[tuple[float, float, int]] = []
            if not per_row:
                seen.append(self._log)

        def update(self, x: Tensor, *, times: int = 1) -> None:
            self._log.append((float(x.min()), float(x.max()), x.numel()))
            super().update(x, times=times)

    monkeypatch.setattr(room, "Observer", Spy)
    calibrate(network, case.each("calib"), placement, settings)
    activations = [path for path in quantizers(network) if not path.endswith("weight_quantizer")]
    places = {quantizer: (row, shapes) for row, (quantizer, shapes) in enumerate(case.meta["observed"])}
    assert len(seen) == len(activations)
    for path, log in zip(activations, seen, strict=True):
        row, shapes = places.pop(published_name(path))
        assert [size for *_, size in log] == [torch.Size(shape).numel() for shape in shapes]
        extremes = torch.tensor([ends[:2] for ends in log])
        torch.testing.assert_close(extremes, case["observed"][row], rtol=0, atol=1e-4)
    assert all(".pos." in name for name in places)  # of position biases without effect


@networks
def test_ranges_of_whole_craft_are_as_wide_as_published_and_mostly_the_same(name: str) -> None:
    case = Case(name)
    network, placement, settings = quantized_network(case)
    calibrate(network, case.each("calib"), placement, settings)
    wanted = case.bounds("bounds")
    same: dict[bool, list[Tensor]] = {True: [], False: []}
    for path, (low, high) in bounds_of(network).items():
        least, most = wanted[published_name(path)]
        torch.testing.assert_close(high - low, most - least, rtol=1e-4, atol=0)
        agree = ((low - least).abs() <= 2e-5) & ((high - most).abs() <= 2e-5)
        same[path.endswith("weight_quantizer")].append(agree.reshape(-1))
    assert torch.cat(same[True]).float().mean() >= 0.97
    assert torch.cat(same[False]).float().mean() >= 0.8


@refinements
def test_refinement_takes_the_published_steps(name: str) -> None:
    case = Case(name)
    network, _, settings = quantized_network(case)
    set_bounds(network, case.bounds("start"))
    order = (0, 1, 0)
    losses: list[float] = []
    first: dict[str, tuple[Tensor, Tensor]] = {}
    gradients: dict[str, tuple[Tensor, Tensor]] = {}

    def look(loss: float) -> None:
        losses.append(loss)
        if len(losses) == 1:
            first.update(bounds_of(network))
            for path, one in quantizers(network).items():
                assert one.low.grad is not None
                assert one.high.grad is not None
                gradients[path] = one.low.grad.clone(), one.high.grad.clone()

    images, targets = ([case[f"{kind}{number}"] for number in order] for kind in ("batch", "target"))
    refine(network, images, targets, settings, on_step=look)
    assert losses == pytest.approx(case["losses"].tolist(), rel=2e-2)
    assert losses[0] == pytest.approx(float(case["losses"][0]), rel=1e-5)
    assert losses[2] < losses[0]
    wanted, after = case.bounds("grad"), case.bounds("step1")
    error = norm = 0.0
    for path, found in gradients.items():
        for gradient, aim, bound, step in zip(
            found, wanted[published_name(path)], first[path], after[published_name(path)], strict=True
        ):
            error += float((gradient - aim).square().sum())
            norm += float(aim.square().sum())
            matters = aim.abs() > 1e-6
            torch.testing.assert_close(bound[matters], step[matters], rtol=0, atol=1e-5)
    assert error**0.5 <= 1e-3 * norm**0.5


# ---- promises of every family


def trained_like(family: Family, tiny: FrameSettings) -> Frame:
    """A tiny network whose weights all count."""
    torch.manual_seed(0)
    network = family.network(settings=tiny, scale=usual_scale(tiny)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn_like(parameter) / (2 * parameter[0].numel() ** 0.5))
    return network


def images(number: int, *, seed: int, channels: int = 3) -> list[Tensor]:
    return [seeded_input((2, channels, 16, 16), seed=10 * seed + each) for each in range(number)]


@families
def test_switched_off_a_quantized_network_answers_as_the_float_one(family: Family, tiny: FrameSettings) -> None:
    network = trained_like(family, tiny)
    (image,) = images(1, seed=1, channels=tiny.in_channels)
    keys = list(network.state_dict())
    with torch.no_grad():
        wanted = network(image)
        insert_quantizers(network, family.quantization.placement(tiny), QuantSettings(bits=4))
        torch.testing.assert_close(network(image), wanted, rtol=1e-4, atol=1e-4)
    assert list(network.state_dict()) == keys
    assert not any(isinstance(module, Tap) for module in network.modules())


@families
def test_every_quantizer_is_reached_and_at_16_bits_the_answer_is_close(family: Family, tiny: FrameSettings) -> None:
    network = trained_like(family, tiny)
    settings = QuantSettings(bits=16, edge_bits=16, method="minmax")
    placement = family.quantization.placement(tiny)
    seen = images(1, seed=1, channels=tiny.in_channels)
    with torch.no_grad():
        wanted = network(seen[0])
        insert_quantizers(network, placement, settings)
        calibrate(network, seen, placement, settings)
        assert (network(seen[0]) - wanted).square().mean() < 2e-2 * wanted.var()
    layers = quantized_layers(network)
    assert placement.first in layers
    assert all(set(layers.values()) & set(group.modules()) for group in network.groups)
    assert all(float((one.high - one.low).min()) > 0 for one in quantizers(network).values())


@families
def test_refined_ranges_come_closer_to_float_on_images_not_learned_from(family: Family, tiny: FrameSettings) -> None:
    network = trained_like(family, tiny)
    placement = family.quantization.placement(tiny)
    settings = QuantSettings(bits=4, epochs=4, lr=5e-3)
    learned, others = (images(count, seed=seed, channels=tiny.in_channels) for count, seed in ((3, 1), (1, 2)))
    with torch.no_grad():
        targets, wanted = ([network(image) for image in batch] for batch in (learned, others))
    insert_quantizers(network, placement, settings)
    calibrate(network, learned, placement, settings)

    def loss() -> float:
        with torch.no_grad():
            return float((network(others[0]) - wanted[0]).square().mean())

    before = loss()
    refinement = refine(network, learned, targets, settings)
    assert refinement.losses[-1] < refinement.losses[0]
    assert loss() < before


# ---- details


def small() -> tuple[Family, Frame]:
    family = FAMILIES["hit-sr"]
    return family, trained_like(family, family.tiny["hit-sir"])


def test_layers_that_read_one_tensor_share_a_quantizer() -> None:
    family, network = small()
    insert_quantizers(network, family.quantization.placement(network.settings), QuantSettings(bits=4))
    layers = quantized_layers(network)
    pairs = [path for path in layers if path.endswith("qv.linear")]
    assert pairs
    for path in pairs:
        assert layers[path].input_quantizer is layers[path.replace("linear", "conv.0")].input_quantizer


def test_kept_layers_have_8_bits_and_the_image_has_its_own() -> None:
    family, network = small()
    settings = QuantSettings(bits=4, keep=("first", "last", "layers.0.*"))
    insert_quantizers(network, family.quantization.placement(network.settings), settings)
    bits = {path: one.bits for path, one in quantizers(network).items()}
    assert bits["conv_first.weight_quantizer"] == bits["upsample.0.weight_quantizer"] == 8
    assert bits["conv_first.input_quantizer"] == bits["result"] == 8
    kept = {width for path, width in bits.items() if path.startswith("layers.0.") and "weight" in path}
    assert kept == {8}
    assert bits["conv_after_body.weight_quantizer"] == 4


def test_a_kept_layer_that_there_is_not_is_refused() -> None:
    family, network = small()
    with pytest.raises(ValueError, match=r"keep: no layer is named 'lasst'"):
        insert_quantizers(
            network, family.quantization.placement(network.settings), QuantSettings(bits=4, keep=("lasst",))
        )


def test_an_interrupted_refinement_goes_on_to_the_same_bounds() -> None:
    family, network = small()
    placement = family.quantization.placement(network.settings)
    settings = QuantSettings(bits=4, epochs=2)
    learned = images(2, seed=1)
    with torch.no_grad():
        targets = [network(image) for image in learned]
    insert_quantizers(network, placement, settings)
    calibrate(network, learned, placement, settings)
    other = copy.deepcopy(network)
    refine(network, learned, targets, settings)
    begun = Refinement()

    def interrupt(_progress: Refinement) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine(other, learned, targets, settings, progress=begun, on_epoch=interrupt)
    assert len(begun.losses) == 1
    refine(other, learned, targets, settings, progress=Refinement(losses=begun.losses, moments=begun.moments))
    for path, bounds in bounds_of(network).items():
        assert all(torch.equal(one, same) for one, same in zip(bounds, bounds_of(other)[path], strict=True))


def test_the_rate_is_a_share_of_each_range_and_falls() -> None:
    family, network = small()
    settings = QuantSettings(bits=4, epochs=2, lr=0.01)
    learned = images(2, seed=1)
    with torch.no_grad():
        targets = [network(image) for image in learned]
    insert_quantizers(network, family.quantization.placement(network.settings), settings)
    calibrate(network, learned, family.quantization.placement(network.settings), settings)
    steps: list[dict[str, Tensor]] = [{path: high for path, (_, high) in bounds_of(network).items()}]
    widths = {path: float((high - low).mean()) for path, (low, high) in bounds_of(network).items()}

    def look(_loss: float) -> None:
        steps.append({path: high for path, (_, high) in bounds_of(network).items()})

    refine(network, learned, targets, settings, on_step=look)
    shares = [
        [float((after[path] - before[path]).abs().max()) / widths[path] for path in widths]
        for before, after in itertools.pairwise(steps)
    ]
    assert max(shares[0]) == pytest.approx(0.01, rel=1e-3)  # Adam's first step is as long as the rate, wherever
    assert statistics.median(shares[0]) == pytest.approx(0.01, rel=1e-3)
    assert max(shares[-1]) < max(shares[0]) / 2


def test_no_image_to_calibrate_with_is_refused() -> None:
    family, network = small()
    placement = family.quantization.placement(network.settings)
    insert_quantizers(network, placement, QuantSettings(bits=8))
    with pytest.raises(ValueError, match="at least one image"):
        calibrate(network, [], placement, QuantSettings(bits=8))


def test_within_a_block_a_network_is_float_again() -> None:
    family, network = small()
    placement = family.quantization.placement(network.settings)
    (image,) = images(1, seed=1)
    with torch.no_grad():
        wanted = network(image)
        insert_quantizers(network, placement, QuantSettings(bits=4))
        calibrate(network, [image], placement, QuantSettings(bits=4))
        coarse = network(image)
        with switched_off(network):
            torch.testing.assert_close(network(image), wanted, rtol=1e-4, atol=1e-4)
        assert torch.equal(network(image), coarse)
        switch(network, on=True, only={"result"})
        assert not torch.equal(network(image), coarse)
