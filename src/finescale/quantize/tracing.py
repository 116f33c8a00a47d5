"""Placement of quantizers in any module: what it computes is observed during one forward.

Linear layers and convolutions are replaced as in networks of finescale's. Products of attention are plain calls of
PyTorch there, such as ``query @ key.mT``; a module that makes such calls gets hooks, which pass both operands of each
call through quantizers.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from finescale.layers import explicit_attention
from finescale.layers.attention import AttentionProduct
from finescale.networks.placement import Placement
from finescale.networks.wrapped import WrappedNetwork
from finescale.quantize.modules import is_replaced
from finescale.quantize.quantizer import Quantizer
from finescale.quantize.settings import QuantSettings

_MODULE = "quantized_products"
"""Name under which a module holds the quantizers of its products."""

_ATTENTION = F.scaled_dot_product_attention
_FIRST_OPERAND: Mapping[Any, int] = {
    torch.matmul: 0,
    torch.mm: 0,
    torch.bmm: 0,
    Tensor.matmul: 0,
    Tensor.mm: 0,
    Tensor.bmm: 0,
    Tensor.__matmul__: 0,
    torch.einsum: 1,
    torch.baddbmm: 1,
    torch.addmm: 1,
    Tensor.baddbmm: 1,
    Tensor.addmm: 1,
    _ATTENTION: 0,
}
"""Products that are quantized, with the place of the first of their two operands."""

_UNQUANTIZED: Mapping[Any, str] = {
    **dict.fromkeys((F.linear, F.bilinear), "linear map outside of a linear layer of PyTorch"),
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), "convolution outside of a 2D convolution layer of PyTorch"),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), "transposed convolution"),
    F.multi_head_attention_forward: "multi-head attention as one call",
    **dict.fromkeys((Tensor.__rmatmul__, torch.tensordot, torch.chain_matmul), "product"),
}
"""Operations with products that stay in float, with their description."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a module computes, as far as quantization is concerned."""

    layers: tuple[str, ...]
    """Paths of linear layers and convolutions that are quantized, in the order of their calls."""
    products: Mapping[str, tuple[int, ...]]
    """For modules by path, the number of quantized operands of each of their products: 2, or 4 where attention is one
    call (query, key, probabilities, value)."""
    in_float: Mapping[str, str]
    """Paths of what stays in float, with the reason."""
    float_layers: tuple[str, ...]
    """Paths of layers and poolings that must not be replaced."""

    @property
    def placement(self) -> Placement:
        """The placement by which `finescale.quantize.insert_quantizers` replaces the layers."""
        return Placement(
            float_layers=self.float_layers,
            ends=(f"{self.layers[0]}.input_quantizer",),
            first=self.layers[0],
            last=(self.layers[-1],),
        )


def trace_of(facts: Any) -> Trace:
    """Return the trace that a weight file states as plain values.

    Raises:
        ValueError: It is none.
    """
    try:
        found = TypeAdapter(Trace).validate_python(facts)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(f"its traced places are damaged ({where}: {first['msg']})") from None
    if not found.layers or any(number not in (2, 4) for calls in found.products.values() for number in calls):
        raise ValueError("its traced places are damaged (no layer, or a product without 2 or 4 operands)")
    return found


def trace(network: WrappedNetwork, image: Tensor) -> Trace:
    """Observe which layers and products a network computes for an image.

    Args:
        network: A float network, in evaluation mode.
        image: (N, C, H, W) on the network's device.

    Raises:
        ValueError: It has no linear layer or convolution that can be quantized.
    """
    paths: dict[int, list[str]] = {}
    for path, module in network.named_modules(remove_duplicate=False):
        paths.setdefault(id(module), []).append(path)
    observer = _Observer()
    with ExitStack() as stack, torch.no_grad():
        for module in network.modules():
            stack.callback(module.register_forward_pre_hook(observer.enter).remove)
            stack.callback(module.register_forward_hook(observer.leave, always_call=True).remove)
        with observer:
            network(image)
    in_float: dict[str, str] = {}
    float_layers: list[str] = []
    for module in network.modules():
        own = paths[id(module)]
        if not isinstance(module, nn.MaxPool2d) and not is_replaced(module):
            continue
        reason = _reason_for_float(module, observer.calls[id(module)])
        if reason:
            in_float.update(dict.fromkeys(own, reason))
            float_layers.extend(own)
    products: dict[str, tuple[int, ...]] = {}
    for number, operands in observer.products.items():
        path = paths[number][0]
        if observer.calls[number] > 1:
            in_float[path] = f"products in a module that is called {observer.calls[number]} times"
        else:
            products[path] = tuple(operands)
    for number, what in observer.unquantized:
        in_float[paths[number][0]] = what
    layers = tuple(path for number in observer.order for path in paths[number][:1] if path not in float_layers)
    if not layers:
        raise ValueError(f"{network.name} has no linear layer or convolution that can be quantized")
    return Trace(layers=layers, products=products, in_float=in_float, float_layers=tuple(float_layers))


def _reason_for_float(module: nn.Module, calls: int) -> str | None:
    """Why a layer or pooling stays in float; None where it does not."""
    if calls != 1:
        return f"called {calls} times for an image"
    if module._forward_pre_hooks or module._forward_hooks:
        return "has hooks"
    if isinstance(module, nn.MaxPool2d):
        return "returns indices" if module.return_indices else None
    return None if "weight" in module._parameters else "its weight is computed"


class _Observer(TorchFunctionMode):
    """Record of the layers and products that are computed while it is active, by the module that computes them."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[int] = []
        self.calls: Counter[int] = Counter()
        self.products: dict[int, list[int]] = {}
        self.unquantized: dict[tuple[int, str], None] = {}
        self._inside: list[nn.Module] = []

    def enter(self, module: nn.Module, _arguments: Any) -> None:
        self._inside.append(module)
        self.calls[id(module)] += 1
        if is_replaced(module) and self.calls[id(module)] == 1:
            self.order.append(id(module))

    def leave(self, _module: nn.Module, _arguments: Any, _answer: Any) -> None:
        self._inside.pop()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        module = self._inside[-1]
        if not is_replaced(module) and not any(isinstance(each, AttentionProduct) for each in self._inside):
            operands = _operands(func, args, kwargs)
            if operands:
                self.products.setdefault(id(module), []).append(operands)
            elif func in _FIRST_OPERAND or func in _UNQUANTIZED:
                name = resolve_name(func) or str(func)
                self.unquantized[id(module), _UNQUANTIZED.get(func, f"{name} in a form that is not quantized")] = None
        return func(*args, **kwargs)


def _operands(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    """How many operands of a call are quantized; 0 where it is no product, or one that stays in float."""
    if func is _ATTENTION:
        plain = not kwargs.get("is_causal") and not kwargs.get("enable_gqa") and not kwargs.get("dropout_p")
        return 4 if plain and 3 <= len(args) <= 4 else 0
    first = _FIRST_OPERAND.get(func)
    if first is None or len(args) != first + 2:
        return 0
    return 2 if all(isinstance(each, Tensor) and each.is_floating_point() for each in args[first:]) else 0


# ---- quantizers of products


def insert_products(network: WrappedNetwork, traced: Trace, settings: QuantSettings) -> None:
    """Pass the operands of a network's products through quantizers, all switched off.

    Args:
        network: The traced network, after `finescale.quantize.insert_quantizers`.
        traced: Result of `trace`.
        settings: Widths of the integers.
    """
    device = next(network.parameters()).device
    anchored = settings.scheme == "anchored"

    def quantizer() -> Quantizer:
        return Quantizer(bits=settings.bits, include_zero=settings.include_zero, anchored=anchored).to(device)

    network.traced = traced
    for path, calls in traced.products.items():
        module = network.get_submodule(path)
        quantizers = [nn.ModuleList(quantizer() for _ in range(number)) for number in calls]
        module.add_module(_MODULE, nn.ModuleList(quantizers))
        _hook(module)
    for module in network.modules():
        if type(module).__module__ == explicit_attention.__name__:  # has quantizers by its taps already
            _hook(module)
    network.eval()


def _hook(module: nn.Module) -> None:
    module.register_forward_pre_hook(_enter)
    module.register_forward_hook(_leave, always_call=True)


class _Active(threading.local):
    """Modes of the hooked modules that this thread is computing, the innermost last."""

    def __init__(self) -> None:
        self.modes: list[_Products] = []


_active = _Active()


def _enter(module: nn.Module, _arguments: Any) -> None:
    mode = _Products(getattr(module, _MODULE, None))
    mode.__enter__()  # type: ignore[no-untyped-call]
    _active.modes.append(mode)


def _leave(_module: nn.Module, _arguments: Any, _answer: Any) -> None:
    _active.modes.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]


class _Products(TorchFunctionMode):
    """Quantization of the products that one module computes during one call.

    Args:
        quantizers: Of each product, in the order of the calls; None leaves all as they are.
    """

    def __init__(self, quantizers: nn.ModuleList | None) -> None:
        super().__init__()
        self._quantizers = quantizers
        self._done = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._quantizers is None or _active.modes[-1] is not self or not _operands(func, args, kwargs):
            return func(*args, **kwargs)
        if self._done == len(self._quantizers):
            raise ValueError(
                f"a module computes more than the {self._done} products that it had when it was quantized; "
                "its products must not depend on the image's size"
            )
        quantizers: Any = self._quantizers[self._done]
        self._done += 1
        if func is _ATTENTION:
            return _attention(quantizers, *args, **kwargs)
        first = _FIRST_OPERAND[func]
        left, right = (one(x) for one, x in zip(quantizers, args[first:], strict=True))
        return func(*args[:first], left, right, **kwargs)


def _attention(
    quantizers: nn.ModuleList,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention` step by step, each operand of its products quantized."""
    of_query, of_key, of_probabilities, of_value = quantizers
    scores = of_query(query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ of_key(key).mT
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    answer: Tensor = of_probabilities(scores.softmax(-1)) @ of_value(value)
    return answer
