"""The stick-breaking autoencoder: a datum's code is how a stick was broken."""

from __future__ import annotations

from collections.abc import Callable

import pyro
from torch import Tensor, nn
from torch.distributions import Distribution

from .conditionals import check_fits
from .distributions import as_vector
from .growth import widened
from .observed import check_data
from .priors import StickBreaking, as_prior
from .sticks import log_stick_weights

__all__ = ["SBVAE"]


class SBVAE(nn.Module):
    r"""An autoencoder with weights for a code, :math:`p(x, v) = p(v)\, p(x \mid \pi(v))`.

    .. math:: v_k \sim \operatorname{Beta}(1, \alpha_0), \qquad \pi_k = v_k \prod_{j<k} (1 - v_j), \qquad
        \pi_K = \prod_{j<K} (1 - v_j)

    The weights are ordered, add up to one, and most are near zero: a code takes as many of them as its datum
    needs. They are cut off after K components; where the last, which has all that is left, is still large, `grown`
    makes more of it.

    Numbers that add up to one are small, and a net that was made for numbers of size one is slow to notice
    them: give its first layer the prior's `gain`, the inverse of the root of
    :math:`\mathbb{E}[\sum_k \pi_k^2] / K`, as the example does. On MNIST that is worth more than which guide is
    taken.

    Sites: `logit_v`, the logits of the breaks, of shape `(n, K - 1)`; `x` of shape `(n, x_dim)`, observed where
    given and drawn where not. The breaks `v` and the weights `pi`, `(n, K)`, are there as deterministic sites.
    Plate: `data`, dimension -1. All of it broadcasts under plates further left.

    Arguments:
        prior: the prior of the breaks' logits, `StickBreaking` or anything that `as_prior` takes.
        likelihood: the conditional :math:`p(x \mid \pi)`, a module from vectors of K weights to a distribution.

    Raises:
        TypeError: the prior or the likelihood is not of its kind.
        ValueError: the prior has a wrong shape, or the likelihood takes vectors of another length than K.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197

    Example:
        >>> from ppmodels.conditionals import ConditionalBernoulli
        >>> from ppmodels.nets import MLP
        >>> from ppmodels.priors import StickBreaking
        >>> prior = StickBreaking(50, 5.0)
        >>> model = SBVAE(prior, ConditionalBernoulli(MLP(50, (500,), gain=prior.gain), 784))
        >>> model(n=16).shape
        torch.Size([16, 784])
    """

    sites = ("logit_v",)

    def __init__(self, prior: nn.Module | Distribution | Callable[[], Distribution], likelihood: nn.Module) -> None:
        super().__init__()
        self.prior = as_prior(prior)
        self.components = int(self.prior().event_shape[0]) + 1
        check_fits("likelihood", likelihood, "prior", self.components)
        self.likelihood = likelihood

    def forward(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        """Draws the breaks and, where `x` is not given, `n` data; returns the data."""
        if x is not None:
            check_data(x, getattr(self.likelihood, "out_features", None))
        prior = self.prior()  # here, so that what it samples itself is shared by all data
        with pyro.plate("data", n if x is None else len(x), dim=-1):
            logit_v = pyro.sample("logit_v", prior)  # (..., n, K - 1)
            pyro.deterministic("v", logit_v.sigmoid(), event_dim=1)
            pi = pyro.deterministic("pi", log_stick_weights(logit_v).exp(), event_dim=1)  # (..., n, K)
            data: Tensor = pyro.sample("x", as_vector(self.likelihood(pi)), obs=x)  # (..., n, x_dim)
        return data

    def grown(self, components: int) -> SBVAE:
        """A copy with more components, which share what the last one had.

        Whatever their shares of it, the data have the same probability as before: nothing is forgotten. Let the
        guide grow by its own `grown`, told the prior's concentration where that is learned. With Kumaraswamy or beta
        breaks the bound then stays where it was; the other families cannot have the prior's law, and each new break
        costs them 0.01 to 0.6 nats (concentrations from 0.1 to 10) until they have learned. So a truncation is found
        by training, while mass remains: fit, look at the mean of `stick_weights(codes)[:, -1]`, grow, go on.

        Raises:
            TypeError: the prior has no `grown`, or the likelihood's net does not begin with a linear layer.
            ValueError: `components` is not larger than before.
        """
        if not isinstance(self.prior, StickBreaking):
            raise TypeError(f"`prior` must be a StickBreaking to be cut off later, got {type(self.prior).__name__}")
        prior = self.prior.grown(components)
        return SBVAE(prior, widened(self.likelihood, components))
