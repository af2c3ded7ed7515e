r"""A bound's value for each datum, with its Monte Carlo error."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from inference.bounds.base import Bound, guarantee_of, refuse_other_draws
from inference.weights import Weights

__all__ = ["Estimate", "bootstrap", "estimate"]


class Estimate(NamedTuple):
    """A bound's value for each datum, and the Monte Carlo standard error of each: the data fixed, the draws not."""

    value: Tensor  # (n,)
    standard_error: Tensor  # (n,); NaN where a single draw cannot know it


def estimate(bound: Bound, weights: Weights, num_particles: int | None = None) -> Estimate:
    r"""Evaluate a bound at K = `num_particles` from weights that may hold more draws.

    The value is the mean over disjoint groups of K draws; an incomplete last group is left out. The error comes
    from the spread between groups; for a single group from a jackknife that leaves out a twentieth at a time, or, for a
    bound that holds in the limit alone, from a bootstrap.

    Raises:
        ValueError: if the weights have fewer draws than K, or are of other draws than the bound is a function of.

    >>> from inference.bounds import IWAE
    >>> weights = Weights(log_p=torch.randn(100, 3), log_q=torch.zeros(100, 3))
    >>> estimate(IWAE(), weights, num_particles=5).value.shape
    torch.Size([3])
    """
    refuse_other_draws(bound, weights)
    K = weights.num_particles if num_particles is None else num_particles
    if not 1 <= K <= weights.num_particles:
        raise ValueError(f"`num_particles` is {K}, expected 1 to {weights.num_particles}, the draws in `weights`")
    groups = weights.num_particles // K
    if groups == 1:
        weights = weights.map(lambda v: v[:K])
        return Estimate(bound(weights), _error(bound, weights))
    values = bound(weights.map(lambda v: _fold(v, K, groups))).reshape(groups, weights.num_data)
    return Estimate(values.mean(0), values.std(0) / math.sqrt(groups))


def bootstrap(bound: Bound, weights: Weights, *, resamples: int = 200, seed: int = 0) -> Tensor:
    """The bound of draws drawn again with replacement, `(resamples, n)`: its quantiles over the first axis are an
    interval for each datum.

    The same draws are taken for all data, so intervals of different data are not independent.
    """
    generator = torch.Generator().manual_seed(seed)
    K = weights.num_particles
    rows = torch.randint(K, (resamples, K), generator=generator).to(weights.log_p.device)
    return torch.stack([bound(weights.map(lambda v, row=row: v[row])) for row in rows])


def _error(bound: Bound, weights: Weights) -> Tensor:
    """The standard error of a single value, `(n,)`."""
    if weights.num_particles == 1:
        return torch.full_like(weights.log_p[0], math.nan)
    return bootstrap(bound, weights).std(0) if guarantee_of(bound) == "limit" else _jackknife(bound, weights)


def _fold(v: Tensor, K: int, groups: int) -> Tensor:
    """Put groups of K draws beside the data: `(K, groups * n)`."""
    return v[: K * groups].reshape(groups, K, v.shape[1]).transpose(0, 1).reshape(K, groups * v.shape[1])


def _jackknife(bound: Bound, weights: Weights, sections: int = 20) -> Tensor:
    K = weights.num_particles
    parts = torch.arange(K, device=weights.log_p.device).tensor_split(min(K, sections))
    without = [torch.cat([p for p in parts if p is not part]) for part in parts]
    values = torch.stack([bound(weights.map(lambda v, rows=rows: v[rows])) for rows in without])
    return values.std(0, correction=0) * math.sqrt(len(parts) - 1)
