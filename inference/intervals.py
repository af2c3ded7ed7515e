r"""Intervals that hold together: for every row of a table at once, and for the bracket that the rows make."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

__all__ = ["check_level", "critical_value", "one_sided"]


def check_level(level: float) -> None:
    """A level is a probability, not a percentage."""
    if not 0 < level < 1:
        raise ValueError(f"`level` is {level}, expected a probability between 0 and 1, such as 0.95")


def critical_value(values: Tensor, level: float, *, draws: int = 50_000) -> float:
    r"""How many standard errors each row's mean must be given for all rows to be covered at once.

    .. math:: P(\max_r |T_r| \le c) = \text{level}, \qquad T \sim t_{n-1}(0, R)

    R is the correlation of the rows over the data: bounds of the same data on the same draws err together, so c is less
    than Bonferroni's.

    Args:
        values: one row per bound, `(rows, n)`.
        level: the probability that all are covered.
        draws: of T; the seed is fixed, so that a table is the same each time.

    >>> shared = torch.randn(1, 1000)
    >>> alone, together = critical_value(shared, 0.95), critical_value(shared.expand(9, -1), 0.95)
    >>> abs(alone - together) < 0.1 and abs(alone - 1.96) < 0.03
    True
    """
    rows = values.detach().double().cpu()
    if rows.shape[1] < 2:
        return math.nan
    correlation = torch.corrcoef(rows).reshape(len(rows), len(rows)).nan_to_num(0.0)  # a constant row errs with none
    correlation *= 1 - min(
        1.0, (2 * len(rows) / rows.shape[1]) ** 2
    )  # few data make rows look more alike than they are
    correlation.fill_diagonal_(1.0)
    length, axes = torch.linalg.eigh(correlation)
    noise = torch.randn(draws, len(rows), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = noise @ (axes * length.clamp_min(0).sqrt()).T  # (draws, rows)
    degrees = rows.shape[1] - 1
    spread = torch.from_numpy(np.random.default_rng(0).chisquare(degrees, draws)).div(degrees).sqrt()
    return float((z.abs().amax(1) / spread).quantile(level))


def one_sided(level: float, among: int) -> float:
    """Standard errors to allow on one side, so that none of `among` normal estimates lies beyond (Bonferroni)."""
    return NormalDist().inv_cdf(1 - (1 - level) / among)
