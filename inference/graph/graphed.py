r"""A function of a batch that runs Pyro programs, run from its tensor graph wherever it has one.

The ladder of modes is inductor, replay, eager: a step down where a mode cannot be had, with one warning that says why.
`auto` weighs what a mode costs to set up against the calls to come.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from inference.graph.backends import compiled, seconds_to_compile, seconds_to_replay
from inference.graph.capture import Call, Captured, capture
from inference.graph.record import CaptureError
from inference.pair import Pair, size_of
from ppmodels.contracts import Batch

__all__ = ["Entry", "GraphWarning", "Graphed", "Mode", "check_mode"]

Mode: TypeAlias = Literal["auto", "inductor", "replay", "eager"]

WORTH_CAPTURING = 200
"""Calls that make up for the half second it takes to capture a graph."""

SAVED_BY_INDUCTOR = 0.3
"""`Graphed.saved` of a training step."""

MOST_GRAPHS = 8
"""Shapes of batches, or changes of what a graph rests on, after which no more graphs are made."""


class GraphWarning(UserWarning):
    """A mode cannot be had, and the next lower one is used, which is slower."""


def check_mode(mode: str) -> None:
    """The mode is one of the four."""
    if mode not in get_args(Mode):
        expected = ", ".join(f'"{name}"' for name in get_args(Mode))
        raise ValueError(f"`mode` is {mode!r}, expected one of {expected}")


@dataclass(eq=False)
class Entry:
    """One signature's graph; without one the function itself is called."""

    captured: Captured | None = None
    call: Call | None = None


@dataclass(eq=False)
class Graphed:
    """Runs `function(batch, *others)` as a graph.

    Attributes:
        pair: whose programs the function runs.
        function: gives tensors, and anything else that does not change from call to call.
        mode: the mode asked for.
        calls: how often a batch of n data is to come, for `auto`.
        modes: the mode in use by n; what is there beforehand is used as it is.
        warned: reasons that were warned of already; share it to be told once.
        every: calls between two looks at all that a graph rests on; at its tensors it looks at every call. 1 where
            anything may happen between calls.
        subject: what warnings say runs so.
        saved: the part of a replayed call's time that compiling takes off, about.
    """

    pair: Pair
    function: Callable[..., tuple[Sequence[Tensor], Any]]
    mode: Mode
    calls: Callable[[int], int]
    modes: dict[str, str] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    every: int = 1
    subject: str = "the pair"
    saved: float = SAVED_BY_INDUCTOR

    def __post_init__(self) -> None:
        self._entries: dict[Any, Entry] = {}
        self._made, self._found = 0, -1

    def __call__(self, batch: Batch, *others: Any) -> tuple[Sequence[Tensor], Any]:
        """The tensors, and the rest, that `function(batch, *others)` gives."""
        leaves, entry = self.find(batch, *others)
        if entry.captured is None or entry.call is None:
            return self.function(batch, *others)
        with torch.no_grad():
            return entry.call(*leaves), entry.captured.static

    def find(self, batch: Batch, *others: Any) -> tuple[list[Tensor], Entry]:
        """The tensors among the arguments, and the graph for such as these."""
        leaves, key = _signature(batch, others)
        entry = self._entries.get(key)
        if entry is None or (entry.captured is not None and not self._holds(entry.captured)):
            entry = self._entries[key] = self._make(batch, others, leaves)
        return leaves, entry

    def look(self) -> None:
        """Look at everything at the next call: something else has run."""
        self._found = -1

    def _holds(self, captured: Captured) -> bool:
        self._found += 1
        guards = captured.guards
        return guards.hold_tensors() if self._found % self.every else guards.hold()

    def _make(self, batch: Batch, others: tuple[Any, ...], leaves: Sequence[Tensor]) -> Entry:
        n = size_of(batch)
        wanted = self.modes.get(str(n)) or ("eager" if self._is_short(n) else self.mode)
        if wanted == "eager" and self.mode == "auto" and not self._is_short(n):
            wanted = "replay"  # a short run that goes on for longer: the bits are the same
        self._made += 1
        if wanted != "eager" and self._made > MOST_GRAPHS:
            wanted = self._fall("eager", f"its batches or its modules have changed more than {MOST_GRAPHS} times")
        if wanted != "eager":
            try:
                return self._climb(wanted, batch, others, leaves, n)
            except CaptureError as error:
                self._fall("eager", str(error))
        self.modes[str(n)] = "eager"
        return Entry()

    def _climb(self, wanted: str, batch: Batch, others: tuple[Any, ...], leaves: Sequence[Tensor], n: int) -> Entry:
        captured = capture(self.pair, partial(self._on, batch, others), leaves)
        if wanted == "auto":
            saved = self.saved * seconds_to_replay(captured.module) * self.calls(n)
            wanted = "inductor" if saved > seconds_to_compile(captured.module) else "replay"
        call: Call = captured.replay
        self.modes[str(n)] = "replay"
        if wanted == "inductor":
            try:
                call, self.modes[str(n)] = compiled(captured, leaves), "inductor"
            except CaptureError as error:
                self._fall("replay", str(error))
        return Entry(captured, call)

    def _on(self, batch: Batch, others: tuple[Any, ...], *leaves: Tensor) -> tuple[Sequence[Tensor], Any]:
        """The function of arguments like these, with other tensors in them."""
        new = iter(leaves)
        parts, names = _parts(batch)
        batch_parts = [next(new) if isinstance(part, Tensor) else part for part in parts]
        rest = [next(new) if isinstance(part, Tensor) else part for part in others]
        if names is None:
            return self.function(batch_parts[0], *rest)
        return self.function(tuple(batch_parts) if names == () else dict(zip(names, batch_parts, strict=True)), *rest)

    def _is_short(self, n: int) -> bool:
        return self.mode == "auto" and self.calls(n) < WORTH_CAPTURING

    def _fall(self, mode: str, reason: str) -> str:
        reason = reason.partition("\n")[0]  # Pyro adds a table of shapes to what passes through it
        if reason not in self.warned:
            self.warned.add(reason)
            warnings.warn(f"{self.subject} runs in mode {mode!r}: {reason}", GraphWarning, stacklevel=5)
        return mode


def _parts(batch: Batch) -> tuple[Sequence[Any], Sequence[str] | None]:
    """What a batch is made of, and the names of a mapping's parts: `()` for a tuple, `None` for a tensor."""
    if isinstance(batch, Tensor):
        return (batch,), None
    if isinstance(batch, Mapping):
        return tuple(batch.values()), tuple(batch)
    return batch, ()


def _signature(batch: Batch, others: tuple[Any, ...]) -> tuple[list[Tensor], Any]:
    """The tensors among the arguments, and all that a graph depends on beside their values."""
    parts, names = _parts(batch)
    every = (*parts, *others)
    leaves = [part for part in every if isinstance(part, Tensor)]
    kinds = tuple(
        (p.shape, p.stride(), p.dtype, p.device, p.requires_grad) if isinstance(p, Tensor) else p for p in every
    )
    modes = torch.is_grad_enabled(), torch.get_default_dtype(), torch.is_autocast_enabled(leaves[0].device.type)
    return leaves, (names, kinds, modes)
