"""What a pair's programs can reach in Python: attributes, closures, globals, settings in dictionaries and lists.

A graph holds tensor operations and nothing of the Python that chose them. So this Python must be as it was when the
graph was made: `inference.graph.guards` checks at every call what is found here.
"""

from __future__ import annotations

import inspect
import sys
from argparse import Namespace
from collections.abc import Iterator
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple, TypeAlias

import pyro
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.distributions import Distribution, Transform

from inference.pair import Pair

__all__ = ["OPEN", "Home", "Place", "is_library", "reach", "read"]

Home: TypeAlias = dict[Any, Any] | list[Any] | CellType | object


class Place(NamedTuple):
    """Where values can be read from, and put: a dictionary, a list, a variable of a closure, a class, or an
    object with slots.

    `whole` says that whatever else turns up there counts too; `judged` that a program must not change it.
    """

    home: Home
    names: tuple[Any, ...]
    whole: bool
    judged: bool


LIMIT = 5_000
"""Objects to look at; what lies beyond is taken to stay as it is."""

LARGEST = 500
"""Entries of a dictionary or list above which it is taken for data, not for settings."""

_LIBRARIES = {"torch", "pyro", "numpy", "scipy", "pandas", "inference", *sys.stdlib_module_names}
_TORCHS_OWN = set(nn.Module().__dict__) - {"training"}
_TORCHS_DICTS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


def reach(pair: Pair) -> list[Place]:
    """Every place that the programs of a pair can read from, as far as can be seen."""
    places: list[Place] = []
    waiting: list[Any] = [pair.model, pair.guide, *pair.used_modules().values()]
    seen: dict[int, Any] = {}
    while waiting and len(seen) < LIMIT:
        thing = waiting.pop()
        if id(thing) in seen or isinstance(thing, _LEAVES):
            continue
        seen[id(thing)] = thing  # held, so that no other gets its id
        for found in _look_into(thing):
            if isinstance(found, Place):
                places.append(found)
                waiting.extend(map(partial(read, found.home), found.names))
            else:
                waiting.append(found)
    store = pyro.get_param_store()
    itself = Place(store.__dict__, ("_params",), whole=False, judged=True)  # clearing it makes another dictionary
    return [*places, itself, Place(store._params, tuple(store._params), whole=False, judged=True)]


def read(home: Home, name: Any) -> Any:
    """What is there now; `None` where nothing is."""
    if isinstance(home, dict):
        return home.get(name)
    if isinstance(home, list):
        return home[name] if name < len(home) else None
    if not isinstance(home, CellType):
        return getattr(home, name, None)
    try:
        return home.cell_contents
    except ValueError:  # not bound yet
        return None


def _look_into(thing: Any) -> Iterator[Any]:
    """The places of a thing, and what else leads on from it."""
    if isinstance(thing, (dict, list, tuple, set, frozenset)) and len(thing) > LARGEST:
        return
    if isinstance(thing, dict):
        yield Place(thing, tuple(thing), whole=True, judged=True)
    elif isinstance(thing, list):
        yield Place(thing, tuple(range(len(thing))), whole=True, judged=True)
    elif isinstance(thing, (tuple, set, frozenset)):
        yield from thing
    elif isinstance(thing, partial):
        yield from (thing.func, thing.args, thing.keywords)
    elif isinstance(thing, MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, FunctionType):
        yield from _function(thing)
    elif isinstance(thing, (property, staticmethod, classmethod)):
        yield thing.fget if isinstance(thing, property) else thing.__func__
    elif isinstance(thing, nn.Module):
        yield from _module(thing)
    elif isinstance(thing, type):
        yield from _class(thing)
    elif hasattr(thing, "__dict__") and (isinstance(thing, (*OPEN, *_NAMESPACES)) or not is_library(type(thing))):
        judged = not isinstance(thing, OPEN)  # distributions keep what they have computed once
        yield Place(thing.__dict__, tuple(thing.__dict__), whole=True, judged=judged)
        yield from _class(type(thing))
    elif hasattr(type(thing), "__slots__") and not is_library(type(thing)):
        slots = type(thing).__slots__
        yield Place(thing, (slots,) if isinstance(slots, str) else tuple(slots), whole=False, judged=True)
        yield from _class(type(thing))


_LEAVES = (bool, int, float, complex, str, bytes, type(None), Tensor, ModuleType)
_METHODS = (FunctionType, property, staticmethod, classmethod)
_SETTINGS = (bool, int, float, complex, str, type(None), Tensor, dict, list)
OPEN = (Distribution, TorchDistributionMixin, Transform)
"""Objects of libraries that are looked into all the same: they hold tensors."""
_NAMESPACES = (SimpleNamespace, Namespace)


def _module(module: nn.Module) -> Iterator[Any]:
    yield Place(module.__dict__, tuple(module.__dict__.keys() - _TORCHS_OWN), whole=True, judged=True)
    for name in _TORCHS_DICTS:
        inner = module.__dict__[name]
        yield Place(inner, tuple(inner), whole=True, judged=True)
    yield from _class(type(module))


def _class(cls: type) -> Iterator[Any]:
    """What methods refer to, and values that stand on the class."""
    for base in cls.__mro__:
        if is_library(base):
            continue
        own = vars(base)
        settings = (name for name, value in own.items() if name[:2] != "__" and isinstance(value, _SETTINGS))
        yield Place(base, tuple(settings), whole=False, judged=True)
        yield from (value for value in own.values() if isinstance(value, _METHODS))


def _function(function: FunctionType) -> Iterator[Any]:
    inner = inspect.unwrap(function)
    if inner is not function:
        yield inner
    cells = function.__closure__ or ()
    yield from (Place(cell, (None,), whole=False, judged=True) for cell in cells)
    yield from (function.__defaults__, function.__kwdefaults__)
    if is_library(function):
        return
    names = set(_names(function.__code__))
    yield Place(function.__globals__, tuple(names & function.__globals__.keys()), whole=False, judged=True)
    for seen in (*map(function.__globals__.get, names), *(read(cell, None) for cell in cells)):
        if isinstance(seen, ModuleType) and seen.__name__.partition(".")[0] not in _LIBRARIES:  # settings.factor
            yield Place(seen.__dict__, tuple(names & seen.__dict__.keys()), whole=False, judged=True)


def _names(code: CodeType) -> Iterator[str]:
    """Every name a function looks up, in the functions it defines too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def is_library(thing: Any) -> bool:
    """Whether a class or function is torch's, Pyro's, Python's or ours, which nobody's settings are kept in."""
    return (getattr(thing, "__module__", None) or "").partition(".")[0] in _LIBRARIES
