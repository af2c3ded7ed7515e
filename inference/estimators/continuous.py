r"""Estimators along reparameterised draws: the plain one, and two that take the score out of it.

With :math:`c_k = \partial B / \partial \log w_k` the chain rule gives, for draws :math:`z_k = z(\epsilon_k, \phi)`,

.. math:: \nabla B = \sum_k c_k \nabla \log p_\theta(x, z_k) - c_k \nabla \log q_\phi(z_k \mid x)
          + c_k \frac{\partial \log w_k}{\partial z_k} \nabla_\phi z_k

where the first two gradients leave the draws where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from inference.bounds import Bound, Split
from inference.estimators.base import Ascent, Setting, Temper, refuse_without_rsample
from inference.estimators.coefficients import ByCoefficients, Coefficients
from inference.estimators.derivatives import curvature_of, is_linear, jumps, slope_of
from inference.weights import Weights
from ppmodels.contracts import Batch

__all__ = ["STL", "DReG", "Pathwise"]


@dataclass(frozen=True)
class Pathwise(ByCoefficients):
    r"""The gradient of the bound as it is computed, through the draws: :math:`m = c, \; s = -c, \; r = c`.

    Unbiased for any differentiable bound. Of a bound of many draws the signal for the guide falls as
    :math:`1 / \sqrt{K}` relative to its noise; `DReG` keeps it. The only one that takes `ELBO(kl="analytic")`, a
    `kl_warmup` and a scaled guide.

    References:
        Kingma and Welling, *Auto-Encoding Variational Bayes*, 2014, arXiv 1312.6114. Rainforth et al., *Tighter
        Variational Bounds are Not Necessarily Better*, 2018, arXiv 1802.04537.

    >>> from inference.bounds import ELBO
    >>> Pathwise()(ELBO(), torch.zeros(2, 1)).score
    tensor([[-0.5000],
            [-0.5000]])
    """

    takes_kl_weight: ClassVar[bool] = True
    follows_path: ClassVar[bool] = True
    sums_strata: ClassVar[bool] = True

    def coefficients(self, bound: Bound, log_w: Tensor) -> Coefficients:
        c = slope_of(bound, log_w)
        return Coefficients(c, -c, c)

    def prepare(self, setting: Setting, batch: Batch) -> Ascent:
        """One bound for model and guide needs no coefficients: autograd goes through one run of each."""
        if isinstance(setting.bound, Split):
            return super().prepare(setting, batch)
        refuse_without_rsample(setting, self)

        def ascend(batch: Batch, temper: Temper) -> tuple[Tensor, Weights]:
            weights = setting.weigh(batch, keep_scale=True)
            return setting.bound(temper(weights)), weights

        return ascend


@dataclass(frozen=True)
class STL(ByCoefficients):
    r"""Sticking the landing: the score term is left out, :math:`m = c, \; s = 0, \; r = c`.

    For the ELBO, where :math:`c = 1 / K`, the score has mean zero and only its noise goes: where the guide is exact
    there is none left. Wherever :math:`c_k` depends on the draws (IWAE with K > 1) the term has a mean and the
    estimator **is biased**, as `is_unbiased_for` says; `DReG` is what it should have been.

    References:
        Roeder, Wu and Duvenaud, *Sticking the Landing: Simple, Lower-Variance Gradient Estimators for Variational
        Inference*, 2017, arXiv 1703.09194.

    >>> from inference.bounds import ELBO, IWAE
    >>> STL().is_unbiased_for(ELBO(), 50), STL().is_unbiased_for(IWAE(), 50), STL().is_unbiased_for(IWAE(), 1)
    (True, False, True)
    """

    follows_path: ClassVar[bool] = True

    def coefficients(self, bound: Bound, log_w: Tensor) -> Coefficients:
        c = slope_of(bound, log_w)
        return Coefficients(c, torch.zeros_like(c), c)

    def is_unbiased_for(self, bound: Bound, num_particles: int) -> bool:
        """Whether the guide's bound is linear in the log weights."""
        return is_linear(bound.guide if isinstance(bound, Split) else bound, num_particles)


@dataclass(frozen=True)
class DReG(ByCoefficients):
    r"""Doubly reparameterised: the score term becomes a second path, :math:`m = c, \; s = 0, \; r = c - h`.

    The score's mean is one of a function of the draws, :math:`c_k`, to which the identity
    :math:`\mathbb{E}_q[f(z) \nabla_\phi \log q_\phi(z)] = \mathbb{E}_q[\nabla_z f(z) \, \nabla_\phi z]` applies, with
    the other draws held still:

    .. math:: \mathbb{E} [-c_k \nabla_\phi \log q_\phi(z_k \mid x)]
              = \mathbb{E} \Bigl[ -h_k \frac{\partial \log w_k}{\partial z_k} \nabla_\phi z_k \Bigr],
              \qquad h_k = \frac{\partial c_k}{\partial \log w_k} = \frac{\partial^2 B}{\partial (\log w_k)^2}

    Unbiased for every bound with a continuous slope. :math:`c - h` is :math:`\tilde w_k^2` for the IWAE, as in the
    paper, and :math:`1 / K` for the ELBO, where it is `STL`; for MIWAE, CIWAE, Renyi's, the TVO and a bound of one's
    own it is what `curvature_of` finds. The signal for the guide rises with K.

    Raises:
        ValueError: for a bound whose slope jumps (VR-max, a median, weights cut off): the identity would miss the
            jumps.

    References:
        Tucker, Lawson, Gu and Maddison, *Doubly Reparameterized Gradient Estimators for Monte Carlo Objectives*, 2019,
        arXiv 1810.04152.

    >>> from inference.bounds import IWAE
    >>> log_w = torch.tensor([[0.75], [0.25]]).log()
    >>> DReG()(IWAE(), log_w).path  # the squares of 3/4 and 1/4
    tensor([[0.5625],
            [0.0625]])
    """

    follows_path: ClassVar[bool] = True

    def check(self, bound: Bound, num_particles: int) -> None:
        super().check(bound, num_particles)
        if jumps(bound, num_particles):
            raise ValueError(
                f"`bound` is {bound.name}, whose slope jumps from draw to draw, and {self.name} differentiates it: "
                "expected a smooth bound, or `estimator=Pathwise()`"
            )

    def coefficients(self, bound: Bound, log_w: Tensor) -> Coefficients:
        c = slope_of(bound, log_w)
        return Coefficients(c, torch.zeros_like(c), c - curvature_of(bound, log_w))
