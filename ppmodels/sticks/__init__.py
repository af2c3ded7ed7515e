r"""A stick broken again and again: where it breaks, what the pieces weigh, and the laws of the breaks.

.. math:: \pi_k = v_k \prod_{j<k} (1 - v_j), \quad k < K, \qquad \pi_K = \prod_{j<K} (1 - v_j)

A break is kept as its logit, :math:`s = \log v - \log(1 - v)`, on the real line. As a number in (0, 1) it would round
to 1 where less than 6e-8 is left (float32): for a break of density :math:`(1 - v)^{b - 1}` with b = 0.1 that is a fifth
of all draws. Its logarithms are :math:`\log v = -\operatorname{softplus}(-s)` and
:math:`\log(1 - v) = -\operatorname{softplus}(s)`, exact however small, and samplers see a space without walls.
"""

from .divergences import kumaraswamy_beta_kl, mean_log_rest
from .laws import LogitBeta, LogitGammaRatio, LogitKumaraswamy, LogitSticks
from .weights import log_stick_weights, stick_weights

__all__ = [
    "LogitBeta",
    "LogitGammaRatio",
    "LogitKumaraswamy",
    "LogitSticks",
    "kumaraswamy_beta_kl",
    "log_stick_weights",
    "mean_log_rest",
    "stick_weights",
]
