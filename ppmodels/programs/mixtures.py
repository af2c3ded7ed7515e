"""Mixtures of as many normals as the data call for."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["dp_mixture"]


def dp_mixture(
    n: int,
    y: Tensor | None = None,
    *,
    grid: Tensor | None = None,
    sticks: int = 8,
    centre: float = 0.0,
    spread: float = 1.0,
    width: float = 0.3,
) -> Tensor:
    r"""A Dirichlet process mixture of normals, cut off at T sticks, the components of the data summed out.

    .. math::
        \alpha \sim \mathrm{Gamma}(2, 2), \quad v_t \sim \mathrm{Beta}(\alpha / T, \alpha (1 - t / T)), \quad
        w_t = v_t \prod_{s<t} (1 - v_s), \quad v_T = 1

    .. math::
        \mu_t \sim N(m, s^2), \quad \sigma_t \sim \mathrm{LogNormal}(\log \omega, 0.5^2), \quad
        z_i \sim \mathrm{Categorical}(w), \quad y_i \sim N(\mu_{z_i}, \sigma_{z_i}^2)

    These sticks make :math:`w \sim \mathrm{Dirichlet}(\alpha / T, \dots, \alpha / T)`, which becomes the Dirichlet
    process as T grows, and has the same law under every numbering of the components. So which number a cluster has is
    not identified, and the posterior has T! modes of one shape: chains in different ones disagree about `v`, `loc` and
    `scale`, and agree about all that does not depend on the numbers, which is what they are to be compared by: `alpha`,
    `weights`, `occupied` and `density`. With sticks of law :math:`\mathrm{Beta}(1, \alpha)`, whose pieces fall from
    left to right, the modes would differ, and even `alpha` would depend on the one that a chain is in.

    The prior of a `scale` vanishes at 0, so that no component can close in on a single datum.

    Sites: `alpha`; `v`, `loc`, `scale`; `z`, enumerated; `y`; the deterministic `weights` from the largest down,
    `occupied`, the expected number of components that hold data,
    :math:`\sum_t 1 - \prod_i (1 - P(z_i = t \mid y_i, v, \mu, \sigma))`, and `density` at `grid` if there is one.
    Plates, all of dimension -1: `stick`, `component`, `data`.

    Args:
        n: how many data.
        y: the data, `(n,)`, drawn where not given.
        grid: where to give the density, `(G,)`.
        sticks: T, at least 2; more than the clusters that are to be expected.
        centre: m, the mean of the locations.
        spread: s, their standard deviation.
        width: :math:`\omega`, the median of the scales.

    Returns:
        The data, `(n,)`.

    References:
        - A constructive definition of Dirichlet priors (Sethuraman, 1994)
        - Bayesian density estimation and inference using mixtures (Escobar and West, 1995)
        - Exact and approximate sum representations for the Dirichlet process (Ishwaran and Zarepour, 2002), for the law
          of the sticks
        - Dealing with label switching in mixture models (Stephens, 2000)

    Example:
        >>> dp_mixture(5, sticks=4).shape
        torch.Size([5])
    """
    zero = torch.zeros(()) if y is None else y.new_zeros(())
    alpha = pyro.sample("alpha", dist.Gamma(zero + 2, 2.0))
    rest = torch.arange(sticks - 1, 0, -1, dtype=zero.dtype, device=zero.device) / sticks  # 1 - t / T
    with pyro.plate("stick", sticks - 1, dim=-1):
        v = pyro.sample("v", dist.Beta(alpha / sticks, alpha * rest))  # (T - 1,)
    with pyro.plate("component", sticks, dim=-1):
        loc = pyro.sample("loc", dist.Normal(zero + centre, spread))  # (T,)
        scale = pyro.sample("scale", dist.LogNormal(zero + math.log(width), 0.5))
    log_w = pad(v.log(), (0, 1)) + pad((-v).log1p(), (1, 0)).cumsum(-1)  # (T,)
    with pyro.plate("data", n, dim=-1):
        z = pyro.sample("z", dist.Categorical(logits=log_w), infer={"enumerate": "parallel"})
        values: Tensor = pyro.sample("y", dist.Normal(loc[z], scale[z]), obs=y)  # (n,)
    pyro.deterministic("weights", log_w.exp().sort(descending=True).values)
    r = _parts(values, log_w, loc, scale).softmax(-1)  # (n, T)
    pyro.deterministic("occupied", (1 - (1 - r).prod(-2)).sum(-1))
    if grid is not None:
        pyro.deterministic("density", _parts(grid, log_w, loc, scale).logsumexp(-1).exp())
    return values


def _parts(y: Tensor, log_w: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    """log(w_t N(y | loc_t, scale_t)), `(..., T)`."""
    log_p: Tensor = dist.Normal(loc, scale).log_prob(y.unsqueeze(-1))
    return log_w + log_p
