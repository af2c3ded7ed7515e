r"""A bound's value for each datum, with its Monte Carlo error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from scipy.stats import t as student_t
from torch import Tensor

from inference.bounds.base import Bound, check_value, guarantee_of, refuse_other_draws
from inference.bounds.lower import IWAE, MIWAE, Split
from inference.weights import Weights

__all__ = ["Estimate", "bootstrap", "estimate"]


SECTIONS = 20
"""Stretches of draws that a jackknife leaves out, one at a time."""


class Estimate(NamedTuple):
    """A bound's value for each datum with its Monte Carlo error: the data fixed, the draws not.

    All are `(n,)`, and NaN where a single draw cannot know them.
    """

    value: Tensor
    standard_error: Tensor
    low: Tensor  # an interval of each value, 95 % unless told
    high: Tensor


def estimate(bound: Bound, weights: Weights, num_particles: int | None = None, *, level: float = 0.95) -> Estimate:
    r"""Evaluate a bound at K = `num_particles` from weights that may hold more draws.

    The value is the mean over disjoint groups of K draws; an incomplete last group is left out. The error comes
    from the spread between groups; for a single group from a jackknife that leaves out a twentieth at a time, one
    stretch of draws as they lie (of chains about one chain); or, for a function of the guide's draws that bounds in the
    limit alone, from a bootstrap, whose quantiles are then the interval.

    Raises:
        ValueError: if the weights have fewer draws than K, or are of other draws than the bound is a function of.

    >>> from inference.bounds import IWAE
    >>> weights = Weights(log_p=torch.randn(100, 3), log_q=torch.zeros(100, 3))
    >>> estimate(IWAE(), weights, num_particles=5).value.shape
    torch.Size([3])
    """
    refuse_other_draws(bound, weights)
    if isinstance(bound, Split):
        bound = bound.model
    K = weights.num_particles if num_particles is None else num_particles
    if not 1 <= K <= weights.num_particles:
        raise ValueError(f"`num_particles` is {K}, expected 1 to {weights.num_particles}, the draws in `weights`")
    groups = weights.num_particles // K
    weights = weights.map(lambda v: _fold(v, K, groups))
    values = bound(weights)
    check_value(bound, values, weights.num_data)
    if groups > 1:
        values = values.reshape(groups, -1)
        return _student(values.mean(0), values.std(0) / math.sqrt(groups), groups - 1, level)
    if K == 1:
        return _student(values, torch.full_like(values, math.nan), 1, level)
    if isinstance(bound, MIWAE) and bound.groups > 1:  # it is such a mean itself, and knows its groups
        return estimate(IWAE(), weights, K // bound.groups, level=level)
    if guarantee_of(bound) == "limit" and weights.source == "guide":  # a chain's draws resemble each other
        again = bootstrap(bound, weights)
        ends = torch.tensor([(1 - level) / 2, (1 + level) / 2]).to(again)
        return Estimate(values, again.std(0), *again.quantile(ends, 0))
    return _student(values, _jackknife(bound, weights), min(K, SECTIONS) - 1, level)


def bootstrap(bound: Bound, weights: Weights, *, resamples: int = 200, seed: int = 0) -> Tensor:
    """The bound of draws drawn again with replacement, `(resamples, n)`: quantiles of a column are an interval.

    The same draws are taken for all data.
    """
    generator = torch.Generator().manual_seed(seed)
    K = weights.num_particles
    return _resampled(bound, weights, list(torch.randint(K, (resamples, K), generator=generator)))


def _resampled(bound: Bound, weights: Weights, choices: Sequence[Tensor]) -> Tensor:
    """The bound of each choice of draws, `(choices, n)`; a bound that knows a quick way has a method `resampled`."""
    device, K = weights.log_p.device, weights.num_particles
    if resampled := getattr(bound, "resampled", None):
        counts = torch.stack([choice.bincount(minlength=K) for choice in choices])
        found: Tensor = resampled(weights.log_w, counts.to(weights.log_p))
        if bool(found.isfinite().all()):  # else one has only draws whose weight underflows beside the largest
            return found
    there = (rows.to(device) for rows in choices)
    return torch.stack([bound(weights.map(lambda v, rows=rows: v[rows])) for rows in there])


def _student(value: Tensor, error: Tensor, degrees: int, level: float) -> Estimate:
    """An interval by an error that has been told from so many more groups than one."""
    reach = error * float(student_t.ppf((1 + level) / 2, degrees))
    return Estimate(value, error, value - reach, value + reach)


def _fold(v: Tensor, K: int, groups: int) -> Tensor:
    """Put groups of K draws beside the data: `(K, groups * n)`."""
    if groups == 1:
        return v[:K]
    return v[: K * groups].reshape(groups, K, v.shape[1]).transpose(0, 1).reshape(K, groups * v.shape[1])


def _jackknife(bound: Bound, weights: Weights) -> Tensor:
    K = weights.num_particles
    parts = torch.arange(K).tensor_split(min(K, SECTIONS))
    values = _resampled(bound, weights, [torch.cat([p for p in parts if p is not part]) for part in parts])
    return values.std(0, correction=0) * math.sqrt(len(parts) - 1)
