"""Logarithms of numbers near 0 and near 1, exact at either end."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

__all__ = ["log1m_expexp", "log_beta", "log_softplus", "loglog_power"]

FAR = -30.0
"""e^-30 = 1e-13: what is that much smaller than 1 is lost beside it."""


def log_beta(a: Tensor, b: Tensor) -> Tensor:
    r""":math:`\log B(a, b)`."""
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def _log1mexp(x: Tensor) -> Tensor:
    """log(1 - exp(-x)) for x > 0, exact at either end.

    Near 0 by 1 - exp(-x) = 2 t / (1 + t), t = tanh(x / 2): a compiler may make exp(x) - 1 of `expm1`, and zero of that.
    """
    t = torch.tanh(x.clamp_max(1.0) / 2)
    return torch.where(x < 0.6931, (2 * t / (1 + t)).log(), torch.log1p(-(-x.clamp_min(0.5)).exp()))


def loglog_power(x: Tensor) -> Tensor:
    """log(-log(1 - exp(-x))): minus x where exp(-x) is lost beside 1."""
    return torch.where(x < -FAR, (-_log1mexp(x.clamp_max(-FAR))).log(), -x)


def log1m_expexp(t: Tensor) -> Tensor:
    """log(1 - exp(-exp(t))): t itself where exp(t) is lost beside 1."""
    return torch.where(t < FAR, t, _log1mexp(t.clamp_min(FAR).exp()))


def log_softplus(t: Tensor) -> Tensor:
    """log(log(1 + exp(t))): t itself where exp(t) is lost beside 1."""
    return torch.where(t < FAR, t, softplus(t.clamp_min(FAR)).log())
