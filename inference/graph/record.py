"""Run a function once and note every tensor it meets that it did not make; refuse what no graph can hold.

A graph of tensor operations is right for other values of its inputs only if no value ever decided what was done. So
everything that reads a value out of a tensor, or makes a shape from values, is refused here, while it really runs, with
the line of the program that asked for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import pyro
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

__all__ = ["CaptureError", "LastSite", "Recorder"]

NODE_BUDGET = 20_000
"""Operations above which a graph costs more than it saves: particles or plates run one by one, in a loop."""

_READS = {Tensor.numpy, Tensor.__array__, Tensor.tolist, Tensor.item, Tensor.data_ptr}


class CaptureError(RuntimeError):
    """A function has no tensor graph; the message is a clause that says why, for the end of a sentence."""


class LastSite(Messenger):
    """Remembers the last site a Pyro program came to."""

    name: str | None = None

    def _pyro_sample(self, msg: Any) -> None:
        self.name = msg["name"]

    def __str__(self) -> str:
        return f", after site `{self.name}`" if self.name else ""


class Recorder(TorchDispatchMode):
    """Notes what a function meets, while it runs as ever.

    Attributes:
        met: tensors from outside, in the order they are met: parameters, buffers, the batch, what closures hold.
        before: copies of those that the function changes in place, as they were.
        operations: how many there were.
    """

    def __init__(self, site: LastSite, buffers: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.site = site
        self.buffers = [(buffer, buffer.detach().clone()) for buffer in buffers]
        self.met: dict[int, Tensor] = {}
        self.before: dict[int, Tensor] = {}
        self.operations = 0
        self._sharing: dict[int, list[Tensor]] = {}  # by the address of the storage
        self._made = WeakIdKeyDictionary()  # tensor -> True

    def run(self, function: Callable[[], Any]) -> Any:
        """Call the function; what it changed in place is put back."""
        try:
            with self, _Reads(self.site), self.site:
                return function()
        finally:
            with torch.no_grad():
                for buffer, value in self.buffers:  # batch norm writes to them and does not say so
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)
                        if id(buffer) in self.met:
                            self.before.setdefault(id(buffer), value)
                for key, value in self.before.items():
                    self.met[key].copy_(value)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._refuse(func, args, kwargs)
        for value in tree_iter((args, kwargs)):
            if isinstance(value, Tensor) and value not in self._made and id(value) not in self.met:
                if value.layout is not torch.strided:
                    raise CaptureError(f"it works on a tensor of layout {value.layout}{_where()}{self.site}")
                self.met[id(value)] = value
                self._sharing.setdefault(value.untyped_storage().data_ptr(), []).append(value)
        if "batch_norm" in func.name():
            self._keep(args[3:5])  # running statistics, written to though the schema does not say so
        if func._schema.is_mutable:
            self._copy_before(func, args, kwargs)
        result = func(*args, **kwargs)
        for value in tree_iter(result):
            if isinstance(value, Tensor) and id(value) not in self.met:
                self._made[value] = True
        return result

    def _refuse(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.operations += 1
        if self.operations > NODE_BUDGET:
            raise CaptureError(f"it takes more than {NODE_BUDGET:,} tensor operations{self.site}")
        if torch.Tag.data_dependent_output in func.tags:
            raise CaptureError(f"it asks for the value of a tensor{_where()}{self.site}")
        if torch.Tag.dynamic_output_shape in func.tags and not _indexes_by_number(func, args):
            raise CaptureError(f"it makes a shape from the values of a tensor{_where()}{self.site}")
        if kwargs.get("generator") is not None:
            raise CaptureError(f"it draws from a generator of its own{_where()}{self.site}")

    def _copy_before(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(value)
        for argument in func._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(kwargs.get(argument.name))

    def _keep(self, written: Any) -> None:
        """Copy the tensors from outside whose memory is about to be written to, through whichever view."""
        for value in tree_iter(written):
            if isinstance(value, Tensor):
                for outside in self._sharing.get(value.untyped_storage().data_ptr(), []):
                    if id(outside) not in self.before:
                        self.before[id(outside)] = outside.detach().clone()


class _Reads(TorchFunctionMode):
    """Refuses what reads a tensor without an operation."""

    def __init__(self, site: LastSite) -> None:
        self.site = site

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _READS:
            raise CaptureError(f"it asks for the value of a tensor{_where()}{self.site}")
        return func(*args, **(kwargs or {}))


def _indexes_by_number(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether an indexing operation takes positions, not a mask: then its shape is known."""
    if func is not torch.ops.aten.index.Tensor:
        return False
    return all(i is None or i.dtype not in (torch.bool, torch.uint8) for i in args[1])


_LIBRARIES = tuple(
    str(Path(module.__file__ or "").parent) for module in (torch, pyro, sys.modules[__name__.split(".")[0]])
)


def _where() -> str:
    """The innermost line that is neither torch's, nor Pyro's, nor ours."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((*_LIBRARIES, "<")):
        frame = frame.f_back
    return f" at {Path(frame.f_code.co_filename).name}:{frame.f_lineno}" if frame is not None else ""
