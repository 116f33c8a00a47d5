"""Activations that are computed anew in the backward pass instead of being kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(groups: Iterable[nn.Module]) -> None:
    """Keep only what enters each of these modules; what is inside is computed again when its gradients are wanted.

    Random numbers are drawn again as they were, and the statistics of BatchNorm take each batch in once.
    """
    for group in groups:
        group.forward = partial(checkpoint, group.forward, use_reentrant=False, context_fn=partial(_contexts, group))


def statistics(network: nn.Module) -> list[Tensor]:
    """The tensors that a forward pass changes in training: what BatchNorm has seen."""
    norms = (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return [buffer for norm in norms for buffer in norm.buffers()]


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """After the block, BatchNorm has seen nothing of what went on in it."""
    changing = statistics(network)
    before = [buffer.clone() for buffer in changing]
    try:
        yield
    finally:
        for buffer, value in zip(changing, before, strict=True):
            buffer.data.copy_(value)  # autograd need not know: no gradient depends on these values


def _contexts(group: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What the first forward pass and the second run in."""
    return nullcontext(), statistics_kept(group)
