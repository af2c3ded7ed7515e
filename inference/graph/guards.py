"""What a graph has taken for granted, to be checked between calls; and programs run without leaving a trace."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from operator import attrgetter, is_
from types import CellType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.graph.reach import ABSENT, OPEN, Home, Place, Reached, is_library, reach, read
from inference.graph.record import CaptureError
from inference.graph.stateful import has_moved, put_back, state_of
from inference.pair import Pair

__all__ = ["Guards", "leaving_no_trace"]

_PLAIN = (bool, int, float, complex, str, type(None), np.generic, torch.dtype, torch.device, torch.Size)


class Guards:
    """Whether all that programs can reach is still as it was when a graph was made.

    Checked are the identity, the place in memory and `requires_grad` of the tensors the graph reads, and the identity
    of whatever else is found there; plain values need only be equal. What a program reads from elsewhere (a file, the
    entries of an array, an object of a library) is a constant of its graph.
    """

    def __init__(self, pair: Pair) -> None:
        self.reached = reach(pair)

    def only(self, tensors: Collection[int]) -> Guards:
        """Be ready to check: of tensors those whose identities are given, of the rest all."""
        entries = [(place.home, name, read(place.home, name)) for place in self.reached.places for name in place.names]
        kept = [entry for entry in entries if not _is_settled(entry[2], tensors)]
        in_dicts = [entry for entry in kept if isinstance(entry[0], dict)]
        self.in_dicts: tuple[list[Any], ...] = tuple(
            [entry[i] for entry in in_dicts] for i in range(3)
        )  # homes, names, values
        self.elsewhere = [entry for entry in kept if not isinstance(entry[0], dict)]
        self.tensors = list({id(value): value for _, _, value in kept if isinstance(value, Tensor)}.values())
        self.addresses, self.trained = self._addresses(), self._trained()
        self.whole = [place.home for place in self.reached.places if place.whole]
        self.sizes = self._sizes()
        return self

    def hold(self) -> bool:
        """Whether the graph may still be used."""
        homes, names, values = self.in_dicts
        if not all(map(is_, map(dict.get, homes, names), values)) and not self._equal():
            return False
        if not all(read(home, name) is value or _same(read(home, name), value) for home, name, value in self.elsewhere):
            return False
        return self.hold_tensors() and self._sizes() == self.sizes

    def hold_tensors(self) -> bool:
        """Whether the tensors are where they were and train or stand still as they did: the part that costs little."""
        return self._addresses() == self.addresses and self._trained() == self.trained

    def _addresses(self) -> list[int]:
        return list(map(Tensor.data_ptr, self.tensors))

    def _trained(self) -> list[bool]:
        return list(map(attrgetter("requires_grad"), self.tensors))

    def _sizes(self) -> list[int]:
        return list(map(len, self.whole))  # type: ignore[arg-type]  # dictionaries and lists

    def _equal(self) -> bool:
        homes, names, values = self.in_dicts
        return all(_same(read(home, name), value) for home, name, value in zip(homes, names, values, strict=True))


def _is_settled(value: Any, tensors: Collection[int]) -> bool:
    """Whether a value needs no check: a tensor that is not read, or what nobody puts another in the place of."""
    if isinstance(value, Tensor):
        return id(value) not in tensors
    return isinstance(value, (ModuleType, type)) or (isinstance(value, FunctionType) and "<" not in value.__qualname__)


def _same(now: Any, before: Any) -> bool:
    return now is before or (isinstance(before, _PLAIN) and type(now) is type(before) and bool(now == before))


@contextmanager
def leaving_no_trace(reached: Reached) -> Iterator[None]:
    """Run programs, put back all they can reach, and refuse those that keep a state in Python.

    A number counted up at every call, a tensor put in the place of another, a draw from another generator than torch's
    would stand still in a graph. Private attributes that hold no plain value may change, as caches do, and
    so may the objects of libraries, as `pyro.plate`.
    """
    generators = random.getstate(), np.random.get_state()  # noqa: NPY002  # programs may use it
    drawn = _as_text(generators)
    before = [(place, _contents(place)) for place in reached.places]
    states = [(thing, state_of(thing)) for thing in reached.stateful]
    try:
        yield
        for place, then in before:
            if place.judged and (name := _changed(place, then)):
                raise CaptureError(f"it changes `{name}` while it runs: keep it in a buffer, written in place")
        if drawn != _as_text((random.getstate(), np.random.get_state())):  # noqa: NPY002
            raise CaptureError("it draws from Python's or NumPy's random generator: draw from torch's")
        for thing, state in states:
            if has_moved(thing, state):
                raise CaptureError(f"it uses a {type(thing).__name__} that moves on at every call: use tensors")
    finally:
        random.setstate(generators[0])
        np.random.set_state(generators[1])  # noqa: NPY002
        for place, then in before:
            _put_back(place, then)
        for thing, state in states:
            put_back(thing, state)


def _as_text(generators: Any) -> tuple[str, ...]:
    return tuple(
        str(part if not isinstance(part, np.ndarray) else part.tobytes()) for state in generators for part in state
    )


def _contents(place: Place) -> dict[Any, Any]:
    if place.whole and isinstance(place.home, (dict, list)):
        return dict(place.home if isinstance(place.home, dict) else enumerate(place.home))
    return {name: read(place.home, name) for name in place.names}


def _changed(place: Place, before: dict[Any, Any]) -> str | None:
    """The name of the first value that is another, if that can matter."""
    now = _contents(place)
    for name in {**before, **now}:
        is_private = str(name).startswith("_")
        if _differs(now.get(name, ABSENT), before.get(name, ABSENT), is_private=is_private):
            return _name(place.home, name)
    return None


def _differs(now: Any, before: Any, *, is_private: bool) -> bool:
    """Whether a program that finds another value there may do otherwise, or has left a result for somebody to read."""
    if _same(now, before):
        return False
    if isinstance(now, _PLAIN) and isinstance(before, _PLAIN):
        return True
    if isinstance(now, (dict, list, tuple)) and type(now) is type(before):
        mine, its = (value if isinstance(value, dict) else dict(enumerate(value)) for value in (now, before))
        shared = mine.keys() & its.keys()
        grown = mine.keys() != its.keys() and not is_private
        return grown or any(_differs(mine[k], its[k], is_private=is_private) for k in shared)
    if is_private:
        return False  # a cache, or what shows in the numbers
    return not (is_library(type(now)) and not isinstance(now, OPEN) and type(now) is type(before))


def _name(home: Home, name: Any) -> str:
    """What to call it: by its name, or as an item."""
    if isinstance(home, CellType):
        return "a variable of a closure"
    return name if isinstance(name, str) else f"[{name!r}]"


def _put_back(place: Place, before: dict[Any, Any]) -> None:
    home = place.home
    if isinstance(home, list):
        home[:] = before.values()
    elif isinstance(home, dict):
        if place.whole:
            home.clear()
        home.update({name: value for name, value in before.items() if value is not ABSENT})
    else:
        for name, value in before.items():
            if read(home, name) is not value:
                _put(home, name, value)


def _put(home: Home, name: Any, value: Any) -> None:
    """Set a variable of a closure, or an attribute, of a frozen object too."""
    if isinstance(home, CellType):
        home.cell_contents = value
    elif isinstance(home, type):
        setattr(home, name, value)
    elif value is ABSENT:
        object.__delattr__(home, name)
    else:
        object.__setattr__(home, name, value)
