r"""Estimators of a bound's gradient, each for any bound the mathematics allows.

With draws :math:`z_k \sim q_\phi(z \mid x)` and :math:`\log w_k = \log p_\theta(x, z_k) - \log q_\phi(z_k \mid x)` most
are three coefficients a draw, functions of the bound and the weights alone; see `Coefficients`:

.. math:: \sum_k m_k \nabla \log p_\theta(x, z_k) + s_k \nabla \log q_\phi(z_k \mid x)
          + r_k \frac{\partial \log w_k}{\partial z_k} \nabla_\phi z_k

================================  ==================================  ==========================================
estimator                         draws of the guide                  gradient
================================  ==================================  ==========================================
`Pathwise`                        reparameterised                     unbiased, of any bound
`STL`                             reparameterised                     unbiased for the ELBO, biased for others
`DReG`                            reparameterised                     unbiased, of any smooth bound
`ScoreFunction`, `VIMCO`          any                                 unbiased, of any bound
`ReweightedWakeSleep`             any ("dreg": reparameterised)       of KL(p, q) for the guide; with IWAE
`ThermodynamicCovariance`         any                                 of the exact TVO, biased as 1/K
`Enumeration`                     discrete, few states                exact, of the ELBO
`GumbelSoftmax`                   Bernoulli, one-hot                  of a relaxed bound: biased
`StraightThrough`                 Bernoulli, one-hot                  biased
================================  ==================================  ==========================================

`Variational(bound, num_particles, estimator=...)` trains with them; `gradient_snr` measures them.
"""

from inference.estimators.base import Ascent, Estimator, Setting
from inference.estimators.coefficients import ByCoefficients, Coefficients
from inference.estimators.continuous import STL, DReG, Pathwise
from inference.estimators.discrete import VIMCO, ReweightedWakeSleep, ScoreFunction, ThermodynamicCovariance
from inference.estimators.enumeration import Enumeration, enumerate_latents
from inference.estimators.parsing import parse_estimator
from inference.estimators.relaxed import GumbelSoftmax, StraightThrough

__all__ = [
    "STL",
    "VIMCO",
    "Ascent",
    "ByCoefficients",
    "Coefficients",
    "DReG",
    "Enumeration",
    "Estimator",
    "GumbelSoftmax",
    "Pathwise",
    "ReweightedWakeSleep",
    "ScoreFunction",
    "Setting",
    "StraightThrough",
    "ThermodynamicCovariance",
    "enumerate_latents",
    "parse_estimator",
]
