"""float16 is left where it does not suffice, and nowhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from finescale.layers.precision import SafeConv2d, SafeLayerNorm, SafeLinear, no_float16, widened, without_autocast

LAYERS = [
    pytest.param(SafeLinear(6, 4), nn.Linear, (5, 6), id="linear"),
    pytest.param(SafeLinear(6, 4, bias=False), nn.Linear, (5, 6), id="linear without offset"),
    pytest.param(SafeConv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d, (2, 6, 4, 5), id="convolution"),
    pytest.param(SafeLayerNorm(6), nn.LayerNorm, (5, 6), id="norm"),
]


def test_only_float16_is_widened() -> None:
    assert widened(torch.ones(2, dtype=torch.float16)).dtype == torch.float32
    assert widened(None) is None
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        x = torch.ones(2, dtype=dtype)
        assert widened(x) is x


@pytest.mark.parametrize(("dtype", "inside"), [(torch.float16, torch.float32), (torch.bfloat16, torch.bfloat16)])
def test_only_autocast_to_float16_is_turned_off_and_only_for_a_while(dtype: torch.dtype, inside: torch.dtype) -> None:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=dtype):
        with no_float16(x):
            assert (x @ x).dtype == inside
        assert (x @ x).dtype == dtype
    with no_float16(x):
        assert (x @ x).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("layer", "plain", "shape"), LAYERS)
def test_in_other_precisions_a_safe_layer_is_the_plain_one(
    layer: nn.Module, plain: type[nn.Module], shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    layer, x = copy.deepcopy(layer).to(dtype), torch.randn(shape, dtype=dtype)
    assert torch.equal(layer(x), plain.forward(layer, x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        safe, expected = layer(x), plain.forward(layer, x)
    assert safe.dtype == expected.dtype
    assert torch.equal(safe, expected)


@pytest.mark.parametrize(("layer", "plain", "shape"), LAYERS)
@torch.no_grad()
def test_a_safe_layer_takes_what_float16_cannot_hold(
    layer: nn.Module, plain: type[nn.Module], shape: tuple[int, ...]
) -> None:
    x = 1e6 * torch.randn(shape)
    expected = plain.forward(layer, x)
    with torch.autocast("cpu", dtype=torch.float16):
        assert torch.equal(layer(x), expected)
    error = copy.deepcopy(layer).half()(x) - expected
    assert error.abs().max() < 2e-3 * expected.std()


def test_a_safe_norm_brings_float16_back() -> None:
    x = torch.randn(5, 6)
    assert SafeLayerNorm(6).half()(1e6 * x).dtype == torch.float16
    assert SafeLinear(6, 4).half()(x.half()).dtype == torch.float32


def test_products_keep_their_precision_within_autocast() -> None:
    factor = torch.rand(4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (factor @ factor).dtype == torch.bfloat16
        with without_autocast(factor.device):
            assert (factor @ factor).dtype == torch.float32


def test_the_meta_device_is_taken_as_well() -> None:
    factor = torch.rand(4, 4, device="meta")
    with without_autocast(factor.device):
        assert (factor @ factor).dtype == torch.float32
