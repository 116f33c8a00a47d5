"""Interrupts (Ctrl+C, SIGTERM) that wait for a safe moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def deferred_interrupt(*, termination: bool = False) -> Iterator[Callable[[], bool]]:
    """Record a first Ctrl+C within the block instead of raising; a second one raises KeyboardInterrupt at once.

    A KeyboardInterrupt can be raised between two lines that belong together, and is lost when it is raised while a C
    library calls back into Python. Signals that are ignored or have another handler are left alone, and so is every
    signal where the block runs outside the main thread.

    Args:
        termination: Record SIGTERM as well; it never raises.

    Yields:
        A function that returns whether an interrupt was recorded.
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
