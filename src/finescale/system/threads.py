"""Thread pools whose threads each compute on one core."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


def single_core_threads(num_threads: int, name: str) -> ThreadPoolExecutor:
    """Start a pool of threads in which PyTorch computes on one core each, so that they do not compete for cores.

    Args:
        num_threads: Number of threads; all have started when the pool is returned.
        name: Prefix of the threads' names.
    """
    # torch.set_num_threads also sets the default of later threads, so it is restored; a thread keeps the value of its
    # first use.
    default = torch.get_num_threads()
    have_started = Barrier(num_threads + 1)

    def start() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()
        have_started.wait()

    pool = ThreadPoolExecutor(num_threads, name, initializer=start)
    for _ in range(num_threads):
        pool.submit(int)  # a pool starts a thread when work arrives
    have_started.wait()
    torch.set_num_threads(default)
    return pool
