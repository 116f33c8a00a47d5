"""Activations that the backward pass recomputes instead of keeping them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def recompute(groups: Iterable[nn.Module]) -> None:
    """Keep only the inputs of each of these modules; the backward pass recomputes the rest.

    Random numbers are the same in both passes, and the statistics of BatchNorm include each batch once.
    """
    for group in groups:
        group.forward = partial(checkpoint, group.forward, use_reentrant=False, context_fn=partial(_contexts, group))


def statistics(network: nn.Module) -> list[Tensor]:
    """Return the tensors that a forward pass changes in training: the statistics of BatchNorm."""
    norms = (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    return [buffer for norm in norms for buffer in norm.buffers()]


@contextmanager
def statistics_kept(network: nn.Module) -> Iterator[None]:
    """Restore the statistics of BatchNorm after the block."""
    changing = statistics(network)
    before = [buffer.clone() for buffer in changing]
    try:
        yield
    finally:
        for buffer, value in zip(changing, before, strict=True):
            buffer.data.copy_(value)  # hidden from autograd: no gradient depends on these values


def _contexts(group: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return the contexts of the first and the second forward pass."""
    return nullcontext(), statistics_kept(group)
