"""Eight schools: the same effect measured in many places, none of them precisely."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
from torch import Tensor

__all__ = ["eight_schools"]


def eight_schools(sigma: Tensor, y: Tensor | None = None, *, loc_scale: float = 5.0, tau_scale: float = 5.0) -> Tensor:
    r"""Effects of a treatment that resemble each other by as much as the data say.

    .. math::
        \mu \sim N(0, 5^2), \quad \tau \sim \mathrm{HalfCauchy}(5), \quad \eta_j \sim N(0, 1), \quad
        \theta_j = \mu + \tau \eta_j, \quad y_j \sim N(\theta_j, \sigma_j^2)

    Not centred: chains move :math:`\eta`, which knows nothing of :math:`\tau`, so there is no funnel.

    Sites: `mu`, `tau`, `eta` and the deterministic `theta`, `y`. Plate: `school`, dimension -1.

    Args:
        sigma: standard errors of the measurements, `(J,)`.
        y: measured effects, `(J,)`, drawn where not given.
        loc_scale: the scale of the prior of `mu`.
        tau_scale: the scale of the prior of `tau`.

    Returns:
        The effects, `(J,)`.

    References:
        - Estimation in parallel randomized experiments (Rubin, 1981)
        - Bayesian Data Analysis, section 5.5 (Gelman et al., 2013)
        - Prior distributions for variance parameters in hierarchical models (Gelman, 2006), for the prior of `tau`

    Example:
        >>> import torch
        >>> eight_schools(torch.tensor([15.0, 10.0, 16.0])).shape
        torch.Size([3])
    """
    zero, one = sigma.new_zeros(()), sigma.new_ones(())
    mu = pyro.sample("mu", dist.Normal(zero, loc_scale))
    tau = pyro.sample("tau", dist.HalfCauchy(tau_scale * one))
    with pyro.plate("school", len(sigma), dim=-1):
        eta = pyro.sample("eta", dist.Normal(zero, 1.0))
        theta = pyro.deterministic("theta", mu + tau * eta)
        effects: Tensor = pyro.sample("y", dist.Normal(theta, sigma), obs=y)
    return effects
