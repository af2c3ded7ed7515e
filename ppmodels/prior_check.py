r"""Is this a sound prior? One call, an answer in words."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Distribution

from .agreement import disagreements
from .distributions import named_tensors, validation
from .nets import check_size
from .prior_adapters import as_prior

__all__ = ["PriorReport", "check_prior"]


@dataclass(frozen=True)
class PriorReport:
    """What `check_prior` found, in words; printed, it is a list of what holds and what does not."""

    prior: str
    passed: list[str]
    problems: list[str]
    notes: list[str]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def __str__(self) -> str:
        lines = [f"{self.prior}: {'sound' if self.ok else f'{len(self.problems)} problem(s)'}"]
        lines += [f"  holds    {line}" for line in self.passed]
        lines += [f"  problem  {line}" for line in self.problems]
        return "\n".join(lines + [f"  note     {line}" for line in self.notes])


def check_prior(prior: Any, *, num_samples: int = 4096, seed: int = 0) -> PriorReport:
    r"""Tests whether a prior can be used in every model, bound and sampler.

    Shapes, also inside plates; finite draws and densities; the support; moves to another dtype and device;
    gradients of the parameters; and whether the draws come from the density, by the identities of
    `ppmodels.agreement`, which accuse a sound prior about once in 10,000 calls.

    The prior, the global random state and the validation flags are left as they were found.

    Arguments:
        prior: anything that `as_prior` takes.
        num_samples: draws per test. Standard errors fall with its square root; so few as 1,000 do for a flow
            whose draws are slow.
        seed: of the draws; the same seed gives the same report.

    Example:
        >>> from torch.distributions import Normal
        >>> report = check_prior(Normal(torch.zeros(5), 1.0))
        >>> report.ok
        False
        >>> print(report)
        Normal: 1 problem(s)
          problem  `prior` must be a distribution over one latent vector, ... `Independent(..., 1)` (torch)
    """
    check_size("num_samples", num_samples, least=100)
    report = PriorReport(_name(prior), [], [], [])
    with (
        torch.random.fork_rng(range(torch.cuda.device_count())),
        torch.enable_grad(),
        validation(enabled=False),  # what it would raise is found and said below
        poutine.block(),
    ):
        torch.manual_seed(seed)
        try:
            module = as_prior(prior)
        except Exception as error:  # a stranger's code may raise anything
            refused = isinstance(error, TypeError | ValueError)
            report.problems.append(str(error) if refused else f"making it raised {type(error).__name__}: {error}")
            return report
        subject = _Subject(module, num_samples, report.notes)
        for sentence, test in _TESTS.items():
            found = _run(sentence, test, subject)
            report.problems.extend(found)
            if not found:
                report.passed.append(sentence)
            elif test in (_shapes, _finite):
                break  # the rest would repeat it
    return report


@dataclass(frozen=True)
class _Subject:
    """A prior under test; its draws are made once, since those of a flow take long."""

    module: nn.Module
    num_samples: int
    notes: list[str]

    @cached_property
    def draws(self) -> Tensor:
        with torch.no_grad():
            z: Tensor = self.module()((self.num_samples,))  # a Pyro distribution is drawn from by calling it
        return z


Test = Callable[[_Subject], Iterator[str]]


def _run(sentence: str, test: Test, subject: _Subject) -> list[str]:
    try:
        return list(test(subject))
    except Exception as error:  # as above
        return [f"testing that {sentence} raised {type(error).__name__}: {error}"]


def _shapes(subject: _Subject) -> Iterator[str]:
    p = subject.module()
    z = p((2,))
    log_p = p.log_prob(z)
    if z.shape != (2, *p.event_shape):
        yield f"draws have shape {tuple(z.shape)}, expected {(2, *p.event_shape)}"
    elif log_p.shape != (2,):
        yield f"log_prob has shape {tuple(log_p.shape)}, expected (2,)"
    else:
        with pyro.plate("particles", 3, dim=-2), pyro.plate("data", 4, dim=-1):
            z = pyro.sample("z", p)
        log_p = p.expand((3, 4)).log_prob(z)
        if z.shape != (3, 4, *p.event_shape) or log_p.shape != (3, 4):
            yield f"in plates of (3, 4) draws have shape {tuple(z.shape)} and log_prob {tuple(log_p.shape)}"


def _finite(subject: _Subject) -> Iterator[str]:
    z, n = subject.draws, subject.num_samples
    strange = ~z.isfinite().all(-1)
    if strange.any():
        yield f"{int(strange.sum())} of {n} draws are not finite"
        return
    with torch.no_grad():
        log_p = subject.module().log_prob(z)
    strange = ~log_p.isfinite()
    if strange.any():
        yield f"log_prob is {_shown(log_p[strange][0])} at {int(strange.sum())} of {n} draws"


def _support(subject: _Subject) -> Iterator[str]:
    try:
        support = subject.module().support
    except NotImplementedError:
        yield "it has no `support`, which HMC and validation ask for; give the distribution that property"
        return
    outside = ~support.check(subject.draws)
    if outside.any():
        yield f"{int(outside.sum())} of {subject.num_samples} draws lie outside `support`, {support}"


def _moves(subject: _Subject) -> Iterator[str]:
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


def _gradients(subject: _Subject) -> Iterator[str]:
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


def _agreement(subject: _Subject) -> Iterator[str]:
    yield from disagreements(_in_double(subject.module)(), subject.num_samples, subject.notes)


def _in_double(module: nn.Module) -> nn.Module:
    try:
        moved = copy.deepcopy(module).double()
        moved().log_prob(moved()())
    except Exception:  # reported where moves are tested
        return module
    return moved


def _shown(value: Tensor) -> str:
    return "NaN" if bool(value.isnan()) else f"{float(value):g}"


def _name(prior: Any) -> str:
    name = getattr(prior, "__name__", None)
    if name is None and isinstance(prior, Distribution) and hasattr(prior, "base_dist"):
        return f"{type(prior).__name__}({type(prior.base_dist).__name__})"
    return str(name or type(prior).__name__)


_TESTS: dict[str, Test] = {
    "draws and densities have the right shapes, in plates too": _shapes,
    "draws and densities are finite": _finite,
    "draws lie in the support": _support,
    "it moves to another dtype and device": _moves,
    "gradients reach every parameter": _gradients,
    "draws and log_prob belong together": _agreement,
}
