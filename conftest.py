"""What every test and every example in a docstring runs under: a seed, one thread, an empty store, all put back."""

import os
import signal
from collections.abc import Iterator
from importlib import import_module

import pyro
import pytest
import torch

os.environ["OMP_NUM_THREADS"] = "1"  # of the processes tests start
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that need CUDA say so where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs CUDA"))


@pytest.fixture(autouse=True, scope="session")
def interruptible() -> Iterator[None]:
    """A shell that starts the suite in the background has it, and all it starts, ignore Ctrl-C, which is under test."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    dtype = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pyro.clear_param_store()
        yield
        pyro.clear_param_store()
    torch.set_default_dtype(dtype)


@pytest.fixture
def double() -> Iterator[None]:
    """Float64 by default, for tests that compare numbers."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages whose figures are made but not drawn: that is most of what a page costs, and has tests of its own."""
    svg = import_module("inference.report.svg")
    monkeypatch.setattr(svg, "_lay_out", lambda figure: None)
    monkeypatch.setattr(svg, "_drawn", lambda figure: '<svg viewBox="0 0 9 9"></svg>')
