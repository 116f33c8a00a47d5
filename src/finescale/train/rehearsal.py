"""Rehearsal before a training: the time and memory of a sample, and the parameters that no gradient reaches."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor

from finescale.networks import Frame, WrappedNetwork
from finescale.train.recompute import statistics_kept

SAMPLES = 2
"""Number of samples in a pass; BatchNorm needs two."""


@dataclass(frozen=True)
class Rehearsal:
    """Findings of a rehearsal."""

    unreached: tuple[str, ...]
    """Names of the parameters that no gradient reaches."""
    seconds: float
    """Time for one sample; on a GPU, which computes many in parallel, more than a sample of a full batch takes."""
    kept_bytes: int
    """Bytes that the forward pass keeps of one sample for the backward pass, without weights."""


def rehearse(
    network: Frame | WrappedNetwork, *, patch: int, device: torch.device, dtype: torch.dtype = torch.float32
) -> Rehearsal:
    """Pass two gray samples forward and backward, without changing the network, its gradients or random numbers.

    The pass runs twice and the second run is timed, since the first one is always slow.

    Args:
        network: Network on the device, in training mode, without gradients.
        patch: Side of a sample, in lr pixels.
        device: Device of the training.
        dtype: Type that products are computed in.
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
