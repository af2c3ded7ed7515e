r"""Discrete draws replaced by continuous ones that the gradient can follow: biased, and named so.

A Bernoulli or one-hot draw becomes a point between its states, by the logistic or Gumbel noise :math:`g` that would
have chosen one:

.. math:: z = \mathrm{softmax} \Bigl( \frac{\log \pi + g}{\tau} \Bigr), \qquad g_j \sim \mathrm{Gumbel}(0, 1)

while the log densities stay the discrete ones, extended linearly in z. As the temperature falls the points go to the
states and the bias to zero, and the noise of the gradient grows.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import pyro.distributions as dist
import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    OneHotCategorical,
    RelaxedBernoulli,
    RelaxedOneHotCategorical,
)

from inference.bounds import Bound, Split
from inference.estimators.base import Ascent, Setting, Temper
from inference.flags import validating
from inference.pair import first_tensor
from inference.particles import run_particles
from inference.seeds import seeded
from inference.sites import sample_sites
from inference.weights import Weights
from ppmodels.contracts import Batch

__all__ = ["GumbelSoftmax", "StraightThrough"]


@dataclass(frozen=True)
class _Relaxation:
    """What both have: a temperature, and no claim to be unbiased."""

    temperature: float
    hard: ClassVar[bool]
    takes_kl_weight: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"`temperature` is {self.temperature}, expected a positive number, such as 0.5")

    @property
    def name(self) -> str:
        return repr(self)

    def is_unbiased_for(self, bound: Bound, num_particles: int) -> bool:
        """Never, at any temperature above zero."""
        return False

    def prepare(self, setting: Setting, batch: Batch) -> Ascent:
        """Refuse sites with nothing between their states, and return the function from a batch to its values."""
        return _prepare(setting, batch, self.temperature, self.name, hard=self.hard)


@dataclass(frozen=True)
class GumbelSoftmax(_Relaxation):
    r"""The pathwise gradient at relaxed draws of discrete sites: **biased**.

    .. math:: z = \mathrm{softmax}\bigl((\log \pi + g) / \tau\bigr), \qquad g_j \sim \mathrm{Gumbel}(0, 1)

    Works with any lower bound. Its value is the bound at points between the states, which is no bound on log p(x):
    judge by `log_likelihood` or by validation, which draw from the guide as it is.

    Attributes:
        temperature: :math:`\tau`.

    Raises:
        ValueError: for an integer `Categorical`, or a site that is neither reparameterised nor Bernoulli nor one-hot.

    References:
        Jang, Gu and Poole, *Categorical Reparameterization with Gumbel-Softmax*, 2017, arXiv 1611.01144. Maddison, Mnih
        and Teh, *The Concrete Distribution*, 2017, arXiv 1611.00712.

    >>> GumbelSoftmax(0.5).name
    'GumbelSoftmax(temperature=0.5)'
    """

    hard: ClassVar[bool] = False


@dataclass(frozen=True)
class StraightThrough(_Relaxation):
    r"""The same gradient, at the state nearest to the relaxed draw: **biased**.

    Forward a state, which is a draw of the guide, so that the value is the bound; backward the relaxed draw.

    Attributes:
        temperature: :math:`\tau` of the relaxed draw.

    Raises:
        ValueError: as `GumbelSoftmax`.

    References:
        Bengio, Leonard and Courville, *Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
        Computation*, 2013, arXiv 1308.3432. Jang, Gu and Poole, *Categorical Reparameterization with Gumbel-Softmax*,
        2017, arXiv 1611.01144, section 2.2.

    >>> StraightThrough(1.0).name
    'StraightThrough(temperature=1.0)'
    """

    hard: ClassVar[bool] = True


def _prepare(setting: Setting, batch: Batch, temperature: float, name: str, *, hard: bool) -> Ascent:
    if isinstance(setting.bound, Split):
        raise ValueError(
            f"`bound` is {setting.bound.name}, which trains model and guide apart, but {name} is one gradient through "
            "both: expected a plain bound"
        )
    sites = frozenset(setting.layout.without_rsample)

    def relaxing() -> AbstractContextManager[Any]:
        return _Relaxed(sites, temperature, hard=hard)

    _try_once(setting, batch, relaxing())

    def ascend(batch: Batch, temper: Temper) -> tuple[Tensor, Weights]:
        with relaxing():
            weights = setting.weigh(batch, keep_scale=True)
        return setting.bound(temper(weights)), weights

    return ascend


def _try_once(setting: Setting, batch: Batch, relaxing: AbstractContextManager[Any]) -> None:
    """Run the pair once, so that what cannot be relaxed is refused before training."""
    with seeded(None, first_tensor(batch).device), setting.pair.mode(training=False), torch.no_grad():
        with validating(enabled=False), relaxing:
            traces = run_particles(setting.pair, batch, 1, setting.layout)
        for trace in traces:
            for site in sample_sites(trace).values():
                site["fn"].log_prob(site["value"])


class _Relaxed(Messenger):
    """Draws the sites named from their relaxations, and scores what is drawn by densities linear in it."""

    def __init__(self, sites: frozenset[str], temperature: float, *, hard: bool) -> None:
        super().__init__()
        self.sites, self.temperature, self.hard = sites, temperature, hard

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] not in self.sites or msg["is_observed"]:
            return
        msg["fn"] = _linear(msg["fn"], msg["name"])
        if not msg["done"]:
            msg["value"], msg["done"] = _draw(msg["fn"], self.temperature, hard=self.hard), True


def _draw(fn: Any, temperature: float, *, hard: bool) -> Tensor:
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist  # plates are in its batch shape by now
    heat: Any = temperature  # typed as a tensor by torch, but a number is on every device
    if isinstance(fn, Bernoulli):
        soft = RelaxedBernoulli(heat, logits=fn.logits).rsample()
        nearest = soft > 0.5
    else:
        soft = RelaxedOneHotCategorical(heat, logits=fn.logits).rsample()
        nearest = torch.arange(soft.shape[-1], device=soft.device) == soft.argmax(-1, keepdim=True)
    return nearest.to(soft) + (soft - soft.detach()) if hard else soft


def _linear(fn: Any, name: str) -> Distribution:
    """A discrete distribution with its log density extended linearly to the points between its states."""
    found: Distribution
    if isinstance(fn, dist.Independent):
        found = dist.Independent(_linear(fn.base_dist, name), fn.reinterpreted_batch_ndims)
    elif isinstance(fn, dist.MaskedDistribution):
        found = dist.MaskedDistribution(_linear(fn.base_dist, name), fn._mask)
    elif isinstance(fn, OneHotCategorical):
        found = _LinearOneHot(logits=fn.logits)
    elif isinstance(fn, Bernoulli):
        found = fn  # log p = z l - log(1 + exp l) as it is
    elif isinstance(fn, Categorical):
        raise ValueError(
            f"site `{name}` is an integer Categorical, which has nothing between its states: use OneHotCategorical"
        )
    else:
        raise ValueError(
            f"site `{name}` is a {type(fn).__name__}, expected Bernoulli or OneHotCategorical, which have a "
            "relaxation: use ScoreFunction() or VIMCO()"
        )
    return found


class _LinearOneHot(dist.OneHotCategorical):
    """A one-hot categorical whose log density is linear in the value, where torch's takes the nearest state."""

    def log_prob(self, value: Tensor) -> Tensor:
        return (value * self.logits.clamp_min(torch.finfo(value.dtype).min)).sum(-1)
