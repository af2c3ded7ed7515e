r"""Everything that samples say about a model, in one table, each number beside what the data themselves would have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import pandas as pd
import torch
from torch import Tensor

from inference.display import fragment
from inference.samples.classifier import train_classifier
from inference.samples.distances import as_rows, subset
from inference.samples.labels import LabelStatistics, Probabilities, class_labels, label_statistics
from inference.samples.memorisation import NearestTraining, nearest_training
from inference.samples.mmd import MMD, mmd
from inference.samples.parzen import ParzenReport, parzen
from inference.samples.precision import PrecisionRecall, precision_recall
from inference.seeds import seeded, stream

__all__ = ["SampleReport", "judge_samples"]

Sampler: TypeAlias = Callable[..., Tensor]

COLUMNS = ["measure", "value", "se", "mark", "compared with"]


@dataclass(frozen=True, eq=False)
class SampleReport:
    """What samples say about a model.

    Attributes:
        parzen: log density by Parzen windows, with both anchors.
        mmd: squared maximum mean discrepancy from test data.
        precision_recall: against test data.
        real: the same of training data, as many, in the place of the samples: the mark to reach.
        nearest: whether the samples repeat the training data.
        labels: the classes of the samples; `None` without labels.
    """

    parzen: ParzenReport
    mmd: MMD
    precision_recall: PrecisionRecall
    real: PrecisionRecall
    nearest: NearestTraining
    labels: LabelStatistics | None = None

    def to_frame(self) -> pd.DataFrame:
        """One row per measure: its value, its standard error, and its mark: a number, and in words."""
        real, centroids, found, mark = self.parzen.real, self.parzen.centroids, self.precision_recall, self.real
        anchors = f"{real.value:.1f} of real training data, {centroids.value:.1f} of k-means centroids"
        same = f"0 if the laws are the same: p = {self.mmd.p_value:.3g}"
        nearer = f"0.5 of new data: p = {self.nearest.p_value:.3g} for more"
        rows = [
            ("Parzen log density, nats", self.parzen.value, self.parzen.se, real.value, anchors),
            ("MMD^2", self.mmd.value, self.mmd.se, 0.0, same),
            (
                "precision",
                found.precision,
                found.precision_se,
                mark.precision,
                f"{mark.precision:.3f} of real training data",
            ),
            ("recall", found.recall, found.recall_se, mark.recall, f"{mark.recall:.3f} of real training data"),
            ("nearer to training data", self.nearest.nearer, self.nearest.nearer_se, 0.5, nearer),
        ]
        return pd.DataFrame([*rows, *self._label_rows()], columns=COLUMNS)

    def _label_rows(self) -> list[tuple[str, float, float, float, str]]:
        found = self.labels
        if found is None:
            return []
        entropy, chance, right = found.reference_entropy, found.tv_by_chance, found.accuracy
        return [
            ("label entropy, nats", found.entropy, found.entropy_se, entropy, f"{entropy:.3f} of the data"),
            ("total variation of labels", found.tv, found.tv_se, chance, f"{chance:.3f} by chance"),
            ("mean confidence", found.confidence, found.confidence_se, right, f"classifier: {right:.3f} accuracy"),
        ]

    def __str__(self) -> str:
        rows = [
            f"  {measure:<28}{value:>10.4g} ± {se:<9.2g} ({mark})"
            for measure, value, se, _, mark in self.to_frame().itertuples(index=False)
        ]
        return "\n".join([self._headline(), *rows, *(f"  {note}" for note in self.parzen.notes())])

    def _repr_html_(self) -> str:
        return fragment(self._headline(), self.to_frame(), self.parzen.notes())

    def _headline(self) -> str:
        return f"{self.parzen.samples.num_samples} samples against {len(self.parzen.samples.log_p)} test data"


def judge_samples(
    samples: Tensor | Sampler,
    *,
    train: Tensor,
    validation: Tensor,
    test: Tensor,
    labels: Tensor | None = None,
    classifier: Probabilities | None = None,
    num_samples: int = 10_000,
    most_for_mmd: int = 2000,
    permutations: int = 1000,
    k: int = 3,
    seed: int = 0,
    chunk: int | None = None,
) -> SampleReport:
    """Judge a model by its samples alone: Parzen windows, MMD, precision and recall, memorisation, labels.

    Args:
        samples: `(S, d)`, or what draws them when called with `n=num_samples`, an implicit model as it is.
        train: what the model has learned from, `(n_train, d)`.
        validation: data to choose widths of windows on.
        test: data to compare with, `(n, d)`.
        labels: of the training data, whole numbers, `(n_train,)`, for statistics of labels.
        classifier: anything with `predict_proba`, which takes `labels` too; by default one is trained on `train`.
        num_samples: how many are drawn, where `samples` is a sampler.
        most_for_mmd: samples and test data that the MMD sees, at most; its time grows with their square.
        permutations: of the MMD's test.
        k: the neighbour for precision and recall.
        seed: of everything that is drawn.
        chunk: rows at a time; by default as many as keep memory bounded.

    Raises:
        TypeError: a set of data is no tensor of floats, or the sampler returns none.
        ValueError: one is empty, not finite or of another width, or a number is out of range.

    >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    >>> found = judge_samples(lambda n: torch.randn(n, 2), num_samples=100, train=x[:100], validation=x[100:200],
    ...     test=x[200:], permutations=99)
    >>> found.to_frame()["measure"].tolist()
    ['Parzen log density, nats', 'MMD^2', 'precision', 'recall', 'nearer to training data']
    """
    if classifier is not None and labels is None:
        raise ValueError(
            "`labels` is None, expected those of the training data: the classifier's are compared with them"
        )
    drawn = samples if isinstance(samples, Tensor) else _draw(samples, num_samples, train, seed)
    x, known, held_out = as_rows(samples=drawn, train=train, test=test)
    if labels is not None and len(class_labels("labels", labels)) != len(known):
        raise ValueError(f"`labels` has {len(labels)} labels, expected {len(known)}, one for each row of `train`")
    few, few_held_out = (subset(rows, most_for_mmd, stream(seed, "mmd")) for rows in (x, held_out))
    real = subset(known, len(x), stream(seed, "real anchor"))
    found = None
    if labels is not None:
        judge = train_classifier(known, labels, seed=seed) if classifier is None else classifier
        found = label_statistics(x, judge, labels)
    return SampleReport(
        parzen=parzen(x, train=known, validation=validation, test=held_out, seed=seed, chunk=chunk),
        mmd=mmd(few, few_held_out, permutations=permutations, seed=seed, chunk=chunk),
        precision_recall=precision_recall(x, held_out, k=k, chunk=chunk),
        real=precision_recall(real, held_out, k=k, chunk=chunk),
        nearest=nearest_training(x, known, held_out, chunk=chunk),
        labels=found,
    )


def _draw(sampler: Sampler, num: int, train: Tensor, seed: int) -> Tensor:
    """So many samples, under the seed; the caller's generators are left as they were."""
    if not callable(sampler):
        raise TypeError(f"`samples` is a {type(sampler).__name__}, expected a tensor, or a sampler called with `n`")
    if num < 2:
        raise ValueError(f"`num_samples` is {num}, expected at least 2")
    with seeded(stream(seed, "samples"), getattr(train, "device", None)), torch.no_grad():
        return sampler(n=num)
