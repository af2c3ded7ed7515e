"""The laws of a break's logit."""

from __future__ import annotations

from typing import Any, ClassVar, cast

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.utils import broadcast_all
from torch.nn.functional import logsigmoid

from .logs import log1m_expexp, log_beta, log_softplus, loglog_power

__all__ = ["LogitBeta", "LogitGammaRatio", "LogitKumaraswamy", "LogitSticks"]


class LogitSticks(TorchDistribution):
    """The law of the logit of a break with two positive parameters, entry by entry.

    To write one, give `rsample` and `log_prob`; `LogitBeta` is the shortest example.

    Arguments:
        concentration1: a, which draws the break to 1.
        concentration0: b, which draws it to 0; the two are broadcast.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    support = constraints.real
    has_rsample = True

    def __init__(
        self, concentration1: Tensor | float, concentration0: Tensor | float, *, validate_args: bool | None = None
    ) -> None:
        self.concentration1, self.concentration0 = broadcast_all(concentration1, concentration0)
        super().__init__(self.concentration1.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> LogitSticks:
        new = cast(LogitSticks, cast(Any, self)._get_checked_instance(LogitSticks, _instance))
        new.concentration1 = self.concentration1.expand(batch_shape)
        new.concentration0 = self.concentration0.expand(batch_shape)
        super(LogitSticks, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _uniform(self, sample_shape: Any) -> Tensor:
        """Uniform in (0, 1), neither end among them.

        Torch draws multiples of eps / 2, zero among them, which stands for all below the next: it becomes their
        middle. The least positive number in its place would be a draw so far out, and so much more often than its
        density says, that a mean of importance weights were no longer one.
        """
        shape, eps = self._extended_shape(torch.Size(sample_shape)), torch.finfo(self.concentration1.dtype).eps
        u = torch.rand(shape, dtype=self.concentration1.dtype, device=self.concentration1.device)
        return u.clamp(eps / 4, 1 - eps / 2)


class LogitBeta(LogitSticks):
    r"""The logit of a beta variable, :math:`v \sim \operatorname{Beta}(a, b)`.

    .. math:: p(s) = \frac{v^a (1 - v)^b}{B(a, b)}, \qquad v = \frac{1}{1 + e^{-s}}

    A draw is :math:`\log g_1 - \log g_0` of two gamma variables, each made from one of shape a + 1 by
    :math:`\log g = \log g' + \log(u) / a`, which neither rounds to zero for small a nor loses its gradient: that
    of :math:`g'` is implicit, torch's own.

    References:
        Implicit Reparameterization Gradients (Figurnov, Mohamed and Mnih, 2018), arXiv:1805.08498

    Example:
        >>> LogitBeta(1.0, 5.0).log_prob(torch.tensor(0.0)).exp()  # 5 / 2^6
        tensor(0.0781)
    """

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        return self._log_gamma(self.concentration1, sample_shape) - self._log_gamma(self.concentration0, sample_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return a * logsigmoid(value) + b * logsigmoid(-value) - log_beta(a, b)

    def _log_gamma(self, shape: Tensor, sample_shape: Any) -> Tensor:
        more = (shape + 1).expand(self._extended_shape(torch.Size(sample_shape)))
        return torch._standard_gamma(more).log() + self._uniform(sample_shape).log() / shape


class LogitKumaraswamy(LogitSticks):
    r"""The logit of a Kumaraswamy variable, :math:`P(v \le t) = 1 - (1 - t^a)^b`.

    .. math:: v = (1 - u^{1/b})^{1/a}, \quad u \sim U(0, 1), \qquad
        p(s) = a\, b\, v^a (1 - v^a)^{b - 1} (1 - v)

    Much like a beta, the same where a or b is 1, and with an inverse of its distribution function. All is
    computed from :math:`\log(-\log v)`, in which neither end of (0, 1) is near.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197
        A Generalized Probability Density Function for Double-Bounded Random Processes (Kumaraswamy, 1980)

    Example:
        >>> same = LogitBeta(1.0, 5.0).log_prob(torch.tensor([-1.0, 2.0]))
        >>> torch.allclose(LogitKumaraswamy(1.0, 5.0).log_prob(torch.tensor([-1.0, 2.0])), same)
        True
    """

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        x = -self._uniform(sample_shape).log() / self.concentration0  # v^a = 1 - e^-x
        loglog = loglog_power(x) - self.concentration1.log()  # log(-log v)
        return -loglog.exp() - log1m_expexp(loglog)

    def log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        log_v = logsigmoid(value)
        log_rest = log1m_expexp(log_softplus(-value) + a.log())  # log(1 - v^a)
        return a.log() + b.log() + a * log_v + (b - 1) * log_rest + logsigmoid(-value)

    def cdf(self, value: Tensor) -> Tensor:
        log_rest = log1m_expexp(log_softplus(-value) + self.concentration1.log())
        return -(self.concentration0 * log_rest).expm1()

    @property
    def mean_break(self) -> Tensor:
        r""":math:`\mathbb{E}[v] = b\, B(1 + 1/a, b)`, of the break itself and not of its logit."""
        a, b = self.concentration1, self.concentration0
        return (b.log() + log_beta(1 + 1 / a, b)).exp()


class LogitGammaRatio(LogitSticks):
    r"""The logit of :math:`v = g_1 / (g_1 + g_0)`, each g by the inverse distribution function a gamma has near zero.

    .. math:: g = (u\, a\, \Gamma(a))^{1/a}, \qquad
        s = m - \frac{e_1}{a} + \frac{e_0}{b}, \quad e \sim \operatorname{Exp}(1), \quad
        m = \frac{\log \Gamma(a + 1)}{a} - \frac{\log \Gamma(b + 1)}{b}

    Gammas by their true law would make v a beta; these are cut off, and good for small shapes alone. But their
    logarithms are exponential variables, so the law of s is known exactly, an asymmetric Laplace's:

    .. math:: p(s) = \frac{a b}{a + b} \begin{cases} e^{-b (s - m)} & s \ge m \\ e^{a (s - m)} & s < m \end{cases}

    The paper took the density of the beta for that of these draws, which is no bound; here it is theirs.

    References:
        Stick-Breaking Variational Autoencoders (Nalisnick and Smyth, 2017), arXiv:1605.06197, section 3.2
        Stochastic Gradient Variational Bayes for Gamma Approximating Distributions (Knowles, 2015), arXiv:1509.01631

    Example:
        >>> LogitGammaRatio(1.0, 1.0).log_prob(torch.tensor(0.0)).exp()
        tensor(0.5000)
    """

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return self._middle + self._uniform(sample_shape).log() / a - self._uniform(sample_shape).log() / b

    def log_prob(self, value: Tensor) -> Tensor:
        a, b = self.concentration1, self.concentration0
        away = value - self._middle
        return a.log() + b.log() - (a + b).log() + torch.where(away < 0, a * away, -b * away)

    @property
    def _middle(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return torch.lgamma(a + 1) / a - torch.lgamma(b + 1) / b
