r"""Is the guide good enough to trust its importance weights? Pareto k-hat and effective sample size, per datum."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["effective_sample_size", "khat_threshold", "pareto_khat"]


def pareto_khat(log_w: Tensor) -> Tensor:
    r"""Shape of the generalised Pareto tail of each datum's weights, `(K, n) -> (n,)`.

    Below 0.5 the weights have a finite variance; above about 0.7 no practical K makes their mean reliable.
    Computed by ArviZ's PSIS in float64. NaN where the tail is too short to fit (K below 25 or so), or the weights
    are not finite; minus infinity where they are all equal, as under the exact posterior.

    References:
        Vehtari, Simpson, Gelman, Yao and Gabry, *Pareto Smoothed Importance Sampling*, 2024, arXiv 1507.02646.

    >>> _ = torch.manual_seed(0)
    >>> narrow, wide = torch.distributions.Normal(0.0, 0.5), torch.distributions.Normal(0.0, 1.0)
    >>> z = narrow.sample((4000, 1))
    >>> bool(pareto_khat(wide.log_prob(z) - narrow.log_prob(z)) > 0.7)
    True
    """
    from arviz_stats.base.array import array_stats  # two seconds to import: only those who ask pay

    values = log_w.detach().to(torch.float64).cpu().numpy()  # (K, n)
    khat = np.full(values.shape[1], np.nan)
    lowest = np.where(np.isfinite(values), values, np.inf).min(axis=0)
    values = np.where(np.isneginf(values), lowest, values)  # a weight of zero leaves the right tail as it is
    finite = np.isfinite(values).all(axis=0)
    rounding = 64 * torch.finfo(log_w.dtype).eps * np.abs(values).max(axis=0).clip(min=1.0)
    with np.errstate(invalid="ignore"):
        constant = finite & (len(values) > 1) & (np.ptp(values, axis=0) <= rounding)  # no tail to fit
    khat[constant] = -np.inf
    fitted = finite & ~constant
    if values.shape[0] >= 25 and fitted.any():
        _, found = array_stats.psislw(-np.ascontiguousarray(values[:, fitted].T))  # it takes log ratios negated
        khat[fitted] = np.where(np.isfinite(found), found, np.nan)
    return torch.from_numpy(khat).to(log_w.device)


def khat_threshold(num_particles: int) -> float:
    r"""The k-hat above which K draws are too few: :math:`\min(1 - 1 / \log_{10} K, 0.7)`.

    >>> khat_threshold(100), khat_threshold(5000)
    (0.5, 0.7)
    """
    return min(1 - 1 / math.log10(num_particles), 0.7) if num_particles > 10 else 0.0


def effective_sample_size(log_w: Tensor) -> Tensor:
    r"""Kish's effective number of draws per datum, :math:`(\sum_k w_k)^2 / \sum_k w_k^2`, `(K, n) -> (n,)`.

    >>> effective_sample_size(torch.zeros(10, 1))
    tensor([10.])
    """
    return (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
