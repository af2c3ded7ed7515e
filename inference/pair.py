r"""A model and its guide as they come: any two Pyro callables with the same arguments.

What the engines need to know of them is how to call them, which tensors they learn, and how to save these.
Parameters may live in modules (ours do) or in Pyro's parameter store (tutorials do); both are found.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from inference.seeds import seeded
from ppmodels.contracts import Batch, Program

__all__ = ["Pair", "call", "first_tensor", "no_guide", "size_of"]


def call(program: Program, batch: Batch) -> Any:
    """Call `program(x)`, `program(*batch)` or `program(**batch)`, as the batch is a tensor, a tuple or a mapping."""
    if isinstance(batch, Tensor):
        return program(batch)
    if isinstance(batch, Mapping):
        return program(**batch)
    return program(*batch)


def no_guide(*args: Any, **kwargs: Any) -> None:
    """The guide of a model without latents to infer."""


def first_tensor(batch: Batch) -> Tensor:
    """The tensor whose leading axis counts the data."""
    if isinstance(batch, Tensor):
        return batch
    return next(iter(batch.values() if isinstance(batch, Mapping) else batch))


def size_of(batch: Batch) -> int:
    """The number of data in a batch."""
    return len(first_tensor(batch))


def module_of(program: Program) -> nn.Module | None:
    """The module behind a program: itself, the object of a bound method, what a partial or a wrapper holds."""
    while True:
        if isinstance(program, nn.Module):
            return program
        if isinstance(program, partial):
            program = program.func
        elif hasattr(program, "__wrapped__"):
            program = inspect.unwrap(program)
        else:
            owner = getattr(program, "__self__", None)
            return owner if isinstance(owner, nn.Module) else None


def _closed_over(program: Program) -> dict[str, nn.Module]:
    """The modules a plain function refers to, by the names it uses."""
    function = program.func if isinstance(program, partial) else inspect.unwrap(program)
    if not inspect.isfunction(function):
        return {}
    seen = inspect.getclosurevars(function)
    return {name: value for name, value in {**seen.globals, **seen.nonlocals}.items() if isinstance(value, nn.Module)}


@dataclass(frozen=True, eq=False)
class Pair:
    """A model and its guide.

    >>> import torch, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     scale = pyro.param("scale", torch.tensor(0.7))
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, scale))
    >>> pair = Pair(model, guide)
    >>> list(pair.parameters(torch.zeros(3)))
    ['store.scale']
    >>> pyro.clear_param_store()
    """

    model: Program
    guide: Program
    modules_only: bool = False
    """Whether they are just modules, to be called otherwise than with a batch: none is run to see what it holds."""

    def modules(self) -> dict[str, nn.Module]:
        """The modules behind the pair, once each: `{"model": ..., "guide": ...}`."""
        found = {"model": module_of(self.model), "guide": module_of(self.guide)}
        if found["guide"] is found["model"]:
            found["guide"] = None
        return {name: module for name, module in found.items() if module is not None}

    def used_modules(self) -> dict[str, nn.Module]:
        """`modules`, and those a plain function closes over: trained only if registered, but switched and saved."""
        found = self.modules()
        for prefix, program in (("model", self.model), ("guide", self.guide)):
            if module_of(program) is None:
                found |= {f"{prefix}.{name}": module for name, module in _closed_over(program).items()}
        first = {id(module): name for name, module in reversed(found.items())}
        return {name: module for name, module in found.items() if first[id(module)] == name}

    def parameters(self, batch: Batch) -> dict[str, Tensor]:
        """Every leaf that training may move, once each, by name: `model.*`, `guide.*`, `store.*`.

        The parameters in Pyro's store are those the pair touches on this batch; asking runs both programs once.
        """
        named: dict[str, Tensor] = {
            f"{prefix}.{name}": value
            for prefix, module in self.modules().items()
            for name, value in module.named_parameters()
            if value.requires_grad
        }
        named |= {f"store.{name}": value for name, value in self.stored(batch).items()}
        first = {id(value): name for name, value in reversed(named.items())}
        return {name: value for name, value in named.items() if first[id(value)] == name}

    def unregistered(self, parameters: Mapping[str, Tensor]) -> list[str]:
        """Parameters of modules a plain function closes over that are not among those given: nobody will train them."""
        known = {id(value) for value in parameters.values()}
        return [
            f"{prefix}.{name}"
            for prefix, module in self.used_modules().items()
            for name, value in module.named_parameters()
            if value.requires_grad and id(value) not in known
        ]

    def stored(self, batch: Batch) -> dict[str, Tensor]:
        """The unconstrained leaves in Pyro's parameter store that this pair touches."""
        if self.modules_only:
            return {}
        with seeded(None, first_tensor(batch).device), self.mode(training=False), torch.no_grad():
            guide_trace, model_trace = self.traces(batch)
        store = pyro.get_param_store()
        names = [name for t in (guide_trace, model_trace) for name in t.param_nodes]
        return {name: store._params[name] for name in dict.fromkeys(names) if name in store._params}

    def traces(self, batch: Batch) -> tuple[Trace, Trace]:
        """One run of the guide, and of the model on the guide's draws."""
        guide_trace = poutine.trace(lambda: call(self.guide, batch)).get_trace()
        replayed = poutine.replay(lambda: call(self.model, batch), trace=guide_trace)
        return guide_trace, poutine.trace(replayed).get_trace()

    @contextmanager
    def mode(self, *, training: bool) -> Iterator[None]:
        """Put every module behind the pair in training or evaluation mode, and back."""
        touched = [m for root in self.used_modules().values() for m in root.modules()]
        before = [m.training for m in touched]
        for m in touched:
            m.training = training
        try:
            yield
        finally:
            for m, was in zip(touched, before, strict=True):
                m.training = was

    def state(self, batch: Batch) -> dict[str, Tensor]:
        """Parameters and buffers by name, detached: the only truth about what was learned."""
        state = {
            f"{prefix}.{name}": value
            for prefix, module in self.used_modules().items()
            for name, value in module.state_dict().items()
        }
        known = {value.data_ptr() for value in state.values()}
        stored = {k: v for k, v in self.parameters(batch).items() if k.startswith("store.")}
        return state | {k: v for k, v in stored.items() if v.data_ptr() not in known}

    def load(self, state: Mapping[str, Tensor], batch: Batch) -> None:
        """Copy a `state` back in place; names must agree exactly."""
        mine = self.state(batch)
        if mine.keys() != state.keys():
            missing, extra = sorted(mine.keys() - state.keys()), sorted(state.keys() - mine.keys())
            raise ValueError(
                f"`state` does not belong to this pair: missing {missing[:3] or 'nothing'}, "
                f"unexpected {extra[:3] or 'nothing'}; build the pair with the settings it was saved with"
            )
        for name, value in mine.items():
            if value.shape != state[name].shape:
                raise ValueError(
                    f"`state` does not belong to this pair: {name} has shape {tuple(state[name].shape)}, expected "
                    f"{tuple(value.shape)}; build the pair with the settings it was saved with"
                )
        with torch.no_grad():
            for name, value in mine.items():
                value.copy_(state[name])
