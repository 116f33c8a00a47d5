"""Recorded passes: a GPU repeats the kernels of a training's pass without being told each again.

A pass of a small network launches thousands of kernels, and the CPU takes longer to launch them than the GPU to compute
them. A CUDA graph holds them all and is launched at once; the values are those of the pass itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Pass = Callable[[Tensor, Tensor], tuple[Tensor, ...]]
"""Function of lr and hr to measured values, on the device; gradients that it sets are new tensors each time."""

Recording = tuple[Tensor, Tensor, torch.cuda.CUDAGraph, tuple[Tensor, ...]]
"""The lr and hr that a graph reads, the graph, and the results that it writes."""

_WARM_UP = 3
"""Passes before a recording, in which libraries choose their kernels and allocate what they keep."""


class RecordedPass:
    """A pass that is recorded at its first call and repeated at further ones.

    The pass must launch the same kernels each time: no random numbers, nothing that depends on values, no waiting for
    the device. Its results, and the gradients it sets, are from then on the same tensors at each call, with new values.

    Args:
        run: The pass.
    """

    def __init__(self, run: Pass) -> None:
        self._run = run
        self._recorded: Recording | None = None

    def __call__(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, ...]:
        """Run the pass on samples of the same shapes at each call."""
        if self._recorded is None:
            self._recorded = self._record(lr.clone(), hr.clone())
        own_lr, own_hr, graph, measured = self._recorded
        own_lr.copy_(lr)
        own_hr.copy_(hr)
        graph.replay()
        return measured

    def _record(self, lr: Tensor, hr: Tensor) -> Recording:
        chooses = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True  # of the kernels for a convolution, the recording keeps the fastest
        try:
            return self._run_and_record(lr, hr)
        finally:
            torch.backends.cudnn.benchmark = chooses

    def _run_and_record(self, lr: Tensor, hr: Tensor) -> Recording:
        aside = torch.cuda.Stream(lr.device)  # type: ignore[no-untyped-call]  # PyTorch states no types of it
        current = torch.cuda.current_stream(lr.device)
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                self._run(lr, hr)
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            measured = self._run(lr, hr)
        return lr, hr, graph, measured
