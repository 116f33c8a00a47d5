"""Ctrl+C at a moment that suits."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def deferred_interrupt(*, termination: bool = False) -> Iterator[Callable[[], bool]]:
    """Within the block a first Ctrl+C only sets what the yielded function answers; a second one interrupts at once.

    A KeyboardInterrupt may strike between two lines that belong together, and is lost when it strikes while a C library
    calls back into Python. A signal that is ignored or handled by others, and other threads than the first, are left
    alone.

    Args:
        termination: SIGTERM too sets what the function answers; it never interrupts at once.
    """
    pressed = False

    def remember(number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed = True

    usual: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler}
    if termination:
        usual[signal.SIGTERM] = signal.SIG_DFL
    if threading.current_thread() is not threading.main_thread():
        usual = {}
    before = {number: handler for number, handler in usual.items() if signal.getsignal(number) is handler}
    try:
        for number in before:
            signal.signal(number, remember)
        yield lambda: pressed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
