r"""Is this a sound prior? One call, an answer in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from pyro import poutine
from torch.distributions import Distribution

from ppmodels.distributions import validation
from ppmodels.nets import check_size

from .adapters import as_prior
from .trials import FIRST, TRIALS, Subject, Trial

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
    `ppmodels.priors.agreement`, which accuse a sound prior about once in 10,000 calls.

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
        subject = Subject(module, num_samples, report.notes)
        for sentence, trial in TRIALS.items():
            found = _run(sentence, trial, subject)
            report.problems.extend(found)
            if not found:
                report.passed.append(sentence)
            elif trial in FIRST:
                break  # the rest would repeat it
    return report


def _run(sentence: str, trial: Trial, subject: Subject) -> list[str]:
    try:
        return list(trial(subject))
    except Exception as error:  # a stranger's code may raise anything
        return [f"testing that {sentence} raised {type(error).__name__}: {error}"]


def _name(prior: Any) -> str:
    name = getattr(prior, "__name__", None)
    if name is None and isinstance(prior, Distribution) and hasattr(prior, "base_dist"):
        return f"{type(prior).__name__}({type(prior.base_dist).__name__})"
    return str(name or type(prior).__name__)
