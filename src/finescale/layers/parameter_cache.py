"""Cache of tensors that follow from parameters and sizes alone, such as position biases."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from typing_extensions import Self


class ParameterCache(nn.Module):
    """Cache of one tensor that is computed from parameters, valid for as long as the parameters stay the same.

    A cache is a part of a layer without parameters of its own: it enters no state dict, holds at most one tensor, and
    may be read by several threads. A copy of the layer starts with an empty cache.

    Parameters that are replaced, or changed in place, are noticed. Two kinds of changes leave no trace: those of fused
    optimizers and those made through ``.data``. So the cache stays empty where gradients are recorded, and is emptied
    there and at each call of ``train()`` or ``eval()``, which no training goes without. It stays empty as well while
    the network is being compiled or exported.

    Args:
        sources: The layer from whose parameters the tensor is computed.
    """

    def __init__(self, sources: nn.Module) -> None:
        super().__init__()
        self._sources = (sources,)  # in a tuple, or its parameters would be registered a second time
        self._kept: tuple[list[Tensor], list[int], Tensor] | None = None

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        """Return the cached tensor, or that of ``compute`` where there is none or a parameter has changed since."""
        if torch.compiler.is_compiling():
            return compute()
        if torch.is_grad_enabled():
            self.forget()
            return compute()
        parameters = list(self._sources[0].parameters())
        if any(parameter.is_inference() for parameter in parameters):  # these do not count their changes
            return compute()
        kept = self._kept
        if kept is None or not _unchanged(parameters, *kept[:2]):
            # Keeping a reference to the memory of the parameters keeps it from being reused at the same address.
            memory, versions = [p.data for p in parameters], [p._version for p in parameters]
            kept = self._kept = memory, versions, compute()
        return kept[2]

    def forget(self) -> None:
        """Free the cached tensor."""
        self._kept = None

    def train(self, mode: bool = True) -> Self:
        """Set the mode, as `torch.nn.Module.train` does, and empty the cache."""
        self.forget()
        return super().train(mode)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_kept": None}


def _unchanged(parameters: list[nn.Parameter], memory: list[Tensor], versions: list[int]) -> bool:
    """Whether no parameter was changed in place, replaced, moved or converted."""
    return versions == [p._version for p in parameters] and all(
        (p.data_ptr(), p.dtype) == (old.data_ptr(), old.dtype) for p, old in zip(parameters, memory, strict=True)
    )
