"""Processes that train one network together, and the distribution of its weights over them.

`torchrun` starts one process for each device, on one machine or several, and passes each its place in the environment
(RANK, WORLD_SIZE, LOCAL_RANK). Without it there is one process, and nothing in this module has an effect.
"""

from __future__ import annotations

import gc
import inspect
import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from finescale.errors import DeviceError

T = TypeVar("T")

PATIENCE = timedelta(hours=2)
"""How long processes wait for one that validates or saves; torchrun notices one that ends at once."""


@dataclass(frozen=True)
class Team:
    """Processes that train together, as seen from one of them, which is often the only one."""

    rank: int
    """Number of this process, from 0."""
    world: int
    """Number of processes, each with a device of its own."""
    device: torch.device
    """Device of this process."""
    local_world: int = 1
    """Number of processes on this machine, which share its memory."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that validates, writes files and logs."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """Return the ``value`` of the first process in all processes."""
        if self.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over the processes; NaN in one of them is NaN in all."""
        if self.world > 1:
            dist.all_reduce(values)
            values /= self.world
        return values

    def wait(self) -> None:
        """Return once all processes have called this."""
        self.broadcast(None)

    def broadcast_tensors(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors in all processes with the values of the first one."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, src=0)


@contextmanager
def joined(device: str | None = None) -> Iterator[Team]:
    """Join the processes that torchrun has started, or form a team of one.

    Args:
        device: "cpu", "cuda", "cuda:1", "mps"; None is CUDA where available. Several processes on "cuda" each use the
            device with their LOCAL_RANK.

    Raises:
        ValueError: The device's name is invalid.
        DeviceError: The device does not exist on this machine.
    """
    rank, world, place, local_world = (int(os.environ.get(name, alone)) for name, alone in _PLACE.items())
    chosen = _device(device, place if world > 1 else None)
    if world == 1:
        yield Team(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Team(rank, world, chosen, local_world)
    finally:
        # Distributed networks are full of reference cycles. They must be collected first: left to the end of the
        # interpreter, they sometimes abort the process.
        gc.collect()
        dist.destroy_process_group()


def num_processes() -> int:
    """Return the number of processes that torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", _PLACE["WORLD_SIZE"]))


_PLACE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}


def _device(name: str | None, place: int | None) -> torch.device:
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:0', got {name!r}") from None
    if device.type == "cuda":
        if device.index is None:
            device = torch.device("cuda", place or 0)
        if device.index >= torch.cuda.device_count():
            raise DeviceError(f"there is no device '{device}': {torch.cuda.device_count()} CUDA devices; use 'cpu'")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("there is no device 'mps'; use 'cpu'")
    return device


def spread(
    network: nn.Module, groups: Iterable[nn.Module], team: Team, *, strategy: Literal["ddp", "fsdp"]
) -> nn.Module:
    """Distribute a network over the processes, and return the module to call in its place.

    Args:
        network: Network on its device. With "fsdp" its parameters become DTensors, of which each process holds a part.
        groups: Parts of the network that "fsdp" gathers one at a time.
        team: The processes.
        strategy: "ddp": each process holds all weights; "fsdp": each holds a part of weights and optimizer.
    """
    if team.world == 1:
        return network
    if strategy == "ddp":
        for parameter in network.parameters():
            if parameter.requires_grad and 1 in parameter.shape:
                parameter.register_hook(with_plain_strides)  # type: ignore[no-untyped-call]
        parallel = nn.parallel.DistributedDataParallel
        # With either strategy the learner itself sends buffers, by `Team.broadcast_tensors`. Torch renamed the argument
        # in 2.13.
        renamed = "forward_sync_buffers" in inspect.signature(parallel).parameters
        without_buffers: dict[str, Any] = {"forward_sync_buffers" if renamed else "broadcast_buffers": False}
        return parallel(network, **without_buffers)
    mesh = init_device_mesh(team.device.type, (team.world,))
    for group in groups:
        fully_shard(group, mesh=mesh)
    shell = _Shell(network)
    fully_shard(shell, mesh=mesh)
    return shell


def with_plain_strides(gradient: Tensor) -> Tensor:
    """Return a gradient with the strides of its parameter, whose axes of length 1 some kernels stride differently.

    The numbers lie in memory as before; DistributedDataParallel compares strides, and warns of any difference.
    """
    return gradient.reshape(-1).view(gradient.shape)


class _Shell(nn.Module):
    """Wrapper whose result is not a view of a larger tensor, as `fully_shard` requires."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        return self.network(image).clone()  # type: ignore[no-any-return]


def gradients_kept_apart(network: nn.Module) -> AbstractContextManager[None]:
    """Accumulate gradients within each process, without exchanging them until after the last pass of a step.

    With "fsdp" they are still exchanged after each pass, which is how it saves memory.
    """
    if isinstance(network, nn.parallel.DistributedDataParallel):
        return network.no_sync()
    return nullcontext()


def whole(tensor: Tensor) -> Tensor:
    """Gather a tensor of which each process may hold a part; all processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds, as a view."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def spread_like(tensor: Tensor, other: Tensor) -> Tensor:
    """Distribute a whole tensor over the processes as another one is."""
    if not isinstance(other, DTensor):
        return tensor
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements)
