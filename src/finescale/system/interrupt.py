"""Interrupts (Ctrl+C, SIGTERM) that wait for a safe moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt(*, termination: bool = False) -> Iterator[Callable[[], bool]]:
    """Record a first Ctrl+C within the block instead of raising; a second one raises KeyboardInterrupt at once.

    SIGTERM is recorded too where `termination_as_interrupt` is in effect; it never raises here.

    A KeyboardInterrupt can be raised between two lines that belong together, and is lost when it is raised while a C
    library calls back into Python. Signals that are ignored or have another handler are left alone, and so is every
    signal where the block runs outside the main thread.

    Args:
        termination: Record SIGTERM as well where it would end the process.

    Yields:
        A function that returns whether an interrupt was recorded.
    """
    pressed = False

    def remember(number: int, _frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed = True

    before = {signal.SIGINT: signal.getsignal(signal.SIGINT), signal.SIGTERM: signal.getsignal(signal.SIGTERM)}
    if threading.current_thread() is not threading.main_thread():
        before = {}
    before = {
        number: handler
        for number, handler in before.items()
        if handler is signal.default_int_handler
        or (termination and number == signal.SIGTERM and handler is signal.SIG_DFL)
    }
    try:
        for number in before:
            signal.signal(number, remember)
        yield lambda: pressed
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGTERM within the block, as on Ctrl+C, so that files are completed or removed.

    SIGTERM is left alone where it is ignored or has another handler, and outside the main thread.
    """
    is_ours = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
