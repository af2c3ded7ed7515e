"""Ctrl-C while a graph is traced: it counts once tracing is over, where torch would otherwise abort the process."""

from __future__ import annotations

import os
import signal
import threading

import pytest
import torch
from torch import Tensor

from inference.graph.capture import capture
from inference.graph.interrupts import holding_interrupts
from inference.pair import Pair, no_guide


def test_an_interrupt_waits_until_a_graph_is_made() -> None:
    seen: list[str] = []

    def function(x: Tensor) -> tuple[list[Tensor], None]:
        os.kill(os.getpid(), signal.SIGINT)
        y = (2 * x).sum()  # the signal has arrived by now
        seen.append("went on")
        return [y], None

    with pytest.raises(KeyboardInterrupt):
        capture(Pair(no_guide, no_guide), function, [torch.ones(3)])
    assert seen == ["went on", "went on"]  # for real, and traced
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_block_s_own_error_is_not_lost() -> None:
    @holding_interrupts()
    def fails() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("of the block")

    with pytest.raises(KeyboardInterrupt) as found:
        fails()
    assert isinstance(found.value.__context__, ValueError)


def test_other_handlers_are_called_and_put_back() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        mine = signal.getsignal(signal.SIGINT)
        with holding_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
            assert heard == []
        assert heard == [signal.SIGINT]
        assert signal.getsignal(signal.SIGINT) is mine
    finally:
        signal.signal(signal.SIGINT, before)


def test_outside_the_main_thread_and_where_interrupts_are_ignored_nothing_changes() -> None:
    found: list[object] = []

    def work() -> None:
        with holding_interrupts():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        work()
    finally:
        signal.signal(signal.SIGINT, before)
    assert found[1] is signal.SIG_IGN
