r"""Whether chains agree: split R-hat with ranks in the place of values, many quantities at once.

References:
    Vehtari, Gelman, Simpson, Carpenter and Bürkner, *Rank-Normalization, Folding, and Localization: An Improved R-hat
    for Assessing Convergence of MCMC*, 2021, arXiv 1903.08008.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["rhat"]


def rhat(draws: Tensor) -> Tensor:
    """The larger of bulk and tail R-hat of S draws in each of C chains, `(C, S, n)` to `(n,)`.

    Each chain is split in two, so that one chain too can disagree with itself. NaN with fewer than four draws, or where
    a draw is not finite.

    >>> bool((rhat(torch.randn(4, 100, 3)) < 1.1).all())
    True
    """
    C, S, n = draws.shape
    if S < 4:
        return draws.new_full((n,), math.nan)
    half = S // 2
    split = torch.cat([draws[:, :half], draws[:, S - half :]])  # (2C, S // 2, n)
    centre = split.flatten(0, 1).sort(0).values[C * half - 1 : C * half + 1].mean(0)  # the median of an even number
    found = torch.maximum(_of_ranks(split), _of_ranks((split - centre).abs()))
    return found.where(draws.isfinite().all(0).all(0), math.nan)


def _of_ranks(draws: Tensor) -> Tensor:
    C, S, n = draws.shape
    flat = draws.flatten(0, 1)
    ranks = (_below(flat) + 1 + flat.shape[0] - _below(-flat)) / 2  # ties share the mean of their ranks
    scores = torch.special.ndtri((ranks - 0.375) / (C * S + 0.25)).view(C, S, n)
    within = scores.var(1).mean(0)
    between = scores.mean(1).var(0)
    found: Tensor = ((S - 1) / S + between / within).sqrt()
    return found


def _below(flat: Tensor) -> Tensor:
    """How many values of the same column are less, `(N, n)`."""
    columns = flat.T.contiguous()
    return torch.searchsorted(columns.sort(-1).values, columns).T.double()
