"""Quantization of modules that are not finescale's: what is found in them, and how close the result comes."""

from __future__ import annotations

import copy
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from finescale import Upscaler
from finescale.errors import DataError
from finescale.images import write_image
from finescale.layers.attention import SoftmaxAttention
from finescale.networks import WrappedNetwork
from finescale.quantize import QuantSettings, insert_quantizers, is_quantized, quantize_network, trace
from finescale.quantize.calibrate import calibrate
from finescale.quantize.modules import quantizers, switch
from finescale.quantize.tracing import insert_products
from finescale.weights import load_by_spandrel
from foreign import Small
from helpers import seeded_input
from small_sets import picture

KINDS = {"operator": (2, 2), "method": (2, 2), "einsum": (2, 2), "attention": (4,)}
kinds = pytest.mark.parametrize("kind", KINDS)


def wrapped(module: nn.Module, *, scale: int = 2) -> WrappedNetwork:
    return WrappedNetwork(module, scale=scale).eval()


def seeded(kind: str) -> WrappedNetwork:
    torch.manual_seed(0)
    return wrapped(Small(kind))


def quantized(network: WrappedNetwork, images: Tensor, settings: QuantSettings) -> WrappedNetwork:
    found = trace(network, images)
    insert_quantizers(network, found.placement, settings)
    insert_products(network, found, settings)
    calibrate(network, [images], found.placement, settings)
    return network


IMAGES = seeded_input((2, 3, 12, 12))
FINE = QuantSettings(bits=16, edge_bits=16, method="minmax")


@kinds
def test_layers_and_both_operands_of_every_product_are_found(kind: str) -> None:
    found = trace(seeded(kind), IMAGES)
    layers = ["model.first", "model.attention.qkv", "model.attention.proj", "model.last"]
    assert list(found.layers) == layers
    assert found.products == {"model.attention": KINDS[kind]}
    assert not found.in_float
    assert (found.placement.first, found.placement.last) == ("model.first", ("model.last",))


@kinds
def test_switched_off_the_answers_stay_and_at_16_bits_they_are_close(kind: str) -> None:
    network = seeded(kind)
    keys = list(network.state_dict())
    with torch.no_grad():
        wanted = network(IMAGES)
        quantized(network, IMAGES, FINE)
        torch.testing.assert_close(network(IMAGES), wanted, rtol=0, atol=1e-3)
        switch(network, on=False)
        torch.testing.assert_close(network(IMAGES), wanted, rtol=0, atol=1e-6)
    assert list(network.state_dict()) == keys


@kinds
def test_each_operand_is_rounded_to_the_values_of_its_quantizer(kind: str) -> None:
    network = quantized(seeded(kind), IMAGES, QuantSettings(bits=4, method="minmax"))
    operands = {path: one for path, one in quantizers(network).items() if "quantized_products" in path}
    assert len(operands) == 4
    with torch.no_grad():
        wanted = network(IMAGES)
        for path, one in operands.items():
            one.is_on = False
            assert not torch.equal(network(IMAGES), wanted), path
            one.is_on = True
        assert torch.equal(network(IMAGES), wanted)


def test_quantizers_of_products_have_the_scheme_of_the_settings() -> None:
    settings = QuantSettings(bits=4, method="search", scheme="anchored")
    network = quantized(seeded("operator"), IMAGES, settings)
    assert {one.anchored for one in quantizers(network).values()} == {True}


def test_masks_of_one_call_attention_act_as_without_quantizers() -> None:
    class Masked(Small):
        def forward(self, image: Tensor) -> Tensor:
            x = self.first(image).flatten(2).mT
            ones = torch.ones(x.shape[1], x.shape[1]).tril()
            x = nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=ones.bool())
            x = nn.functional.scaled_dot_product_attention(x, x, x, attn_mask=ones)
            return nn.functional.pixel_shuffle(self.last(x.mT.unflatten(-1, image.shape[-2:])), 2)

    torch.manual_seed(0)
    network = wrapped(Masked())
    with torch.no_grad():
        wanted = network(IMAGES)
        quantized(network, IMAGES, FINE)
        torch.testing.assert_close(network(IMAGES), wanted, rtol=0, atol=1e-3)


def test_what_stays_in_float_is_reported_with_its_reason() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 8, 3, padding=1)
            self.twice = nn.Conv2d(8, 8, 1)
            self.unused = nn.Conv2d(8, 8, 1)
            self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 1))
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.up = nn.ConvTranspose2d(8, 3, 2, stride=2)

        def forward(self, image: Tensor) -> Tensor:
            x = self.normed(self.twice(self.twice(self.first(image))))
            tokens = x.flatten(2).mT
            tokens = self.attention(tokens, tokens, tokens)[0]
            answer: Tensor = self.up(x + tokens.mT.unflatten(-1, x.shape[-2:]))
            return answer

    torch.manual_seed(0)
    network = wrapped(Mixed())
    found = trace(network, IMAGES)
    assert found.layers == ("model.first",)
    assert found.in_float == {
        "model.twice": "called 2 times for an image",
        "model.unused": "called 0 times for an image",
        "model.normed": "convolution outside of a 2D convolution layer of PyTorch",
        "model.attention": "multi-head attention as one call",
        "model.up": "transposed convolution",
    }
    with torch.no_grad():
        wanted = network(IMAGES)
        assert (quantized(network, IMAGES, FINE)(IMAGES) - wanted).abs().max() < 1e-3


def test_a_product_of_finescales_own_layers_has_its_own_quantizers() -> None:
    class Borrowing(Small):
        def __init__(self) -> None:
            super().__init__()
            self.product = SoftmaxAttention()

        def forward(self, image: Tensor) -> Tensor:
            x = self.first(image).flatten(2).mT
            x = self.product(x, x, x) @ torch.eye(8)
            return nn.functional.pixel_shuffle(self.last(x.mT.unflatten(-1, image.shape[-2:])), 2)

    torch.manual_seed(0)
    network = wrapped(Borrowing())
    assert trace(network, IMAGES).products == {"model": (2,)}
    with torch.no_grad():
        wanted = network(IMAGES)
        quantized(network, IMAGES, FINE)
        assert (network(IMAGES) - wanted).abs().max() < 1e-3
    assert {path for path in quantizers(network) if ".product." in path} == {
        f"model.product.{name}" for name in ("query", "key", "value", "probabilities")
    }


def test_products_of_a_module_that_is_called_twice_stay_in_float() -> None:
    class Twice(Small):
        def forward(self, image: Tensor) -> Tensor:
            x = self.attention(self.attention(self.first(image)))
            return nn.functional.pixel_shuffle(self.last(x), 2)

    found = trace(wrapped(Twice()), IMAGES)
    assert found.products == {}
    assert found.in_float["model.attention"] == "products in a module that is called 2 times"
    assert found.layers == ("model.first", "model.last")


def test_more_products_than_were_traced_are_refused() -> None:
    class Rows(Small):
        def forward(self, image: Tensor) -> Tensor:
            x = self.first(image)
            rows = [row @ row.mT @ row for row in x.unbind(-2)]
            return nn.functional.pixel_shuffle(self.last(torch.stack(rows, dim=-2)), 2)

    network = quantized(wrapped(Rows()), IMAGES, QuantSettings(bits=8, method="minmax"))
    with torch.no_grad(), pytest.raises(ValueError, match="more than the 24 products that it had"):
        network(seeded_input((1, 3, 13, 12)))


def test_a_copy_of_a_quantized_network_goes_its_own_way() -> None:
    network = quantized(seeded("operator"), IMAGES, QuantSettings(bits=4, method="minmax"))
    twin = copy.deepcopy(network)
    with torch.no_grad():
        wanted = network(IMAGES)
        assert torch.equal(twin(IMAGES), wanted)
        for one in quantizers(twin).values():
            one.high.mul_(0.5)
        assert not torch.equal(twin(IMAGES), wanted)
        assert torch.equal(network(IMAGES), wanted)


def test_a_module_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="Upsample has no linear layer or convolution that can be quantized"):
        trace(wrapped(nn.Upsample(scale_factor=2)), IMAGES)


# ---- as a whole


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    write_image(tmp_path / "a.png", picture(60, 70).float() / 255)
    return tmp_path


def test_a_module_is_quantized_in_place_and_refined(pictures: Path) -> None:
    torch.manual_seed(0)
    module = Small()
    with torch.no_grad():
        wanted = module(IMAGES)
    settings = QuantSettings(bits=6, method="minmax", epochs=2)
    result = quantize_network(module, pictures, settings, scale=2, crops=4, crop_size=12, with_sensitivity=True)
    assert result.traced is not None
    assert result.traced.products == {"model.attention": (2, 2)}
    assert "model.attention.quantized_products.1" in result.sensitivity
    assert result.losses[-1] < result.losses[0]
    assert result.reached > 25
    assert is_quantized(module)
    with torch.no_grad():
        assert 1e-4 < (module(IMAGES) - wanted).abs().mean() < 0.1
    with pytest.raises(ValueError, match="quantized already"):
        quantize_network(module, pictures, settings, scale=2)


def test_a_module_needs_its_scale_and_pictures(pictures: Path) -> None:
    with pytest.raises(ValueError, match="scale must be given for Small, which is no network of finescale's"):
        quantize_network(Small(), pictures, QuantSettings())
    with pytest.raises(DataError, match="no picture of 96 x 96 pixels"):
        quantize_network(Small(), pictures, QuantSettings(), scale=2, crop_size=96)


@pytest.mark.filterwarnings("ignore:torch.meshgrid")  # by third-party code
def test_a_third_party_network_is_quantized_with_its_products(spandrel: ModuleType, pictures: Path) -> None:
    torch.manual_seed(0)
    arguments = {"window_size": 4, "depths": [2], "embed_dim": 12, "num_heads": [2], "upscale": 2}
    theirs = spandrel.architectures.SwinIR.SwinIR(**arguments, upsampler="pixelshuffledirect")
    weights = pictures / "swinir.pth"
    torch.save({"params": theirs.state_dict()}, weights)
    network = load_by_spandrel(weights).network
    settings = QuantSettings(bits=8, method="minmax", epochs=0)
    result = quantize_network(network, pictures, settings, crops=2, crop_size=16)
    assert result.traced is not None
    assert {path.rpartition(".")[2]: calls for path, calls in result.traced.products.items()} == {"attn": (2, 2)}
    assert len(result.traced.products) == 2  # of both blocks
    assert len([path for path in result.traced.layers if path.endswith((".qkv", ".proj", ".fc1", ".fc2"))]) == 8
    assert result.reached > 25
    assert is_quantized(network)
    assert Upscaler(network)(IMAGES).shape == (2, 3, 24, 24)
