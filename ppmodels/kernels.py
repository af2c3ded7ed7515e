r"""How diffusion forgets: kernels that take a datum to noise in T small steps, each with everything in closed form.

With :math:`\bar\alpha_t = \prod_{s \le t} (1 - \beta_s)`, the share of a datum that is left after t steps:

=========  ====================================================  ==================================================
kernel     :math:`q(x_t \mid x_{t-1})`                           :math:`q(x_t \mid x_0)`
=========  ====================================================  ==================================================
Gaussian   :math:`N(\sqrt{1 - \beta_t}\, x_{t-1}, \beta_t I)`    :math:`N(\sqrt{\bar\alpha_t}\, x_0,
                                                                 (1 - \bar\alpha_t) I)`
binomial   :math:`B((1 - \beta_t)\, x_{t-1} + \beta_t / 2)`      :math:`B(\bar\alpha_t x_0 + (1 - \bar\alpha_t) / 2)`
=========  ====================================================  ==================================================

Both are reversible: what they leave as it is (a standard normal, fair bits) they also walk through backwards by the
same law. So the model that has learned nothing restores by the kernel itself, and is exact for data of that law.
"""

from __future__ import annotations

import abc
from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, register_kl
from torch.nn.functional import softplus

from .distributions import as_vector
from .rates import FixedRates, Rates, Schedule

__all__ = ["BinomialKernel", "Bits", "GaussianKernel", "Kernel"]


class Kernel(nn.Module, abc.ABC):
    r"""T steps that forget; a subclass says in `noised`, `q`, `q_posterior` and `stationary` what they are made of.

    States are `(..., n, x_dim)` and steps `t` int64, `(n,)` or 0-d, from 1 to T; every law is over vectors.
    `BinomialKernel` is the shortest example.

    Arguments:
        betas: :math:`\beta`, `(T,)`, more than 0 and less than 1 (the last may be 1), or a module that gives `Rates`.

    Raises:
        ValueError: a rate is out of range, or there are less than two; with validation on, a step is out of range.
    """

    def __init__(self, betas: Tensor | Schedule) -> None:
        super().__init__()
        self.rates: Any = FixedRates(betas) if isinstance(betas, Tensor) else betas
        self.num_steps: int = self.rates.num_steps

    @abc.abstractmethod
    def noised(self, x: Tensor, t: Tensor) -> TorchDistribution:
        r""":math:`q(x_t \mid x_0)`."""

    @abc.abstractmethod
    def q(self, state: Tensor, t: Tensor) -> TorchDistribution:
        r""":math:`q(x_t \mid x_{t-1})`; by reversibility also what an untrained model restores :math:`x_{t-1}` by."""

    @abc.abstractmethod
    def q_posterior(self, state: Tensor, x: Tensor, t: Tensor) -> TorchDistribution:
        r""":math:`q(x_{t-1} \mid x_t, x_0)` from t = 2 on; at t = 1 it would be the datum itself."""

    @abc.abstractmethod
    def stationary(self, x_dim: int) -> TorchDistribution:
        """The law that every step leaves as it is, event `(x_dim,)`."""

    def at(self, t: Tensor, *, first: int = 1) -> tuple[Rates, Rates]:
        """The rates of steps t - 1 and t, a column `(..., 1)` each."""
        check_steps(t, self.num_steps, first=first)
        rates = self.rates()
        before, now = ([column[index].unsqueeze(-1) for column in rates] for index in (t - 1, t))
        return Rates(*before), Rates(*now)


class GaussianKernel(Kernel):
    r"""Real numbers that shrink while noise is added.

    .. math::
        q(x_t \mid x_{t-1}) &= N(\sqrt{1 - \beta_t}\, x_{t-1},\ \beta_t I) \\
        q(x_{t-1} \mid x_t, x_0) &= N\Bigl(\frac{\sqrt{\bar\alpha_{t-1}} \beta_t x_0 + \sqrt{1 - \beta_t}\,
        (1 - \bar\alpha_{t-1})\, x_t}{1 - \bar\alpha_t},\ \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t} \beta_t I\Bigr)

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), arXiv:1503.03585
        Denoising Diffusion Probabilistic Models (Ho et al., 2020), arXiv:2006.11239, equations 2, 4, 6 and 7

    Example:
        >>> from ppmodels.rates import harmonic
        >>> kernel, x = GaussianKernel(harmonic(10)), torch.ones(3, 2)
        >>> kernel.noised(x, torch.tensor([1, 5, 10])).mean[:, 0]
        tensor([0.9487, 0.7071, 0.0000])
    """

    def noised(self, x: Tensor, t: Tensor) -> TorchDistribution:
        _, now = self.at(t)
        return _normal(now.kept.sqrt() * x, now.lost)

    def q(self, state: Tensor, t: Tensor) -> TorchDistribution:
        _, now = self.at(t)
        return _normal((1 - now.beta).sqrt() * state, now.beta)

    def q_posterior(self, state: Tensor, x: Tensor, t: Tensor) -> TorchDistribution:
        before, now = self.at(t, first=2)
        loc = before.kept.sqrt() * now.beta * x + (1 - now.beta).sqrt() * before.lost * state
        return _normal(loc / now.lost, before.lost / now.lost * now.beta)

    def stationary(self, x_dim: int) -> TorchDistribution:
        zero = torch.zeros_like(self.rates().beta[:1]).expand(x_dim)
        return _normal(zero, torch.ones_like(zero))

    def noise(self, state: Tensor, x: Tensor, t: Tensor) -> Tensor:
        r"""The standard normal noise that took a datum to this state, :math:`\epsilon` of
        :math:`x_t = \sqrt{\bar\alpha_t} x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon`."""
        _, now = self.at(t)
        return (state - now.kept.sqrt() * x) / now.lost.sqrt()


class Bits(dist.Bernoulli):  # type: ignore[misc]
    """Bernoulli bits whose KL is told by their log-odds: finite where torch rounds a probability to 1, and broadcast.

    Example:
        >>> sure, unsure = Bits(logits=torch.tensor(20.0)), Bits(logits=torch.tensor(0.0))
        >>> torch.distributions.kl_divergence(unsure, sure)
        tensor(9.3069)
    """


def _kl_bits(p: Bits, q: Bits) -> Tensor:
    log_p, log_q = cast(Tensor, p.logits), cast(Tensor, q.logits)
    on = softplus(-log_q) - softplus(-log_p)  # log p(1) - log q(1)
    off = softplus(log_q) - softplus(log_p)  # log p(0) - log q(0)
    return log_p.sigmoid() * on + (-log_p).sigmoid() * off


register_kl(Bits, Bits)(_kl_bits)


class BinomialKernel(Kernel):
    r"""Bits of which each is tossed anew with probability :math:`\beta_t`; states are 0 and 1.

    With :math:`s = 2x - 1` all laws are told by their log-odds, which add up:

    .. math::
        q(x_t \mid x_{t-1}):\ s_{t-1} \log \tfrac{2 - \beta_t}{\beta_t}, \qquad
        q(x_t \mid x_0):\ s_0 \log \tfrac{1 + \bar\alpha_t}{1 - \bar\alpha_t}, \qquad
        q(x_{t-1} \mid x_t, x_0):\ s_t \log \tfrac{2 - \beta_t}{\beta_t}
        + s_0 \log \tfrac{1 + \bar\alpha_{t-1}}{1 - \bar\alpha_{t-1}}

    Raises:
        ValueError: with validation on, a state is neither 0 nor 1.

    References:
        Deep Unsupervised Learning using Nonequilibrium Thermodynamics (Sohl-Dickstein et al., 2015), arXiv:1503.03585

    Example:
        >>> from ppmodels.rates import harmonic
        >>> kernel, x = BinomialKernel(harmonic(10)), torch.ones(3, 2)
        >>> kernel.noised(x, torch.tensor([1, 5, 10])).mean[:, 0]
        tensor([0.9500, 0.7500, 0.5000])
    """

    def noised(self, x: Tensor, t: Tensor) -> TorchDistribution:
        _, now = self.at(t)
        return _bits(_sign("x", x) * _log_odds(now.lost))

    def q(self, state: Tensor, t: Tensor) -> TorchDistribution:
        _, now = self.at(t)
        return _bits(_sign("state", state) * _log_odds(now.beta))

    def q_posterior(self, state: Tensor, x: Tensor, t: Tensor) -> TorchDistribution:
        before, now = self.at(t, first=2)
        return _bits(_sign("state", state) * _log_odds(now.beta) + _sign("x", x) * _log_odds(before.lost))

    def stationary(self, x_dim: int) -> TorchDistribution:
        return _bits(torch.zeros_like(self.rates().beta[:1]).expand(x_dim))


def check_steps(t: Tensor, num_steps: int, *, first: int = 1) -> None:
    """Refuse what is no step; values are read only under validation, without which programs become graphs."""
    if t.ndim > 1 or t.dtype != torch.int64:
        raise ValueError(f"`t` must be int64 of shape (n,) or (), one step a datum, got {t.dtype} of {tuple(t.shape)}")
    if Distribution._validate_args and len(wrong := t[(t < first) | (t > num_steps)].reshape(-1)):
        raise ValueError(f"`t` must be a step from {first} to {num_steps}, got {int(wrong[0])}")


def _normal(loc: Tensor, variance: Tensor) -> TorchDistribution:
    return as_vector(cast(Any, dist.Normal(loc, variance.sqrt())))


def _bits(logits: Tensor) -> TorchDistribution:
    return as_vector(cast(Any, Bits(logits=logits)))


def _log_odds(lost: Tensor) -> Tensor:
    """The log-odds of a bit to be as it was, where so much has been lost."""
    return torch.log((2 - lost) / lost)


def _sign(name: str, bits: Tensor) -> Tensor:
    if Distribution._validate_args and len(wrong := bits[(bits != 0) & (bits != 1)].reshape(-1)):
        raise ValueError(f"`{name}` must hold bits, 0 or 1, got {float(wrong[0])}: binarise the data")
    return 2 * bits - 1
