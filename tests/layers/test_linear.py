"""Linear layers by convolution, against the plain product of matrices."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from finescale.layers.linear import Linear
from finescale.layers.precision import SafeLinear

SHAPES = [(4, 16, 6), (1, 8, 8, 6), (2, 5, 7, 6), (3, 1, 6), (1, 1, 1, 6), (5, 6), (6,), (0, 4, 6)]


class Operations(TorchDispatchMode):
    """Notes the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.names.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def operations(layer: nn.Module, x: Tensor) -> list[str]:
    with Operations() as seen, torch.no_grad():
        layer(x)
    return seen.names


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [Linear, SafeLinear])
def test_it_answers_and_learns_as_the_plain_layer_does(
    shape: tuple[int, ...], bias: bool, kind: type[nn.Linear]
) -> None:
    layer = kind(6, 10, bias=bias)
    twin = copy.deepcopy(layer)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    twin_x = x.detach().clone().requires_grad_()
    out, expected = layer(x), F.linear(twin_x, twin.weight, twin.bias)
    assert out.is_contiguous()
    torch.testing.assert_close(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, twin_x.grad)
    for one, other in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("layout", ["rolled", "transposed", "sliced"])
def test_it_takes_maps_that_lie_in_memory_in_another_order(layout: str) -> None:
    x = torch.randn(2, 6, 8, 6, generator=torch.Generator().manual_seed(0))
    x = {"rolled": x.roll(1, 1), "transposed": x.transpose(1, 3), "sliced": x[:, 1:, ::2]}[layout]
    layer = Linear(6, 10)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
def test_a_map_in_float32_is_convolved_without_a_copy() -> None:
    seen = operations(Linear(6, 10), torch.randn(1, 16, 16, 6))
    assert "convolution" in seen
    assert not {"clone", "copy_", "contiguous", "_to_copy"} & set(seen)


@pytest.mark.parametrize(
    "x", [torch.randn(4, 16, 6, dtype=torch.float64), torch.randn(4, 16, 6, device="meta"), torch.randn(5, 6)],
    ids=["float64", "another device", "a matrix"],
)  # fmt: skip
def test_everything_else_is_a_product_of_matrices(x: Tensor) -> None:
    layer = Linear(6, 10, dtype=x.dtype, device=x.device)
    assert "convolution" not in operations(layer, x)


def test_an_exported_network_keeps_the_product() -> None:
    program = torch.export.export(Linear(6, 10).eval(), (torch.randn(4, 16, 6),))
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert called == ["aten.linear.default"]


def test_its_weights_are_those_of_the_plain_layer() -> None:
    plain = nn.Linear(6, 10)
    Linear(6, 10).load_state_dict(plain.state_dict())
    assert isinstance(Linear(6, 10), nn.Linear)
