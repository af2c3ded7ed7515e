"""Series that switch between states which nobody sees."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["hidden_markov"]


def hidden_markov(
    num_series: int,
    length: int,
    y: Tensor | None = None,
    *,
    states: int = 2,
    centre: float = 0.0,
    spread: float = 1.0,
    width: float = 1.0,
    persistence: float = 2.0,
) -> Tensor:
    r"""A hidden Markov model with normal emissions, its states summed out, several series under one law.

    .. math::
        \mu_1 \sim N(m, s^2), \quad \mu_{k+1} - \mu_k \sim \mathrm{Gamma}(2, 2 / s), \quad
        \sigma_k \sim \mathrm{HalfNormal}(\omega), \quad A_k \sim \mathrm{Dirichlet}(1 + \kappa e_k)

    .. math::
        z_0 \sim \mathrm{Uniform}\{1, \dots, K\}, \quad z_t \mid z_{t-1} \sim A_{z_{t-1}}, \quad
        y_t \sim N(\mu_{z_t}, \sigma_{z_t}^2), \quad t = 1, \dots, T

    The state before the first measurement is any, and is as little seen as the others. States are numbered by their
    means, so they are identified; the prior of a gap vanishes at 0, so that no two are one. The density is exact, by a
    recursion that takes log T steps.

    Sites: `lowest`, `gap`, `scale`, `transition`, of rows :math:`A_k`, `y`; the deterministic `loc`, the means. Plates,
    all of dimension -1: `step` between states, `state`, `series`.

    Args:
        num_series: how many series.
        length: T, of each.
        y: the series, `(num_series, length)`, drawn where not given.
        states: K, at least 2.
        centre: m, the mean of the lowest state's mean.
        spread: s, its standard deviation, and the mean of a gap.
        width: :math:`\omega`, the scale of the prior of the scales.
        persistence: :math:`\kappa`, what a state counts more among its own successors.

    Returns:
        The series, `(num_series, length)`.

    References:
        - A tutorial on hidden Markov models and selected applications in speech recognition (Rabiner, 1989)
        - Hidden Markov and other models for discrete-valued time series (MacDonald and Zucchini, 1997)
        - Temporal parallelization of Bayesian smoothers (Särkkä and García-Fernández, 2021), for the recursion

    Example:
        >>> hidden_markov(3, 20, states=2).shape
        torch.Size([3, 20])
    """
    zero = torch.zeros(()) if y is None else y.new_zeros(())
    lowest = pyro.sample("lowest", dist.Normal(zero + centre, spread))
    with pyro.plate("step", states - 1, dim=-1):
        gap = pyro.sample("gap", dist.Gamma(zero + 2, 2.0 / spread))  # (K - 1,)
    with pyro.plate("state", states, dim=-1):
        scale = pyro.sample("scale", dist.HalfNormal(zero + width))  # (K,)
        same = torch.eye(states, dtype=zero.dtype, device=zero.device)
        transition = pyro.sample("transition", dist.Dirichlet(1 + persistence * same))  # (K, K), from and to
    loc = pyro.deterministic("loc", lowest + torch.cat([gap.new_zeros(1), gap.cumsum(-1)]))  # (K,)
    emission = dist.Normal(loc, scale)
    with pyro.plate("series", num_series, dim=-1):
        chain = dist.DiscreteHMM(zero.new_zeros(states), transition.log(), emission, duration=length)
        values: Tensor = pyro.sample("y", chain, obs=y)  # (num_series, length)
    return values
