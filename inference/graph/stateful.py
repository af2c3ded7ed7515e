"""Objects that move on when they are used: random generators, arrays that count, queues. No graph moves them on."""

from __future__ import annotations

import pickle
import random
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = ["STATEFUL", "has_moved", "put_back", "state_of"]


class _Kind(NamedTuple):
    """How to read the state of a kind of object, and how to put it back."""

    type: type
    read: Callable[[Any], Any]
    put: Callable[[Any, Any], Any]


def _refill(queue: deque[Any], entries: list[Any]) -> None:
    queue.clear()
    queue.extend(entries)


_KINDS = (
    _Kind(random.Random, lambda it: it.getstate(), lambda it, state: it.setstate(state)),
    _Kind(np.random.Generator, lambda it: it.bit_generator.state, lambda it, s: setattr(it.bit_generator, "state", s)),
    _Kind(np.random.RandomState, lambda it: it.get_state(), lambda it, state: it.set_state(state)),
    _Kind(np.ndarray, lambda it: it.copy(), lambda it, values: np.copyto(it, values) if it.flags.writeable else None),
    _Kind(deque, list, _refill),
)
STATEFUL = tuple(kind.type for kind in _KINDS)


def _kind(thing: Any) -> _Kind:
    return next(kind for kind in _KINDS if isinstance(thing, kind.type))


def state_of(thing: Any) -> Any:
    """What to compare and to put back."""
    return _kind(thing).read(thing)


def has_moved(thing: Any, before: Any) -> bool:
    """Whether its state is another; for entries of a queue, whether they are others."""
    now = state_of(thing)
    if isinstance(thing, deque):
        return len(now) != len(before) or any(a is not b for a, b in zip(now, before, strict=True))
    return pickle.dumps(now) != pickle.dumps(before)


def put_back(thing: Any, before: Any) -> None:
    """Give it the state it had."""
    _kind(thing).put(thing, before)
