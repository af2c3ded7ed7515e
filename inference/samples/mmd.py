r"""Maximum mean discrepancy: how far apart two laws are, by samples of both alone, with a test that they are the same.

.. math:: \mathrm{MMD}^2 = \mathbb{E}\, k(x, x') + \mathbb{E}\, k(y, y') - 2\, \mathbb{E}\, k(x, y), \qquad
    k(x, y) = \sum_q \exp\!\Big(-\frac{|x - y|^2}{2 s_q^2}\Big)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import pdist

from inference.display import fragment
from inference.samples.distances import as_rows, check_chunk, distance_blocks, subset
from inference.seeds import stream

__all__ = ["MMD", "mmd"]

MULTIPLES = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths by default, in units of the median distance."""

MOST_FOR_MEDIAN = 2000
"""Rows whose distances the median is taken of, at most."""

TIE = 1e-12
"""A relabelling that differs by no more than rounding is a tie, which counts against the samples."""


@dataclass(frozen=True, eq=False)
class MMD:
    """A squared maximum mean discrepancy; below zero by chance where the laws are the same.

    Attributes:
        value: the unbiased estimate.
        se: its standard error over both sets; on the large side, up to a factor of 1.5, where the laws are the same.
        p_value: share of the relabellings, the true one among them, with a value as large; uniform if the laws are one.
        bandwidths: of the kernels, in the units of the data.
        null: the values of the relabellings, `(permutations,)`.
        num_samples: S.
        num_data: n.
    """

    value: float
    se: float
    p_value: float
    bandwidths: tuple[float, ...]
    null: Tensor
    num_samples: int
    num_data: int

    def to_frame(self) -> pd.DataFrame:
        """One row."""
        return pd.DataFrame([{"MMD^2": self.value, "se": self.se, "p_value": self.p_value}])

    def __str__(self) -> str:
        return f"MMD^2 {self.value:.3g} ± {self.se:.2g}, p = {self.p_value:.3g} ({self._sizes()})"

    def _repr_html_(self) -> str:
        widths = ", ".join(f"{width:.3g}" for width in self.bandwidths)
        return fragment(f"MMD^2: {self._sizes()}", self.to_frame(), [f"Gaussian kernels of bandwidths {widths}"])

    def _sizes(self) -> str:
        return f"{self.num_samples} samples, {self.num_data} data, {len(self.null)} permutations"


def mmd(
    samples: Tensor,
    data: Tensor,
    *,
    bandwidths: Sequence[float] | None = None,
    permutations: int = 1000,
    seed: int = 0,
    chunk: int | None = None,
) -> MMD:
    r"""Estimate the squared MMD without bias, by the U-statistic, and test by permutations whether it is zero.

    .. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{S (S - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{n (n - 1)}
        - \frac{2 \sum_{i, j} k(x_i, y_j)}{S n}

    The p-value is (1 + the relabellings whose value is no smaller) / (1 + all), which is valid for any sizes. With N
    rows in both sets and P permutations, time grows as N^2 (P + d), memory as N P.

    Args:
        samples: `(S, d)`.
        data: `(n, d)`, that the samples are not made from.
        bandwidths: of the kernels that are summed, in the units of the data; by default 1/4, 1/2, 1, 2 and 4 times the
            median distance between the rows of both sets.
        permutations: relabellings; 0 for no test (the p-value is then 1).
        seed: of the relabellings, and of the rows that the median is taken of if there are more than 2,000.
        chunk: rows at a time; by default as many as keep memory bounded.

    Raises:
        TypeError: the samples or the data are no tensors of floats.
        ValueError: one has fewer than two rows, is not finite or of another width, or a number is out of range.

    References:
        Gretton, Borgwardt, Rasch, Schölkopf and Smola, *A Kernel Two-Sample Test*, 2012, Journal of Machine Learning
        Research 13.

    >>> x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    >>> mmd(x[:100], x[100:]).p_value > 0.05, mmd(x[:100], x[100:] + 1).p_value
    (True, 0.000999...)
    """
    x, y = as_rows(samples=samples, data=data)
    for name, rows in (("samples", x), ("data", y)):
        if len(rows) < 2:
            raise ValueError(f"`{name}` has one row, expected at least 2: the estimate is of pairs")
    if permutations < 0:
        raise ValueError(f"`permutations` is {permutations}, expected how many relabellings are tried, from 0")
    check_chunk(chunk)
    pooled, S, n = torch.cat([x.double(), y.double()]), len(x), len(y)  # (S + n, d)
    widths = _widths(bandwidths, pooled, seed)
    labels = _labels(S, n, permutations, seed).to(pooled)  # (S + n, 1 + P)
    within, near, all_near = _kernel_sums(pooled, labels, widths, chunk)
    values = _u_statistic(within, all_near @ labels, all_near.sum(), S, n, len(widths))  # (1 + P,)
    beaten = (values[1:] >= values[0] - TIE * len(widths)).sum()
    return MMD(
        value=float(values[0]),
        se=_standard_error(near, all_near, S, len(widths)),
        p_value=float((1 + beaten) / (1 + permutations)),
        bandwidths=tuple(widths),
        null=values[1:],
        num_samples=S,
        num_data=n,
    )


def _widths(given: Sequence[float] | None, pooled: Tensor, seed: int) -> list[float]:
    """The bandwidths as given, or multiples of the median distance between rows of either set."""
    if given is None:
        median = float(pdist(subset(pooled, MOST_FOR_MEDIAN, stream(seed, "median"))).median())
        if not median:
            raise ValueError("`bandwidths` cannot be found: most rows are equal, their median distance is 0; give them")
        return [multiple * median for multiple in MULTIPLES]
    widths = [float(width) for width in given]
    wrong = [width for width in widths if not 0 < width < math.inf]
    if wrong or not widths:
        got = f"holds {wrong[0]}" if wrong else "is empty"
        raise ValueError(f"`bandwidths` {got}, expected positive numbers in the units of the data: or leave it out")
    return widths


def _labels(S: int, n: int, permutations: int, seed: int) -> Tensor:
    """One for a row that counts as a sample, else zero: as it is, then by relabelling, `(S + n, 1 + P)`."""
    generator = torch.Generator().manual_seed(stream(seed, "permutations"))
    labels = torch.zeros(1 + permutations, S + n, dtype=torch.bool)
    labels[0, :S] = True
    for row in labels[1:]:
        row[torch.randperm(S + n, generator=generator)[:S]] = True
    return labels.mT


def _kernel_sums(
    pooled: Tensor, labels: Tensor, widths: Sequence[float], chunk: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Sums of the kernel :math:`k_{ij}` with labels :math:`a_{jp}`, a block of rows i at a time.

    Returns:
        :math:`\sum_{ij} a_{ip} k_{ij} a_{jp}` by relabelling, `(1 + P,)`; and of each row :math:`\sum_j k_{ij} a_{j0}`
        and :math:`\sum_j k_{ij}`, `(S + n,)`.
    """
    within, near, all_near, start = torch.zeros_like(labels[0]), [], [], 0
    for squared in distance_blocks(pooled, pooled, chunk):  # (rows, S + n)
        kernel = torch.zeros_like(squared)
        for width in widths:
            kernel += (squared / (-2 * width**2)).exp()
        sums = kernel @ labels  # (rows, 1 + P)
        within += (labels[start : start + len(sums)] * sums).sum(0)
        near.append(sums[:, 0])
        all_near.append(kernel.sum(1))
        start += len(sums)
    return within, torch.cat(near), torch.cat(all_near)


def _u_statistic(xx: Tensor, x_all: Tensor, total: Tensor, S: int, n: int, diagonal: float) -> Tensor:
    """From sums over pairs: of samples, of samples with all rows, of all rows; a row with itself is taken out."""
    xy = x_all - xx
    yy = total - x_all - xy
    return (xx - S * diagonal) / (S * (S - 1)) + (yy - n * diagonal) / (n * (n - 1)) - 2 * xy / (S * n)


def _standard_error(near: Tensor, all_near: Tensor, S: int, diagonal: float) -> float:
    r"""Of the first-order part, :math:`4 \operatorname{Var}(h_x) / S + 4 \operatorname{Var}(h_y) / n` (Hoeffding).

    :math:`h` of a row is its mean kernel with the other rows of its set less that with the rows of the other set.
    """
    n, far = len(near) - S, all_near - near
    h_x = (near[:S] - diagonal) / (S - 1) - far[:S] / n  # (S,)
    h_y = (far[S:] - diagonal) / (n - 1) - near[S:] / S  # (n,)
    return float((4 * h_x.var() / S + 4 * h_y.var() / n).sqrt())
