"""Batches of a training, made ahead by threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import count

import torch
from torch import Tensor

from finescale.data.samples import Source
from finescale.system.threads import single_core_threads


def make_batch(source: Source, indices: range) -> tuple[Tensor, Tensor]:
    """Draw some samples, the same whenever and wherever they are drawn.

    Args:
        source: What to draw from.
        indices: Which samples of its sequence.

    Returns:
        lr (N, C, patch, patch) and hr (N, C, scale * patch, scale * patch), float32 in [0, 1].

    Raises:
        DataError: A picture is decoded when it is drawn, and damaged.
        ImageReadError: The same, where the picture is a file.
    """
    drawn = [source.sample(index) for index in indices]
    lr, hr = (torch.stack(patches).float().div_(255) for patches in zip(*drawn, strict=True))
    return lr, hr


def batches(source: Source, *, first_step: int, batch: int, rank: int = 0, world: int = 1, workers: int = 4) -> Batches:
    """Iterate over the batches of a training from some step on, without end; threads make the next ones meanwhile.

    The samples of a step are those at ``step * batch`` and following, whatever the number of devices; each device makes
    an equal share of them.

    Args:
        source: What to draw from.
        first_step: 0, or the step that a training resumes at.
        batch: Samples of a step, over all devices.
        rank: Device whose share to make, from 0.
        world: Number of devices.
        workers: Number of threads, each of which makes one batch at a time; as many batches are made ahead.

    Raises:
        ValueError: ``batch`` is not a multiple of ``world``, or ``rank`` is not below it.
    """
    return Batches(source, indices_of(first_step, batch=batch, rank=rank, world=world), workers=workers)


def indices_of(first_step: int, *, batch: int, rank: int = 0, world: int = 1) -> Iterator[range]:
    """Iterate over the places in the sequence of samples that a device's batches hold, from some step on, without end.

    Args:
        first_step: 0, or the step that a training resumes at.
        batch: Samples of a step, over all devices.
        rank: Device, from 0.
        world: Number of devices.

    Raises:
        ValueError: ``batch`` is not a multiple of ``world``, or ``rank`` is not below it.
    """
    if batch < 1 or batch % world:
        raise ValueError(f"batch must be a multiple of the {world} devices, got {batch}")
    if not 0 <= rank < world:
        raise ValueError(f"rank must be from 0 to {world - 1}, got {rank}")
    share = batch // world
    return (range(first, first + share) for first in count(first_step * batch + rank * share, batch))


class Batches(Iterator[tuple[Tensor, Tensor]]):
    """Iterator over batches that threads make ahead; an error is raised in place of the batch that it occurred in.

    Made by `batches`. `close` ends the threads, and the iteration.

    Attributes:
        waited_s: Seconds that callers waited for batches that were not ready yet.
    """

    def __init__(self, source: Source, indices: Iterator[range], *, workers: int) -> None:
        self.waited_s = 0.0
        self._source = source
        self._indices = indices
        self._threads = single_core_threads(workers, "batches")
        self._waiting: deque[Future[tuple[Tensor, Tensor]]] = deque()
        for _ in range(workers):
            self._begin_next()

    def __next__(self) -> tuple[Tensor, Tensor]:
        if not self._waiting:
            raise StopIteration
        self._begin_next()
        asked = time.perf_counter()
        try:
            return self._waiting.popleft().result()
        finally:
            self.waited_s += time.perf_counter() - asked

    def close(self) -> None:
        """End the threads, once they have finished the batches that they have begun."""
        self._threads.shutdown(cancel_futures=True)
        self._waiting.clear()

    def _begin_next(self) -> None:
        self._waiting.append(self._threads.submit(make_batch, self._source, next(self._indices)))
