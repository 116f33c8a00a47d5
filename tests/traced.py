"""How much of Python's own memory a call takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable


def traced_peak(call: Callable[[], object]) -> int:
    """Bytes at most during a call, numpy's arrays included; tensors and other libraries' buffers are not.

    The count is of all threads, and those of the test runner take memory too: the least of three calls is the call's.
    """
    return min(_peak(call) for _ in range(3))


def _peak(call: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
