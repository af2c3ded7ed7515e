"""Logistic regression whose coefficients differ from group to group."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

__all__ = ["hierarchical_logistic"]


def hierarchical_logistic(
    group: Tensor,
    x: Tensor,
    y: Tensor | None = None,
    *,
    num_groups: int,
    loc_scale: float = 2.5,
    tau_scale: float = 1.0,
) -> Tensor:
    r"""An intercept and slopes for every group, drawn around those of all.

    .. math::
        \mu_p \sim N(0, 2.5^2), \quad \tau_p \sim \mathrm{HalfNormal}(1), \quad \eta_{gp} \sim N(0, 1), \quad
        \beta_{gp} = \mu_p + \tau_p \eta_{gp}, \quad
        \mathrm{logit}\, P(y_i = 1) = \beta_{g_i 0} + \sum_{p=1}^P \beta_{g_i p}\, x_{ip}

    Not centred, as groups of few data want it. Centre and scale `x` for the priors to be weak ones.

    Sites: `mu`, `tau`, `eta` and the deterministic `beta`, `y`. Plates: `coefficient` (the intercept, then the
    columns of `x`), dimension -1; `group`, dimension -2; `data`, dimension -1.

    Args:
        group: whose each datum is, integers below `num_groups`, `(n,)`.
        x: covariates, `(n, P)`.
        y: zeros and ones, `(n,)`, drawn where not given.
        num_groups: G; groups without data are drawn from the prior.
        loc_scale: the scale of the prior of `mu`.
        tau_scale: the scale of the prior of `tau`.

    Returns:
        The outcomes, `(n,)`.

    References:
        - Data Analysis Using Regression and Multilevel/Hierarchical Models, chapter 14 (Gelman and Hill, 2006)
        - A weakly informative default prior distribution for logistic and other regression models (Gelman, Jakulin,
          Pittau and Su, 2008)

    Example:
        >>> group, x = torch.tensor([0, 0, 1]), torch.randn(3, 2)
        >>> hierarchical_logistic(group, x, num_groups=2).shape
        torch.Size([3])
    """
    zero, one = x.new_zeros(()), x.new_ones(())
    with pyro.plate("coefficient", 1 + x.shape[-1], dim=-1):
        mu = pyro.sample("mu", dist.Normal(zero, loc_scale))  # (1 + P,)
        tau = pyro.sample("tau", dist.HalfNormal(tau_scale * one))
        with pyro.plate("group", num_groups, dim=-2):
            eta = pyro.sample("eta", dist.Normal(zero, 1.0))  # (G, 1 + P)
            beta = pyro.deterministic("beta", mu + tau * eta)
    design = torch.cat([torch.ones_like(x[..., :1]), x], dim=-1)  # (n, 1 + P)
    with pyro.plate("data", len(x), dim=-1):
        logits = (beta[group] * design).sum(-1)
        outcomes: Tensor = pyro.sample("y", dist.Bernoulli(logits=logits), obs=y)
    return outcomes
