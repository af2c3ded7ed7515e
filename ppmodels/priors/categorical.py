"""Priors over one of so many categories, as a one-hot vector or a soft one."""

from __future__ import annotations

from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppmodels.concrete import Concrete, check_temperature
from ppmodels.nets import check_size

from .settings import hold

__all__ = ["CategoricalPrior", "RelaxedCategorical"]


class CategoricalPrior(nn.Module):
    r"""One category as a one-hot vector, :math:`p(z) = \prod_c \pi_c^{z_c}`.

    The guide's side is a `ConditionalOneHotCategorical`. Draws carry no gradient, so take an estimator that needs
    none: `VIMCO`, `ScoreFunction`, `ReweightedWakeSleep`; `Enumeration`, which is exact; `GumbelSoftmax` or
    `StraightThrough`, which are biased. HMC and annealed chains refuse it.

    Arguments:
        categories: their number C, the length of `z`; at least 2.
        logits: :math:`\log \pi` up to a constant, `(C,)`; where they start, if they are learned. Even where not given.
        learned: whether the logits are a parameter.

    Raises:
        ValueError: there are fewer than two categories, or `logits` has another shape.

    Example:
        >>> CategoricalPrior(10)().log_prob(torch.eye(10)).exp().sum()
        tensor(1., grad_fn=<...>)
    """

    logits: Tensor

    def __init__(self, categories: int, *, logits: Tensor | None = None, learned: bool = True) -> None:
        super().__init__()
        hold(self, learned=learned, logits=_check_logits(categories, logits))

    def forward(self) -> TorchDistribution:
        return cast(TorchDistribution, dist.OneHotCategorical(logits=self.logits))


class RelaxedCategorical(nn.Module):
    r"""A soft category, a point of the simplex, :math:`z \sim \operatorname{Concrete}(\pi, \tau)`; see `Concrete`.

    The guide's side is a `ConditionalRelaxedCategorical`, in whose bounds this density stands. That of the hard
    category would be no density there, and the difference no bound.

    Arguments:
        categories: their number C, the length of `z`; at least 2.
        temperature: :math:`\tau`; below :math:`1 / (C - 1)` the density is highest at the corners.
        logits: :math:`\log \pi` up to a constant, `(C,)`; where they start, if they are learned. Even where not given.
        learned: whether the logits are a parameter.

    Raises:
        ValueError: there are fewer than two categories, `temperature` is not positive, or `logits` has another shape.

    References:
        The Concrete Distribution: A Continuous Relaxation of Discrete Random Variables (Maddison, Mnih and Teh, 2017),
        arXiv:1611.00712

    Example:
        >>> RelaxedCategorical(10, 0.5)()().sum().round(decimals=5)
        tensor(1., grad_fn=<...>)
    """

    logits: Tensor
    temperature: Tensor

    def __init__(
        self, categories: int, temperature: float = 0.5, *, logits: Tensor | None = None, learned: bool = True
    ) -> None:
        super().__init__()
        hold(self, learned=learned, logits=_check_logits(categories, logits))
        hold(self, learned=False, temperature=torch.tensor(check_temperature(temperature)))

    def forward(self) -> TorchDistribution:
        law: Any = Concrete(self.temperature, logits=self.logits)
        return cast(TorchDistribution, law)


def _check_logits(categories: int, logits: Tensor | None) -> Tensor:
    check_size("categories", categories, least=2)
    if logits is None:
        return torch.zeros(categories)
    if logits.shape != (categories,):
        raise ValueError(f"`logits` must have shape ({categories},), one for each category, got {tuple(logits.shape)}")
    return logits
