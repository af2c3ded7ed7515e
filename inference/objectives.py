r"""What training minimises: an objective is an ordered list of phases.

A phase has a name, the parameters it moves, and a loss that comes back in parts. Maximising a bound is one phase;
wake-sleep is two, a GAN is two, an adversarial autoencoder three. `fit` steps the phases and knows nothing else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from inference.bounds import ELBO, Bound
from inference.closed_form import closed_form_sites
from inference.estimators import Estimator, Pathwise, Setting
from inference.estimators.base import refuse_strata, refuse_untrainable
from inference.layout import Layout
from inference.pair import Pair, first_tensor
from inference.particles import inspect_pair
from inference.weights import Weights
from ppmodels.contracts import Batch

__all__ = ["LossParts", "Objective", "Phase", "Task", "Variational"]


@dataclass(frozen=True, eq=False)
class LossParts:
    """A loss and what it is made of.

    Attributes:
        loss: what is minimised, 0-d, nats per datum.
        parts: its terms by name, 0-d and detached, for the log.
    """

    loss: Tensor
    parts: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Phase:
    """One update of one set of parameters.

    Attributes:
        name: how the log calls it.
        parameters: the leaves it moves, by name.
        loss: of a batch and of the step, a 0-d tensor: what changes with time (a KL weight) is computed from it, so
            that a captured graph has it as an input.
        every: it is stepped on the first batch of every so many.
    """

    name: str
    parameters: Mapping[str, Tensor]
    loss: Callable[[Batch, Tensor], LossParts]
    every: int = 1


@dataclass(frozen=True, eq=False)
class Task:
    """An objective set to work on a pair.

    Attributes:
        phases: in the order they are stepped on every batch.
        score: one value per datum of a batch, higher is better, for validation; `None` where there is none.
        layout: how the pair is run; `None` where no loss weighs its programs.
        state: tensors that training carries along beside the parameters, written in place: persistent chains. They
            are in every checkpoint.
    """

    phases: tuple[Phase, ...]
    score: Callable[[Batch], Tensor] | None
    layout: Layout | None = None
    state: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Objective(Protocol):
    """Anything that turns a pair and a first batch into phases; the batch is for inspection only.

    One that does not call model and guide on a batch as Pyro programs says so by an attribute `kind`, "energy",
    "implicit" or "transition" as in `ppmodels.contracts`; then nothing runs them to look for parameters in Pyro's
    store, and a run's manifest has it.
    """

    def task(self, pair: Pair, batch: Batch) -> Task: ...


@dataclass(frozen=True)
class Variational:
    r"""Maximise a bound of K particles over the parameters of model and guide at once.

    The loss is minus the bound, averaged over the batch: for the ELBO it is Pyro's own loss divided by the number of
    data. A scale the program sets by `poutine.scale` counts here, as in Pyro; the data plate's N/B does not.

    Attributes:
        bound: any bound that is differentiable in the log weights; an upper bound only as the guide's, in a `Split`.
        num_particles: K.
        estimator: of the bound's gradient, see `inference.estimators`; `score` stays the bound's value.
        kl_warmup: steps over which the KL's weight rises from 0 to 1; 0 for none. The weight is logged.
        joint: one weight for the whole batch, so that global latents are allowed; the loss is then Pyro's.
        vectorize: run particles in one outer plate; `None` decides by trying.
    """

    bound: Bound = field(default_factory=ELBO)
    num_particles: int = 1
    kl_warmup: int = 0
    joint: bool = False
    vectorize: bool | None = None
    estimator: Estimator = field(default_factory=Pathwise)

    def __post_init__(self) -> None:
        if self.num_particles < 1:
            raise ValueError(f"`num_particles` is {self.num_particles}, expected at least 1: each datum needs a draw")
        if self.kl_warmup < 0:
            raise ValueError(f"`kl_warmup` is {self.kl_warmup}, expected a number of steps, 0 for none")
        if self.kl_warmup and not self.estimator.takes_kl_weight:
            raise ValueError(
                f"`kl_warmup` is {self.kl_warmup}, but {self.estimator.name} takes the weights for those of the guide "
                "itself: expected 0, or `estimator=Pathwise()`"
            )

    def task(self, pair: Pair, batch: Batch) -> Task:
        """Inspect the pair and return the one phase; refuse what has no such gradient, by argument or site."""
        refuse_untrainable(self.bound)
        layout = inspect_pair(pair, batch, joint=self.joint, vectorize=self.vectorize)
        if layout.subsamples and self.num_particles > 1 and not layout.vectorized:
            raise ValueError(
                f"plate `{layout.data}` draws its own minibatch, another for every particle that runs alone: take "
                "`subsample_size` off, or train with one particle"
            )
        if self.kl_warmup and layout.strata and not isinstance(self.bound, ELBO):
            raise ValueError(
                f"`kl_warmup` is {self.kl_warmup}, but site `{layout.strata[0]}` is summed over in the guide, whose KL "
                f"is no part of the weights that {self.bound.name} sees: expected 0, or `ELBO()`"
            )
        if self.kl_warmup and layout.enumerated:
            raise ValueError(
                f"`kl_warmup` is {self.kl_warmup}, but site `{layout.enumerated[0]}` is summed out, which mixes "
                "likelihood and prior: expected 0"
            )
        refuse_strata(self.bound, self.estimator, layout)
        analytic = isinstance(self.bound, ELBO) and self.bound.kl == "analytic"
        sites = closed_form_sites(pair, batch, layout) if analytic else ()
        if analytic and not sites:
            raise ValueError(
                '`ELBO(kl="analytic")` finds no site with a closed-form KL that keeps the bound: use `ELBO()`'
            )

        setting = Setting(pair, layout, self.bound, self.num_particles, sites)
        ascend = self.estimator.prepare(setting, batch)

        def loss(batch: Batch, step: Tensor) -> LossParts:
            kl_weight = (step / self.kl_warmup).clamp_max(1.0) if self.kl_warmup else None
            values, weights = ascend(batch, partial(tempered, kl_weight=kl_weight))
            value = values.mean()
            warming = {} if kl_weight is None else {"kl_weight": kl_weight}
            return LossParts(-value, {"loss": -value.detach()} | _parts(weights) | warming)

        def score(batch: Batch) -> Tensor:
            return self.bound(setting.weigh(batch, keep_scale=False))

        parameters = pair.parameters(batch)
        if not parameters:
            raise ValueError(
                "the pair has no parameters to learn: expected modules, bound methods of modules, or programs that "
                "call `pyro.module` or `pyro.param`"
            )
        _check_device(parameters, first_tensor(batch))
        if left_out := pair.unregistered(parameters):
            warnings.warn(
                f"`{left_out[0]}` is used but not registered, and training leaves it as it is: call `pyro.module`, "
                "or `requires_grad_(False)` if that is meant",
                stacklevel=3,
            )
        return Task((Phase("bound", parameters, loss),), None if layout.subsamples else score, layout)


def tempered(weights: Weights, kl_weight: Tensor | None) -> Weights:
    """Weights whose KL part counts `kl_weight` times, the likelihood once; of strata, only what the ELBO averages."""
    if kl_weight is None:
        return weights
    log_likelihood = weights.log_likelihood
    assert log_likelihood is not None
    weights = replace(
        weights,
        kl={site: kl_weight * kl for site, kl in weights.kl.items()},
        analytic_kl={site: kl_weight * kl for site, kl in weights.analytic_kl.items()},
    )
    if weights.mean_log_w is not None:
        return replace(weights, mean_log_w=torch.lerp(log_likelihood, weights.mean_log_w, kl_weight))
    prior = weights.log_p - log_likelihood
    return replace(weights, log_p=log_likelihood + kl_weight * prior, log_q=kl_weight * weights.log_q)


def _parts(weights: Weights) -> dict[str, Tensor]:
    parts = {}
    if weights.log_likelihood is not None:
        parts["log_likelihood"] = weights.log_likelihood.detach().mean()
    for site, kl in {**weights.kl, **weights.analytic_kl}.items():
        parts[f"kl_{site}"] = kl.detach().mean()
    return parts


def _check_device(parameters: Mapping[str, Tensor], x: Tensor) -> None:
    for name, value in parameters.items():
        if value.device != x.device:
            raise ValueError(
                f"`{name}` is on {value.device} and the data on {x.device}: move one with `.to(...)` before training"
            )
