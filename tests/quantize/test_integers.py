"""The integer form says what the quantized network says, in eight bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from finescale.networks import FAMILIES, FrameSettings
from finescale.quantize import QuantSettings, insert_quantizers, integer_form, switched_off
from finescale.quantize.calibrate import calibrate
from finescale.quantize.integers import EightBits, FloatGrid, SignedWeights
from finescale.quantize.modules import QuantLinear, quantizers
from finescale.quantize.quantizer import Quantizer
from heads import heads
from helpers import ALIKE, seeded_input, usual_scale
from quantizing import quantize

TINY = [
    pytest.param(family, settings, id=variant)
    for family in FAMILIES.values()
    for variant, settings in family.tiny.items()
    if variant not in ALIKE
]


def quantizer(low: float, high: float, *, bits: int) -> Quantizer:
    one = Quantizer(bits=bits)
    one.set_bounds(torch.tensor(low), torch.tensor(high))
    one.is_on = True
    return one


def numbers() -> Tensor:
    return torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * 2


RANGES = [(-1.0, 3.0), (-3.0, 1.0), (0.0, 2.0), (-2.0, 0.0), (-0.1, 3.0)]


@pytest.mark.parametrize(("low", "high"), RANGES)
@pytest.mark.parametrize(("bits", "signed"), [(4, False), (4, True), (6, False), (6, True), (8, False)])
def test_an_activation_has_the_same_numbers(low: float, high: float, bits: int, signed: bool) -> None:
    one = quantizer(low, high, bits=bits)
    torch.testing.assert_close(EightBits(one, signed=signed)(numbers()), one(numbers()), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("low", "high"), RANGES)
def test_a_signed_activation_of_eight_bits_has_a_step_that_holds_its_range(low: float, high: float) -> None:
    one = quantizer(low, high, bits=8)
    form = EightBits(one, signed=True)
    assert form.zero == 0
    if low < 0:
        assert (form.lowest, form.highest) == (-128, 127)
        assert form.step == pytest.approx(max(-low, high) / 127, rel=1e-2)
    difference = (form(numbers()) - numbers().clamp(low, high)).abs()
    assert difference.max() < form.step / 2 + float(one.step_and_zero()[0])


@pytest.mark.parametrize("bits", [4, 6, 8])
def test_weights_are_the_same_where_signed_integers_hold_them(bits: int) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(40, 6)
    with torch.no_grad():
        linear.weight.clamp_(-0.1, 0.1)
        linear.weight[0] += 3  # far from zero: with eight bits its codes do not fit
    network = nn.Sequential(QuantLinear(linear, weight_quantizer=Quantizer(bits=bits, rows=len(linear.weight))))
    layer: Any = network[0]
    reach = linear.weight.abs().amax(1)
    layer.weight_quantizer.set_bounds(-reach * 128 / 127, reach)
    layer.weight_quantizer.is_on = True
    network.quantization = QuantSettings(bits=8 if bits == 8 else 4)
    wanted = layer.quantized_weight()
    form: Any = integer_form(network)[0]
    assert isinstance(form.weight_quantizer, SignedWeights)
    found = form.quantized_weight()
    rows = slice(1 if bits == 8 else 0, None)
    torch.testing.assert_close(found[rows], wanted[rows], rtol=0, atol=1e-6)
    assert (found - wanted).abs().max() <= form.weight_quantizer.step.max() / 2


@pytest.mark.parametrize(("granularity", "split_qkv"), [("row", False), ("tensor", True)])
@pytest.mark.parametrize("scheme", ["anchored", "zero-point"])
def test_shared_ranges_and_anchored_ones_answer_alike(scheme: Any, granularity: Any, split_qkv: bool) -> None:
    torch.manual_seed(1)
    family, images = FAMILIES["swinir"], seeded_input((1, 3, 16, 16))
    network = family.network(settings=family.tiny["swinir"], scale=2).eval()
    settings = QuantSettings(bits=4, method="minmax", scheme=scheme, granularity=granularity, split_qkv=split_qkv)
    placement = family.quantization.placement(network.settings)
    insert_quantizers(network, placement, settings)
    calibrate(network, [images], placement, settings)
    form = integer_form(network)
    with torch.no_grad():
        found, wanted = form(images), network(images)
        with switched_off(network):
            unquantized = network(images)
    assert (found - wanted).norm() < (wanted - unquantized).norm() / 2
    assert not quantizers(form)
    assert any(isinstance(module, FloatGrid) for module in form.modules()) == (scheme == "anchored")


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("family", "tiny"), TINY)
def test_every_network_answers_alike_and_is_left_as_it_was(family: Any, tiny: Any, bits: int) -> None:
    torch.manual_seed(1)
    network = family.network(settings=tiny, scale=usual_scale(tiny)).eval()
    images = seeded_input((1, network.in_channels, 16, 24))
    quantize(network, family, images, bits=bits)
    form = integer_form(network)
    assert not quantizers(form)
    assert quantizers(network)
    with torch.no_grad():
        found, wanted = form(images), network(images)
        with switched_off(network):
            unquantized = network(images)
    assert (found - wanted).norm() < 2 * (wanted - unquantized).norm()  # a number midway falls to either side


@pytest.mark.parametrize(("family", "settings", "scale"), heads(["hit-sr"]))
def test_every_head_has_an_integer_form(family: Any, settings: FrameSettings, scale: int) -> None:
    torch.manual_seed(1)
    network, images = family.network(settings=settings, scale=scale).eval(), seeded_input((1, 3, 16, 16))
    quantize(network, family, images, bits=8)
    form = integer_form(network)
    with torch.no_grad():
        found, wanted = form(images), network(images)
        with switched_off(network):
            unquantized = network(images)
    assert found.shape == (1, 3, 16 * scale, 16 * scale)
    assert (found - wanted).norm() < 2 * (wanted - unquantized).norm()


def test_products_are_signed_and_inputs_of_layers_are_not() -> None:
    family = FAMILIES["drct"]
    tiny = next(iter(family.tiny.values()))
    network, images = family.network(settings=tiny, scale=2).eval(), seeded_input((1, 3, 16, 16))
    quantize(network, family, images, bits=8)
    forms = {name: module for name, module in integer_form(network).named_modules() if isinstance(module, EightBits)}
    signed = {name for name, form in forms.items() if form.lowest < 0}
    assert signed == {name for name in forms if name.endswith((".query", ".key", ".value"))} != set()


def test_a_float_network_has_no_integer_form() -> None:
    with pytest.raises(ValueError, match="Linear has no quantizers; only a quantized network has"):
        integer_form(nn.Linear(2, 2))


def test_sixteen_bits_have_no_integer_form() -> None:
    network: Any = nn.Sequential(
        QuantLinear(nn.Linear(2, 2), weight_quantizer=Quantizer(bits=8, rows=2), input_quantizer=Quantizer(bits=16))
    )
    network.quantization = QuantSettings(bits=16, edge_bits=16, method="minmax")
    with pytest.raises(ValueError, match="an integer form has at most eight bits, the network has 16"):
        integer_form(network)
