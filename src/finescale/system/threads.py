"""Threads that each compute on one core."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


def single_core_threads(num_threads: int, name: str) -> ThreadPoolExecutor:
    """Threads in each of which torch works on one core: several with several cores each would wait for one another.

    Args:
        num_threads: How many; all have begun when they are returned.
        name: What the names of the threads begin with.
    """
    # The setting is also the default of threads to come, and so is put back; a thread keeps what it found at first use.
    default = torch.get_num_threads()
    have_begun = Barrier(num_threads + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        torch.get_num_threads()
        have_begun.wait()

    pool = ThreadPoolExecutor(num_threads, name, initializer=begin)
    for _ in range(num_threads):
        pool.submit(int)  # a pool starts its threads as work comes
    have_begun.wait()
    torch.set_num_threads(default)
    return pool
