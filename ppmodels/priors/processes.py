"""Mixtures whose number of components the data decide."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ppmodels.nets import check_size
from ppmodels.sticks import log_stick_weights

from .mixtures import Covariance, NormalMixture
from .sticks import StickBreaking

__all__ = ["StickBreakingMixture"]


class StickBreakingMixture(NormalMixture):
    r"""A Dirichlet process mixture of normals, cut off after C, its weights a point estimate.

    .. math:: p(z \mid v) = \sum_c \pi_c(v)\, \mathcal{N}(z;\, \mu_c, L_c L_c^T), \qquad
        \pi_c = v_c \prod_{j<c} (1 - v_j), \qquad v_c \sim \operatorname{Beta}(1, \alpha_0)

    The breaks :math:`v` are learned. Their law counts once however many data there are: add `log_hyperprior`, divided
    by their number N, and training finds the mode of the posterior of the breaks' logits; without it, the most likely
    weights, as in `GaussianMixture`:

    .. math:: \frac1N \sum_i \mathcal{L}(x_i) + \frac1N \log p(\operatorname{logit} v)

    The density is that of the logits, whose mode lies inside for every concentration. Locations and scales have no law
    of their own. All weights are even at the start; `initialise` sorts them.

    Arguments:
        z_dim: the length of `z`.
        components: the number C of normals, at least 2: more than are thought to be needed.
        concentration: :math:`\alpha_0`; the mean weights fall like :math:`(\alpha_0 / (1 + \alpha_0))^c`.
        covariance: "diagonal", "full" or "tied", as in `GaussianMixture`.
        spread: how much of the starting variance lies between the locations, in [0, 1).

    Attributes:
        loc: the locations :math:`\mu_c`, `(C, z_dim)`.
        logit_v: the logits of the breaks, `(C - 1,)`.
        sticks: their law, a `StickBreaking`.

    Raises:
        ValueError: there is one component or none, the concentration is not positive, or as `GaussianMixture`.

    References:
        Variational inference for Dirichlet process mixtures (Blei and Jordan, 2006), Bayesian Analysis 1
        A Constructive Definition of Dirichlet Priors (Sethuraman, 1994), Statistica Sinica 4

    Example:
        >>> from inference import Augmented, Term, Variational
        >>> prior = StickBreakingMixture(2, 20, concentration=2.0)
        >>> prior().event_shape, prior.log_weights.exp().sum().round(decimals=5)
        (torch.Size([2]), tensor(1., grad_fn=<...>))
        >>> Augmented(Variational(), {"sticks": Term(prior.log_hyperprior, weight=1 / 60000, of_batch=False)}).terms
        {'sticks': Term(StickBreakingMixture.log_hyperprior, weight=1.66...e-05, of_batch=False)}
    """

    def __init__(
        self,
        z_dim: int,
        components: int,
        *,
        concentration: float = 1.0,
        covariance: Covariance = "diagonal",
        spread: float = 0.75,
    ) -> None:
        check_size("components", components, least=2)
        super().__init__(z_dim, components, covariance=covariance, spread=spread)
        self.sticks = StickBreaking(components, concentration)
        self.logit_v = nn.Parameter(-torch.arange(components - 1, 0, -1).to(self.loc).log())  # even weights

    @property
    def log_weights(self) -> Tensor:
        """The logarithms of the weights, `(C,)`."""
        return log_stick_weights(self.logit_v)

    def set_weights(self, weights: Tensor) -> None:
        """Change the breaks in place to those of other weights, `(C,)`."""
        left = weights.flip(0).cumsum(0).flip(0)  # (C,): of each component and those after it
        with torch.no_grad():
            self.logit_v.copy_(weights[:-1].log() - left[1:].log())

    def log_hyperprior(self) -> Tensor:
        r""":math:`\log p(\operatorname{logit} v)`, one number."""
        log_p: Tensor = self.sticks().log_prob(self.logit_v)
        return log_p
