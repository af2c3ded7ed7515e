r"""Is the guide good enough to trust its importance weights? Pareto k-hat and effective sample size, per datum."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

__all__ = ["Tail", "effective_sample_size", "khat_threshold", "pareto_khat", "pareto_khat_of_tail", "tail_length"]


def pareto_khat(log_w: Tensor) -> Tensor:
    r"""Shape of the generalised Pareto tail of each datum's weights, `(K, n) -> (n,)`.

    Below 0.5 the weights have a finite variance; above about 0.7 no practical K makes their mean reliable.
    Computed by ArviZ's PSIS in float64. NaN where the tail is too short to fit (K below 25 or so), or the weights
    are not finite; minus infinity where the largest are all equal, as under the exact posterior, or where one of a
    few discrete states has them.

    References:
        Vehtari, Simpson, Gelman, Yao and Gabry, *Pareto Smoothed Importance Sampling*, 2024, arXiv 1507.02646.

    >>> _ = torch.manual_seed(0)
    >>> narrow, wide = torch.distributions.Normal(0.0, 0.5), torch.distributions.Normal(0.0, 1.0)
    >>> z = narrow.sample((4000, 1))
    >>> bool(pareto_khat(wide.log_prob(z) - narrow.log_prob(z)) > 0.7)
    True
    """
    finite = torch.where(log_w.isfinite(), log_w, math.inf)
    return pareto_khat_of_tail(log_w, finite.amin(0), len(log_w))


def pareto_khat_of_tail(largest: Tensor, lowest: Tensor, num_particles: int) -> Tensor:
    """`pareto_khat` of K weights of which only the largest, `(M, n)`, and the lowest finite one, `(n,)`, are known.

    M must be `tail_length(K)` at least.
    """
    from arviz_stats.base.array import array_stats  # two seconds to import: only those who ask pay

    values = largest.detach().to(torch.float64).cpu().numpy()  # (M, n)
    lowest_ = lowest.detach().to(torch.float64).cpu().numpy()
    khat = np.full(values.shape[1], np.nan)
    values = np.where(np.isneginf(values), lowest_, values)  # a weight of zero leaves the right tail as it is
    finite = np.isfinite(values).all(axis=0) & np.isfinite(lowest_)
    rounding = 64 * torch.finfo(largest.dtype).eps * np.abs([values.max(axis=0), lowest_]).max(axis=0).clip(min=1.0)
    length = math.ceil(min(num_particles / 5, 3 * math.sqrt(num_particles))) if num_particles >= 25 else num_particles
    fitted = np.sort(values, axis=0)[-length:]  # (length, n)
    with np.errstate(invalid="ignore"):  # no tail to fit
        constant = finite & (num_particles > 1) & (fitted[-1] - fitted[0] <= rounding)
    khat[constant] = -np.inf
    for i in np.flatnonzero(finite & ~constant) if num_particles >= 25 else ():
        every = np.full(num_particles, values[:, i].min())  # below the tail only their number counts
        every[: len(values)] = values[:, i]
        with np.errstate(divide="ignore", invalid="ignore"):  # weights of a few states tie, and have no tail to fit
            _, found = array_stats.psislw(-every)  # it takes log ratios negated
        khat[i] = found if np.isfinite(found) else np.nan
    return torch.from_numpy(khat).to(largest.device)


def tail_length(num_particles: int) -> int:
    r"""How many of K weights k-hat looks at: :math:`\min(K, 3 \sqrt{K})` and a few."""
    return min(num_particles, math.ceil(3 * math.sqrt(num_particles)) + 2)


class Tail:
    """The largest of K weights per datum, while they come by.

    >>> tail = Tail(torch.tensor([[3.0], [1.0]]), num_particles=100)
    >>> for k in range(49):
    ...     tail.add(torch.tensor([[0.0], [k]]))
    >>> tail.largest().shape, tail.largest().max()
    (torch.Size([32, 1]), tensor(48.))
    """

    def __init__(self, first: Tensor, num_particles: int) -> None:
        self.length = tail_length(num_particles)
        rows = min(num_particles, max(2 * self.length, self.length + len(first)))
        self.kept = first.new_empty(rows, first.shape[1])  # (rows, n)
        self.filled = 0
        self.add(first)

    def add(self, log_w: Tensor) -> None:
        """Let `(k, n)` weights come by."""
        if self.filled + len(log_w) > len(self.kept):
            self._select()
        self.kept[self.filled : self.filled + len(log_w)] = log_w
        self.filled += len(log_w)

    def _select(self) -> None:
        largest = self.kept[: self.filled].topk(min(self.length, self.filled), dim=0, sorted=False).values
        self.filled = len(largest)
        self.kept[: self.filled] = largest

    def largest(self) -> Tensor:
        """The largest so far, `(tail_length(K), n)` once there are so many."""
        self._select()
        return self.kept[: self.filled].clone()


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
