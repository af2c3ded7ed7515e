r"""Does a model repeat its training data? Whether samples are nearer to them than held-out data are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from inference.display import fragment
from inference.samples.distances import as_rows, check_chunk, nearest_rows

__all__ = ["NearestTraining", "nearest_training"]


@dataclass(frozen=True, eq=False)
class NearestTraining:
    """Samples and held-out data, each with its nearest training datum.

    Attributes:
        distance: of each sample to its nearest training datum, `(S,)`.
        index: which training datum that is, `(S,)`.
        test_distance: of each held-out datum, `(n,)`.
        test_index: of each held-out datum, `(n,)`.
        nearer: probability that a sample is nearer to the training data than a held-out datum is (Mann-Whitney); half
            if both have one law, towards 1 for copies.
        nearer_se: its standard error over samples and held-out data.
        p_value: of `nearer` being so large or larger by chance, were both of one law.
    """

    distance: Tensor
    index: Tensor
    test_distance: Tensor
    test_index: Tensor
    nearer: float
    nearer_se: float
    p_value: float

    @property
    def median(self) -> float:
        """Of the samples' distances."""
        return float(self.distance.median())

    @property
    def test_median(self) -> float:
        """Of the held-out data's distances."""
        return float(self.test_distance.median())

    @property
    def copies(self) -> int:
        """Samples that equal a training datum."""
        return int((self.distance == 0).sum())

    def pairs(self, num: int) -> tuple[Tensor, Tensor]:
        """The samples nearest to training data, by index, and which those are: two rows of a picture, `(num,)` each."""
        order = self.distance.argsort(stable=True)[:num]
        return order, self.index[order]

    def to_frame(self) -> pd.DataFrame:
        """One row each: samples and held-out data."""
        sets = {"samples": self.distance, "held-out data": self.test_distance}
        rows = [(of, len(d), float(d.min()), float(d.median()), float(d.max())) for of, d in sets.items()]
        return pd.DataFrame(rows, columns=["of", "number", "least", "median", "largest"])

    def __str__(self) -> str:
        return (
            f"distance to the nearest training datum: median {self.median:.4g} of {len(self.distance)} samples, "
            f"{self.test_median:.4g} of {len(self.test_distance)} held-out data; {self._finding()}"
        )

    def _repr_html_(self) -> str:
        return fragment("distance to the nearest training datum", self.to_frame(), [self._finding()])

    def _finding(self) -> str:
        copied = f"; {self.copies} samples equal a training datum" if self.copies else ""
        share = f"{self.nearer:.3f} ± {self.nearer_se:.3f} (p = {self.p_value:.3g})"
        return f"a sample is nearer with probability {share}{copied}"


def nearest_training(samples: Tensor, train: Tensor, test: Tensor, *, chunk: int | None = None) -> NearestTraining:
    r"""Compare the distances of samples to their nearest training datum with those of held-out data.

    .. math:: P\big(d(x) < d(y)\big) + \tfrac12 P\big(d(x) = d(y)\big), \qquad d(x) = \min_i |x - x_i|

    with x a sample, y a held-out datum and :math:`x_i` the training data.

    Well above half: samples are copies, or too tame (averages of data are near to all of them): look at the pairs. Well
    below: they are off the data altogether. In the distance of pixels, a copy that is moved by one looks new.

    Args:
        samples: `(S, d)`.
        train: what the model has learned from, `(n_train, d)`.
        test: what it has not, of the same law, `(n, d)`.
        chunk: rows at a time; by default as many as keep memory bounded.

    Raises:
        TypeError: a set of data is no tensor of floats.
        ValueError: one is empty, not finite or of another width, or has one row where a standard error needs two.

    References:
        Mann and Whitney, *On a Test of Whether one of Two Random Variables is Stochastically Larger than the Other*,
        1947, Annals of Mathematical Statistics 18.

    >>> train = torch.linspace(0, 1, 11).unsqueeze(1)
    >>> print(nearest_training(train[:5], train, train[:5] + 0.05))
    distance to the nearest training datum: median 0 of 5 samples, 0.05 of 5 held-out data; a sample is nearer with
        probability 1.000 ± 0.000 (p = 0.00...); 5 samples equal a training datum
    """
    x, known, held_out = as_rows(samples=samples, train=train, test=test)
    for name, rows in (("samples", x), ("test", held_out)):
        if len(rows) < 2:
            raise ValueError(f"`{name}` has one row, expected at least 2: a probability needs a standard error")
    check_chunk(chunk)
    index, test_index = (nearest_rows(rows, known.double(), chunk) for rows in (x, held_out))
    distance, test_distance = ((a - known[i]).double().norm(dim=1) for a, i in ((x, index), (held_out, test_index)))
    nearer, se = _probability(distance, test_distance)
    test_of = mannwhitneyu(test_distance.cpu().numpy(), distance.cpu().numpy(), alternative="greater")
    return NearestTraining(distance, index, test_distance, test_index, nearer, se, float(test_of.pvalue))


def _probability(a: Tensor, b: Tensor) -> tuple[float, float]:
    """P(a < b) + P(a = b) / 2 over all pairs, and the root of Var(u_a) / S + Var(u_b) / n.

    Here `u_a` is the share of the other set that is above a member of a, a tie counting half.
    """
    u_a, u_b = 1 - _share_below(a, b), _share_below(b, a)  # (S,), (n,)
    return float(u_a.mean()), math.sqrt(float(u_a.var() / len(a) + u_b.var() / len(b)))


def _share_below(of: Tensor, others: Tensor) -> Tensor:
    """Of the others, how many are below each, a tie counting half, as a share."""
    ordered, _ = others.sort()
    below = torch.searchsorted(ordered, of) + torch.searchsorted(ordered, of, right=True)
    return below.double() / (2 * len(others))
