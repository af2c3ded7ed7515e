"""What a pair's programs can reach in Python: attributes, closures, globals, settings in dictionaries and lists.

A graph holds tensor operations and nothing of the Python that chose them. So this Python must be as it was when the
graph was made: `inference.graph.guards` checks what is found here.
"""

from __future__ import annotations

import inspect
import sys
from argparse import Namespace
from collections import deque
from collections.abc import Iterable, Iterator
from functools import partial
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any, NamedTuple, TypeAlias

import pyro
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.distributions import Distribution, Transform

from inference.graph.record import CaptureError
from inference.graph.stateful import STATEFUL
from inference.pair import Pair

__all__ = ["ABSENT", "OPEN", "Home", "Place", "Reached", "is_library", "reach", "read"]

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


ABSENT = object()

LIMIT = 5_000
"""Objects to look at; programs that can reach more are not captured."""

LARGEST = 500
"""Entries of a dictionary or list above which it is taken for data: only their number is watched."""

_LIBRARIES = {"torch", "pyro", "numpy", "scipy", "pandas", "inference", *sys.stdlib_module_names}
_TORCHS_OWN = set(nn.Module().__dict__) - {"training"}
_TORCHS_DICTS = ("_parameters", "_buffers", "_modules", "_forward_hooks", "_forward_pre_hooks")


class Reached(NamedTuple):
    """Every place that programs can read from, and every object that moves on when they use it."""

    places: list[Place]
    stateful: list[Any]


def reach(pair: Pair) -> Reached:
    """What the programs of a pair can reach, as far as can be seen.

    Raises:
        CaptureError: if that is too much to watch, or moves on and cannot be put back.
    """
    places: list[Place] = []
    stateful: list[Any] = []
    waiting: deque[Any] = deque([pair.model, pair.guide, *pair.used_modules().values()])
    seen: dict[int, Any] = {}
    while waiting:
        thing = waiting.popleft()
        if id(thing) in seen or isinstance(thing, _LEAVES):
            continue
        if len(seen) > LIMIT:
            raise CaptureError(f"its programs can reach more than {LIMIT:,} objects, too many to watch for changes")
        if isinstance(thing, torch.jit.ScriptModule):
            raise CaptureError("it holds a TorchScript module, which runs out of sight")
        if isinstance(thing, Iterator) and not hasattr(thing, "__dict__"):
            raise CaptureError("it holds an iterator, which moves on at every call: draw from torch, or keep a buffer")
        if isinstance(thing, STATEFUL):
            stateful.append(thing)
        seen[id(thing)] = thing  # held, so that no other gets its id
        for found in _look_into(thing):
            if isinstance(found, Place):
                places.append(found)
                waiting.extend(map(partial(read, found.home), found.names))
            else:
                waiting.append(found)
    store = pyro.get_param_store()
    itself = Place(store.__dict__, ("_params",), whole=False, judged=True)  # clearing it makes another dictionary
    return Reached([*places, itself, Place(store._params, tuple(store._params), whole=False, judged=True)], stateful)


def read(home: Home, name: Any) -> Any:
    """What is there now; `ABSENT` where nothing is."""
    if isinstance(home, dict):
        return home.get(name, ABSENT)
    if isinstance(home, list):
        return home[name] if name < len(home) else ABSENT
    if not isinstance(home, CellType):
        return getattr(home, name, ABSENT)
    try:
        return home.cell_contents
    except ValueError:  # not bound yet
        return ABSENT


def _look_into(thing: Any) -> Iterator[Any]:
    """The places of a thing, and what else leads on from it."""
    if isinstance(thing, (dict, list)) and len(thing) > LARGEST:
        yield Place(thing, (), whole=True, judged=True)
    elif isinstance(thing, dict):
        yield Place(thing, tuple(thing), whole=True, judged=True)
    elif isinstance(thing, list):
        yield Place(thing, tuple(range(len(thing))), whole=True, judged=True)
    elif isinstance(thing, (tuple, set, frozenset)):
        yield from thing if len(thing) <= LARGEST else ()
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
_NO_SETTINGS = (*_METHODS, type, MemberDescriptorType, GetSetDescriptorType)
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
        settings = (name for name, value in own.items() if name[:2] != "__" and not isinstance(value, _NO_SETTINGS))
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
    modules = [*map(function.__globals__.get, names), *map(sys.modules.get, names)]  # imported above, or inside
    yield from _settings_files([*modules, *(read(cell, None) for cell in cells)], names)


def _settings_files(modules: Iterable[Any], names: set[str]) -> Iterator[Place]:
    """What may be read from modules by these names: `settings.factor`, `package.settings.factor`."""
    seen: set[int] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if isinstance(module, ModuleType) and id(module) not in seen and not _is_installed(module):
            seen.add(id(module))
            here = names & module.__dict__.keys()
            yield Place(module.__dict__, tuple(here), whole=False, judged=True)
            waiting.extend(module.__dict__[name] for name in here)


def _is_installed(module: ModuleType) -> bool:
    """Whether a module is a library, and no file of the user's."""
    return module.__name__.partition(".")[0] in _LIBRARIES or "site-packages" in (getattr(module, "__file__", "") or "")


def _names(code: CodeType) -> Iterator[str]:
    """Every name a function looks up, in the functions it defines too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def is_library(thing: Any) -> bool:
    """Whether a class or function is a library's, in which nobody keeps settings."""
    name = getattr(thing, "__module__", None) or ""
    module = sys.modules.get(name)
    return name.partition(".")[0] in _LIBRARIES or (module is not None and _is_installed(module))
