"""Cost of a network: parameters, multiply-adds, time of a forward."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

Beyond = Callable[[Any, tuple[Any, ...]], int]
"""From a module and the arguments of one call to the multiply-adds that the paper's formulas take beyond the module."""

_ELEMENTS = {"layer_norm": nn.LayerNorm, "batch_norm": nn.BatchNorm2d, "global_mean": nn.AdaptiveAvgPool2d}
"""Names of counts, with the layers whose elements are counted."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Operations of one forward, for one input."""

    executed: int
    """Multiply-adds that the code carries out, once terms that depend on parameters alone are cached."""
    multiply_adds: int
    """Multiply-adds of the network's formulas as their paper writes them."""
    layer_norm: int
    """Elements that pass a LayerNorm."""
    batch_norm: int
    """Elements that pass a BatchNorm."""
    global_mean: int
    """Elements averaged over whole maps."""


def count_parameters(network: nn.Module) -> int:
    """Count the values of all parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_operations(
    network: nn.Module, shape: tuple[int, ...], *, beyond: Mapping[type[nn.Module], Beyond] | None = None
) -> Operations:
    """Count the operations of a forward, without carrying it out: on the meta device, where tensors have no values.

    Multiply-adds are those of convolutions, linear layers and matrix products, those of attention included.

    Args:
        network: A network that takes one image; it is not changed.
        shape: Shape of the input, (N, C, H, W).
        beyond: Classes of modules that compute by other steps than their paper, with what the paper's steps take more
            (or, below zero, less).
    """
    network = copy.deepcopy(network).to("meta").eval()
    image = torch.empty(shape, device="meta")
    elements = dict.fromkeys(_ELEMENTS, 0)
    others = 0

    def count_elements(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        for name, kind in _ELEMENTS.items():
            if isinstance(module, kind):
                elements[name] += arguments[0].numel()

    def count_others(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        nonlocal others
        others += (beyond or {})[type(module)](module, arguments)

    hooks = [
        module.register_forward_pre_hook(hook)
        for module in network.modules()
        for hook, kinds in ((count_elements, tuple(_ELEMENTS.values())), (count_others, tuple(beyond or ())))
        if isinstance(module, kinds)
    ]
    first = _multiply_adds(network, image)
    for hook in hooks:
        hook.remove()
    return Operations(executed=_multiply_adds(network, image), multiply_adds=first + others, **elements)


@torch.no_grad()
def _multiply_adds(network: nn.Module, image: Tensor) -> int:
    with _RememberedShapes(), FlopCounterMode(display=False) as counter:
        network(image)
    return int(counter.get_total_flops()) // 2


class _RememberedShapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations on the meta device, whose results are derived once for each form of their arguments.

    PyTorch derives most shapes in Python, in a millisecond each, and a network repeats the same ones in every block.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._forms: dict[Any, Any] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        operands = [*args, *kwargs.values()]
        if func._schema.is_mutable or _shares_memory(func) or not any(_is_meta(operand) for operand in operands):
            return func(*args, **kwargs)
        key = (func, _form(args), _form(tuple(kwargs.items())))
        form = self._forms.get(key)
        if form is None:
            result = func(*args, **kwargs)
            if _is_meta(result):
                self._forms[key] = result.size(), result.stride(), result.dtype
            return result
        size, stride, dtype = form
        return torch.empty_strided(size, stride, dtype=dtype, device="meta")


def _shares_memory(func: Any) -> bool:
    """Whether an operation returns a view of an argument."""
    return any(result.alias_info is not None for result in func._schema.returns)


def _is_meta(value: object) -> bool:
    return isinstance(value, Tensor) and value.device.type == "meta"


def _form(value: Any) -> Any:
    """Describe an argument by all that decides the shape of a result; 1, 1.0 and True give different types."""
    if isinstance(value, Tensor):
        return value.size(), value.stride(), value.dtype, value.device
    if isinstance(value, tuple | list):
        return tuple(_form(item) for item in value)
    return type(value), value


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Duration of forwards on this machine, in seconds."""

    median_s: float
    """Median."""
    fastest_s: float
    """Shortest."""
    slowest_s: float
    """Longest."""
    runs: int
    """Number of forwards."""


@torch.inference_mode()
def time_forward(network: nn.Module, image: Tensor, *, runs: int = 5) -> Timing:
    """Time forwards, after one that is not counted.

    Args:
        network: A network on the device of the image.
        image: (N, C, H, W).
        runs: Number of forwards to time.

    Raises:
        ValueError: ``runs`` is less than 1.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    network(image)
    seconds = []
    for _ in range(runs):
        _wait(image.device)
        begin = time.perf_counter()
        network(image)
        _wait(image.device)
        seconds.append(time.perf_counter() - begin)
    return Timing(
        median_s=statistics.median(seconds), fastest_s=min(seconds), slowest_s=max(seconds), runs=len(seconds)
    )


def _wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
