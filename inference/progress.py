"""Progress as an object with a null version: nothing is shown unless there is a terminal to show it on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm import tqdm

__all__ = ["Progress", "progress_bar"]


class Progress(Protocol):
    """What a loop reports: how far it is, and what it sees."""

    def advance(self, amount: int) -> None: ...

    def note(self, **values: float) -> None: ...


class _Silent:
    def advance(self, amount: int) -> None: ...

    def note(self, **values: float) -> None: ...


class _Bar:
    def __init__(self, bar: tqdm[Any]) -> None:
        self._bar = bar

    def advance(self, amount: int) -> None:
        self._bar.update(amount)

    def note(self, **values: float) -> None:
        self._bar.set_postfix({name: f"{value:.2f}" for name, value in values.items()}, refresh=False)


@contextmanager
def progress_bar(label: str, total: int, *, done: int = 0, show: bool | None = None) -> Iterator[Progress]:
    """A bar on standard error where that is a terminal (or where asked for), silence elsewhere."""
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        yield _Silent()
        return
    with tqdm(total=total, initial=done, desc=label, leave=False) as bar:
        yield _Bar(bar)
