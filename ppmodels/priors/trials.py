"""The tests that `check_prior` makes: each yields what speaks against a prior, in words."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn

from ppmodels.distributions import named_tensors

from .agreement import disagreements

__all__ = ["FIRST", "TRIALS", "Subject", "Trial"]


@dataclass(frozen=True)
class Subject:
    """A prior under test; its draws are made once, since those of a flow take long."""

    module: nn.Module
    num_samples: int
    notes: list[str]

    @cached_property
    def distribution(self) -> Any:
        """Of the draws: a prior that samples its own parameters returns another each time."""
        return self.module()

    @cached_property
    def draws(self) -> Tensor:
        with torch.no_grad():
            z: Tensor = self.distribution((self.num_samples,))  # a Pyro distribution is drawn from by calling it
        return z.clone()  # a flow keeps the density of what it has drawn, which would not be tested


Trial: TypeAlias = Callable[[Subject], Iterator[str]]


def _shapes(subject: Subject) -> Iterator[str]:
    _note_sites(subject)
    p = subject.module()
    z = p((2,))
    log_p = p.log_prob(z)
    if z.shape != (2, *p.event_shape):
        yield f"draws have shape {tuple(z.shape)}, expected {(2, *p.event_shape)}"
    elif log_p.shape != (2,):
        yield f"log_prob has shape {tuple(log_p.shape)}, expected (2,)"
    else:
        with pyro.plate("particles", 3, dim=-2):
            p = subject.module()
            with pyro.plate("data", 4, dim=-1):
                z = pyro.sample("z", p)
        log_p = p.expand((3, 4)).log_prob(z)
        if z.shape != (3, 4, *p.event_shape) or log_p.shape != (3, 4):
            yield f"in plates of (3, 4) draws have shape {tuple(z.shape)} and log_prob {tuple(log_p.shape)}"


def _finite(subject: Subject) -> Iterator[str]:
    z, n = subject.draws, subject.num_samples
    strange = ~z.isfinite().all(-1)
    if strange.any():
        yield f"{int(strange.sum())} of {n} draws are not finite"
        return
    with torch.no_grad():
        log_p = subject.distribution.log_prob(z)
    strange = ~log_p.isfinite()
    if strange.any():
        yield f"log_prob is {_shown(log_p[strange][0])} at {int(strange.sum())} of {n} draws"


def _support(subject: Subject) -> Iterator[str]:
    try:
        support = subject.distribution.support
    except NotImplementedError:
        yield "it has no `support`, which HMC and validation ask for; give the distribution that property"
        return
    outside = ~support.check(subject.draws)
    if outside.any():
        yield f"{int(outside.sum())} of {subject.num_samples} draws lie outside `support`, {support}"


def _moves(subject: Subject) -> Iterator[str]:
    for name, tensor in _everything(copy.deepcopy(subject.module).double()).items():
        if tensor.is_floating_point() and tensor.dtype != torch.float64:
            yield f"`{name}` stays {tensor.dtype} under `.double()`: make it a parameter or a buffer"
    if not torch.cuda.is_available():
        subject.notes.append("the move to another device was not tried: there is none here")
        return
    for name, tensor in _everything(copy.deepcopy(subject.module).cuda()).items():
        if tensor.device.type != "cuda":
            yield f"`{name}` stays on {tensor.device} under `.cuda()`: make it a parameter or a buffer"


def _everything(module: nn.Module) -> dict[str, Tensor]:
    p = module()
    z = p((2,))
    return {**named_tensors(p), "a draw": z, "log_prob of a draw": p.log_prob(z)}


def _gradients(subject: Subject) -> Iterator[str]:
    parameters = {name: value for name, value in subject.module.named_parameters() if value.requires_grad}
    if not parameters:
        return
    log_p = subject.module().log_prob(subject.draws[:16]).sum()
    if not log_p.requires_grad:
        yield f"no parameter gets a gradient from log_prob, of {len(parameters)}: {', '.join(parameters)}"
        return
    gradients: Sequence[Tensor | None] = torch.autograd.grad(log_p, list(parameters.values()), allow_unused=True)
    for name, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            yield f"the parameter `{name}` gets no gradient from log_prob: use it, or drop it"
        elif not gradient.isfinite().all():
            yield f"the gradient of the parameter `{name}` is not finite"


def _agreement(subject: Subject) -> Iterator[str]:
    yield from disagreements(_in_double(subject.module)(), subject.num_samples, subject.notes)


def _in_double(module: nn.Module) -> nn.Module:
    try:
        moved = copy.deepcopy(module).double()
        moved().log_prob(moved()())
    except Exception:  # reported where moves are tested
        return module
    return moved


def _note_sites(subject: Subject) -> None:
    """Says what a prior samples besides the latent."""
    with torch.no_grad():
        names = poutine.trace(subject.module).get_trace().stochastic_nodes
    if names:
        sites = ", ".join(f"`{name}`" for name in names)
        subject.notes.append(
            f"it samples {sites}, at one draw of which it was tested: call it outside the data plate, as VAE does, and "
            "ask for bounds with `joint=True` and a guide that samples the same"
        )


def _shown(value: Tensor) -> str:
    return "NaN" if bool(value.isnan()) else f"{float(value):g}"


TRIALS: Mapping[str, Trial] = {
    "draws and densities have the right shapes, in plates too": _shapes,
    "draws and densities are finite": _finite,
    "draws lie in the support": _support,
    "it moves to another dtype and device": _moves,
    "gradients reach every parameter": _gradients,
    "draws and log_prob belong together": _agreement,
}

FIRST = (_shapes, _finite)
"""Without these the others make no sense."""
