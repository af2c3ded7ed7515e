r"""Precision and recall of samples: how many look like data, and how much of the data the samples reach.

Each set covers the balls around its members that reach to their k-th nearest neighbour in the set. Precision is the
share of samples in the region that the data cover, recall the share of data in the region that the samples cover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from inference.display import fragment
from inference.samples.distances import as_rows, check_chunk, distance_blocks

__all__ = ["PrecisionRecall", "precision_recall"]

SLACK = 1 + 1e-9
"""A point on the edge of a ball is in it, whatever rounding says."""


@dataclass(frozen=True)
class PrecisionRecall:
    """Shares of samples that the data cover, and of data that the samples cover.

    Attributes:
        precision: share of the samples.
        recall: share of the data.
        k: the neighbour that a ball reaches to.
        num_samples: S.
        num_data: n.
    """

    precision: float
    recall: float
    k: int
    num_samples: int
    num_data: int

    @property
    def precision_se(self) -> float:
        """Binomial, over the samples, the data's region held fixed."""
        return math.sqrt(self.precision * (1 - self.precision) / self.num_samples)

    @property
    def recall_se(self) -> float:
        """Binomial, over the data, the samples' region held fixed."""
        return math.sqrt(self.recall * (1 - self.recall) / self.num_data)

    def to_frame(self) -> pd.DataFrame:
        """One row each."""
        rows = [("precision", self.precision, self.precision_se), ("recall", self.recall, self.recall_se)]
        return pd.DataFrame(rows, columns=["measure", "value", "se"])

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.3f} ± {self.precision_se:.3f}, recall {self.recall:.3f} ± "
            f"{self.recall_se:.3f} ({self._sizes()})"
        )

    def _repr_html_(self) -> str:
        return fragment(f"precision and recall: {self._sizes()}", self.to_frame())

    def _sizes(self) -> str:
        return f"k = {self.k}, {self.num_samples} samples, {self.num_data} data"


def precision_recall(samples: Tensor, data: Tensor, *, k: int = 3, chunk: int | None = None) -> PrecisionRecall:
    r"""Measure how far the supports of samples and data cover each other, by nearest neighbours.

    .. math:: \text{precision} = \frac1S \sum_s \mathbb{1}\big[\exists i: |x_s - y_i| \le r_k(y_i)\big], \qquad
        \text{recall} = \frac1n \sum_i \mathbb{1}\big[\exists s: |y_i - x_s| \le r_k(x_s)\big]

    with :math:`r_k` the distance to the k-th nearest other member of the same set. Both grow with the sizes of the sets
    and with k, so compare at equal ones. Neither is 1 for samples of the data's own law: that of more data is the mark.

    Args:
        samples: `(S, d)`.
        data: `(n, d)`; the paper takes as many as there are samples, in the features of a network.
        k: the neighbour that a ball reaches to.
        chunk: rows at a time; by default as many as keep memory bounded.

    Raises:
        TypeError: the samples or the data are no tensors of floats.
        ValueError: one is not finite or of another width, or has no k neighbours.

    References:
        Kynkäänniemi, Karras, Laine, Lehtinen and Aila, *Improved Precision and Recall Metric for Assessing Generative
        Models*, 2019, arXiv 1904.06991.

    >>> data = torch.linspace(0, 10, 11).unsqueeze(1)
    >>> print(precision_recall(data[:6] + 0.1, data, k=1))
    precision 1.000 ± 0.000, recall 0.636 ± 0.145 (k = 1, 6 samples, 11 data)
    """
    x, y = as_rows(samples=samples, data=data)
    for name, rows in (("samples", x), ("data", y)):
        if not 1 <= k < len(rows):
            raise ValueError(
                f"`k` is {k}, expected a neighbour from 1 to {len(rows) - 1}, those that a row of `{name}` has"
            )
    check_chunk(chunk)
    precision = float(_covered(x, y, k, chunk).double().mean())
    recall = float(_covered(y, x, k, chunk).double().mean())
    return PrecisionRecall(precision, recall, k, len(x), len(y))


def _covered(points: Tensor, centres: Tensor, k: int, chunk: int | None) -> Tensor:
    """Whether each point is in a ball around any of the centres, `(n,)`."""
    blocks = distance_blocks(centres, centres, chunk)
    radii = torch.cat([squared.kthvalue(k + 1, 1)[0] for squared in blocks]) * SLACK  # (S,), itself is the first
    return torch.cat([(squared <= radii).any(1) for squared in distance_blocks(points, centres, chunk)])
