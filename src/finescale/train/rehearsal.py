"""Two passes before the training: what a sample takes, and which parameters no gradient reaches."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from finescale.networks import Frame
from finescale.train.recompute import statistics_kept

SAMPLES = 2
"""Samples of a pass; BatchNorm needs two."""


@dataclass(frozen=True)
class Rehearsal:
    """What forward and backward passes showed."""

    unreached: tuple[str, ...]
    """Names of the parameters without a gradient."""
    seconds: float
    """Duration for one sample; on a GPU, which takes many at once, more than one of a batch needs."""
    kept_bytes: int
    """What the forward pass keeps of one sample for the backward pass, weights left out."""


def rehearse(network: Frame, *, patch: int, device: torch.device, dtype: torch.dtype = torch.float32) -> Rehearsal:
    """Pass two grey samples forward and backward; the network, its gradients and the random numbers stay as they are.

    Twice, and the second pass is timed: the first one is slow, whatever the network.

    Args:
        network: On the device, in training mode, without gradients.
        patch: Side of a sample, in lr pixels.
        device: Where it is trained.
        dtype: What products are computed in.
    """
    own = {tensor.untyped_storage().data_ptr() for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    def run() -> None:
        autocast = torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32)
        with autocast, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            answer = network(samples)
        answer.float().sum().backward()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with statistics_kept(network), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        samples = torch.full((SAMPLES, network.in_channels, patch, patch), 0.5, device=device)
        run()
        kept_bytes = sum(kept.values()) // SAMPLES
        start = time.perf_counter()
        run()
        seconds = (time.perf_counter() - start) / SAMPLES
    unreached = tuple(name for name, parameter in network.named_parameters() if parameter.grad is None)
    network.zero_grad()
    return Rehearsal(unreached, seconds, kept_bytes)
