"""Thread pools whose threads each compute on one core."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, BrokenBarrierError

import torch

from finescale.errors import DeviceError

_START_TIMEOUT = 60.0  # seconds; a thread starts in less than a thousandth


def single_core_threads(num_threads: int, name: str) -> ThreadPoolExecutor:
    """Start a pool of threads in which PyTorch computes on one core each, so that they do not compete for cores.

    Args:
        num_threads: Number of threads; all have started when the pool is returned.
        name: Prefix of the threads' names.

    Raises:
        DeviceError: The system does not start so many; those that have started are ended.
    """
    # torch.set_num_threads also sets the default of later threads, so it is restored; a thread keeps the value of its
    # first use.
    default = torch.get_num_threads()
    have_started = Barrier(num_threads + 1)

    def start() -> None:
        try:
            torch.set_num_threads(1)
            torch.get_num_threads()
            have_started.wait(_START_TIMEOUT)
        except BrokenBarrierError:
            pass  # reported below, where the same barrier breaks
        except BaseException:
            have_started.abort()
            raise

    pool = ThreadPoolExecutor(num_threads, name, initializer=start)
    try:
        for _ in range(num_threads):
            pool.submit(int)  # a pool starts a thread when work arrives
        have_started.wait(_START_TIMEOUT)
    except RuntimeError as error:
        have_started.abort()  # none may wait for a thread that will never come
        pool.shutdown(cancel_futures=True)
        raise DeviceError(
            f"the system does not start {num_threads} more threads ({str(error) or 'one of them failed'}); raise "
            "its limit on processes (ulimit -u), or end other programs"
        ) from None
    finally:
        torch.set_num_threads(default)
    return pool
