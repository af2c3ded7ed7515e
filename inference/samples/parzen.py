r"""Parzen scores: the mean log density of test data under a Gaussian window on every sample, beside its two anchors.

It is the oldest score of models that can only be sampled, and it rewards memorisation: on grey MNIST, 10,000 images of
the training set in the place of samples score 243 nats, and 10,000 centroids of it, which are no images that anybody
wrote, score 335. So both are always measured beside the samples, by the same protocol.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from inference.display import fragment
from inference.samples.centroids import k_means
from inference.samples.distances import as_rows, check_chunk, subset
from inference.samples.windows import log_density, widths_of
from inference.seeds import stream

__all__ = ["ParzenReport", "ParzenScore", "parzen"]

SIGMAS = tuple(10 ** (-1 + i / 9) for i in range(10))
"""The protocol's ten widths, spaced evenly in the logarithm from 0.1 to 1."""

WARNING = (
    "a score above that of real training data rewards memorisation (centroids of the data have it): it is no evidence "
    "of a better model"
)


@dataclass(frozen=True, eq=False)
class ParzenScore:
    """What one set of samples scores.

    Attributes:
        of: what the windows stand on.
        num_samples: S.
        sigma: the width chosen on the validation data.
        edge: whether that is the "smallest" or the "largest" of those tried, or neither, "".
        log_p: log density of each test datum in nats, `(n,)`.
    """

    of: str
    num_samples: int
    sigma: float
    edge: str
    log_p: Tensor

    @property
    def value(self) -> float:
        """Mean over the test data, nats per datum."""
        return float(self.log_p.mean())

    @property
    def se(self) -> float:
        """Standard error of `value` over the test data."""
        return float(self.log_p.std() / math.sqrt(len(self.log_p)))


@dataclass(frozen=True, eq=False)
class ParzenReport:
    """Parzen scores of samples and of their two anchors.

    Attributes:
        samples: what is judged.
        real: the first anchor, training data in the place of samples.
        centroids: the second, k-means centroids of the training data.
    """

    samples: ParzenScore
    real: ParzenScore
    centroids: ParzenScore

    @property
    def rows(self) -> tuple[ParzenScore, ParzenScore, ParzenScore]:
        """The samples, then the anchors."""
        return self.samples, self.real, self.centroids

    @property
    def value(self) -> float:
        """Of the samples, nats per datum."""
        return self.samples.value

    @property
    def se(self) -> float:
        """Standard error of `value` over the test data."""
        return self.samples.se

    @property
    def gap(self) -> tuple[float, float]:
        """How far the samples are above real training data, with its standard error over the same test data."""
        difference = self.samples.log_p - self.real.log_p
        return float(difference.mean()), float(difference.std() / math.sqrt(len(difference)))

    def notes(self) -> tuple[str, ...]:
        """What must be known to read the scores, a sentence each."""
        edges = [
            f"sigma of {row.of} is the {row.edge} of those tried ({row.sigma:.3g}), and a better one may lie outside: "
            "widen `sigmas`"
            for row in self.rows
            if row.edge
        ]
        counts = {row.num_samples for row in self.rows}
        fewer = "the anchors stand on fewer windows than the samples, which holds them down: raise `max_anchors`"
        return (*edges, *[fewer] * (len(counts) > 1), WARNING)

    def to_frame(self) -> pd.DataFrame:
        """One row each: nats per datum with the standard error over the test data."""
        rows = [(row.of, row.value, row.se, row.sigma, row.num_samples) for row in self.rows]
        return pd.DataFrame(rows, columns=["windows on", "log_p", "se", "sigma", "windows"])

    def __str__(self) -> str:
        rows = [
            f"  {row.of:<24}{row.value:>10.1f} ± {row.se:.1f}  (sigma {row.sigma:.3g}, {row.num_samples} windows)"
            for row in self.rows
        ]
        return "\n".join([self._headline(), *rows, *(f"  {note}" for note in self.notes())])

    def _repr_html_(self) -> str:
        return fragment(self._headline(), self.to_frame(), self.notes())

    def _headline(self) -> str:
        return f"Parzen windows: nats per datum, {len(self.samples.log_p)} test data"


def parzen(
    samples: Tensor,
    *,
    train: Tensor,
    validation: Tensor,
    test: Tensor,
    sigmas: Sequence[float] = SIGMAS,
    num_validation: int = 1000,
    max_anchors: int = 10_000,
    lloyd_steps: int = 4,
    seed: int = 0,
    chunk: int | None = None,
) -> ParzenReport:
    """Score samples by Parzen windows on test data, beside real training data and beside their centroids.

    The protocol of the paper: the width is the one of ten with the best mean on the first 1,000 validation data, the
    score is the mean over the test data, of 10,000 samples. Each anchor has as many windows as there are samples (as
    far as the training data go) and a width of its own, chosen alike.

    Args:
        samples: `(S, d)`.
        train: data to take the anchors from, `(n_train, d)`.
        validation: data to choose widths on, `(n_validation, d)`.
        test: data to score on, `(n, d)`.
        sigmas: the widths to choose from, in the units of the data.
        num_validation: how many validation data are read, from the first.
        max_anchors: windows of an anchor at most.
        lloyd_steps: of the k-means that makes the centroids.
        seed: of the choice of training data and of the centroids' start.
        chunk: data at a time; by default as many as keep memory bounded.

    Raises:
        TypeError: a set of data is no tensor of floats.
        ValueError: one is empty, not finite or of another width, or a number is out of range.

    References:
        Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair, Courville and Bengio, *Generative Adversarial
        Networks*, 2014, arXiv 1406.2661. Breuleux, Bengio and Vincent, *Quickly Generating Representative Samples from
        an RBM-Derived Process*, 2011, Neural Computation 23. Theis, van den Oord and Bethge, *A note on the evaluation
        of generative models*, 2016, arXiv 1511.01844, which shows what is wrong with it.

    >>> import torch
    >>> x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    >>> found = parzen(x[300:], train=x[:100], validation=x[100:200], test=x[200:300])
    >>> [row.num_samples for row in found.rows]
    [100, 100, 100]
    """
    windows, known, chosen_on, x = as_rows(samples=samples, train=train, validation=validation, test=test)
    if num_validation < 1 or max_anchors < 1:
        name, value = ("num_validation", num_validation) if num_validation < 1 else ("max_anchors", max_anchors)
        raise ValueError(f"`{name}` is {value}, expected at least 1")
    if len(x) < 2:
        raise ValueError("`test` has one row, expected at least 2: a mean needs a standard error")
    widths, chosen_on, S = widths_of("sigmas", sigmas), chosen_on[:num_validation], len(windows)
    check_chunk(chunk)
    K = min(S, len(known), max_anchors)
    real = subset(known, K, stream(seed, "real anchor"))
    centroids = k_means(known, K, steps=lloyd_steps, seed=stream(seed, "centroids"), chunk=chunk)
    sets = {"samples": windows, "real training data": real, "k-means centroids": centroids}
    return ParzenReport(*(_score(name, rows, chosen_on, x, widths, chunk) for name, rows in sets.items()))


def _score(
    name: str, windows: Tensor, validation: Tensor, test: Tensor, sigmas: Sequence[float], chunk: int | None
) -> ParzenScore:
    """Choose the width on the validation data, then score the test data."""
    best = int(log_density(windows, validation, sigmas, chunk).mean(1).argmax())
    edge = {0: "smallest", len(sigmas) - 1: "largest"}.get(best, "")
    log_p = log_density(windows, test, sigmas[best : best + 1], chunk)[0]
    return ParzenScore(name, len(windows), sigmas[best], edge, log_p)
