"""Ctrl-C kept back while torch calls Python from where it cannot take an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["holding_interrupts"]


@contextmanager
def holding_interrupts() -> Iterator[None]:
    """Let an interrupt that comes inside the block count when it is over.

    While a graph is traced every operation goes through C++ to Python and back, and an exception that is raised on the
    way there ends the whole process with an abort: nothing would be saved, nor said. Signals come to the main
    thread alone, so elsewhere, and where interrupts are ignored, there is nothing to do.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield
        return
    held: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: held.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held:
            before(*held[-1])
