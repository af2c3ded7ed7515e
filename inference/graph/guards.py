"""What a graph has taken for granted: the tensors the programs hold, and the numbers they read from Python."""

from __future__ import annotations

import inspect
import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor, nn

from inference.graph.record import CaptureError
from inference.pair import Pair
from ppmodels.contracts import Program

__all__ = ["Guards", "leaving_no_trace"]

_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.Size)
_TORCHS_OWN = set(nn.Module().__dict__) - {"training"}


class Guards:
    """Whether all is still as it was when a graph was made.

    Checked are the identity, the place in memory and `requires_grad` of the tensors that the graph reads from the
    pair's modules, from Pyro's store and from closures; and the plain Python values that modules hold as attributes and
    functions read from their globals and closures. What a program reads from elsewhere is a constant of its graph.
    """

    def __init__(self, pair: Pair) -> None:
        self.tensors: list[tuple[Any, str, Tensor]] = []
        self.values: list[tuple[Any, str, Any]] = []
        for module in _modules(pair):
            self._note(module._parameters, module._parameters)
            self._note(module._buffers, module._buffers)
            self._note(module.__dict__, module.__dict__.keys() - _TORCHS_OWN)
        store = pyro.get_param_store()._params
        self._note(store, store)
        for function in _functions(pair.model, pair.guide):
            self._note(function.__globals__, function.__code__.co_names)
            self._note(_Closure(function), function.__code__.co_freevars)
        self.only({id(tensor) for _, _, tensor in self.tensors})

    def _note(self, home: Any, names: Collection[str]) -> None:
        for name in names:
            value = home.get(name)
            if isinstance(value, Tensor):
                self.tensors.append((home, name, value))
            elif isinstance(value, _PLAIN):
                self.values.append((home, name, value))

    def only(self, tensors: Collection[int]) -> Guards:
        """Drop the tensors whose identity is not among those given."""
        self.tensors = [entry for entry in self.tensors if id(entry[2]) in tensors]
        self.kinds = [(tensor.data_ptr(), tensor.requires_grad) for _, _, tensor in self.tensors]
        return self

    def hold(self) -> bool:
        """Whether the graph may still be used."""
        for (home, name, tensor), (place, requires_grad) in zip(self.tensors, self.kinds, strict=True):
            if home.get(name) is not tensor or tensor.data_ptr() != place or tensor.requires_grad != requires_grad:
                return False
        return self.changed() is None

    def changed(self) -> str | None:
        """The name of the first plain value that is not what it was."""
        for home, name, value in self.values:
            now = home.get(name)
            if now is not value and (type(now) is not type(value) or now != value):
                return name
        return None


class _Closure:
    """The variables a function closes over, to be read by name."""

    def __init__(self, function: Any) -> None:
        self.cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))

    def get(self, name: str) -> Any:
        try:
            return self.cells[name].cell_contents
        except ValueError:  # not bound yet
            return None


def _functions(*programs: Program) -> Iterator[Any]:
    for program in programs:
        function: Any = program
        while isinstance(function, partial):
            function = function.func
        function = inspect.unwrap(getattr(function, "__func__", function))
        if inspect.isfunction(function):
            yield function


def _modules(pair: Pair) -> Iterator[nn.Module]:
    seen: set[int] = set()
    for root in pair.used_modules().values():
        for module in root.modules():
            if id(module) not in seen:
                seen.add(id(module))
                yield module


@contextmanager
def leaving_no_trace(pair: Pair) -> Iterator[None]:
    """Run the programs, put their modules' attributes back, and refuse those that keep count in Python.

    A number counted up at every call, or drawn from another generator than torch's, would stand still in a graph.
    """
    guards = Guards(pair)
    generators = _other_generators()
    attributes = [(module, dict(module.__dict__)) for module in _modules(pair)]
    try:
        yield
        if name := guards.changed():
            raise CaptureError(f"it changes `{name}`, a Python value, while it runs: keep it in a buffer, in place")
        if generators != _other_generators():
            raise CaptureError("it draws from Python's or NumPy's random generator: draw from torch's")
    finally:
        for module, before in attributes:
            module.__dict__.clear()
            module.__dict__.update(before)


def _other_generators() -> tuple[Any, ...]:
    """The state of Python's and of NumPy's global generator."""
    numpys: Any = np.random.get_state()  # noqa: NPY002  # programs may use it
    return random.getstate(), numpys[1].tobytes(), numpys[2:]
