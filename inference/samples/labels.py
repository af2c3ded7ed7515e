r"""Which classes a classifier sees in samples, and whether they come as often as in the data.

.. math:: \hat p_c = \frac1S \sum_s \mathbb{1}[\arg\max_k r_k(x_s) = c], \qquad
    H = -\sum_c \hat p_c \log \hat p_c, \qquad \mathrm{TV} = \tfrac12 \sum_c |\hat p_c - q_c|

A model that drops classes has a low entropy and a large total variation. Neither sees what happens within a class.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import entr
from torch import Tensor

from inference.display import fragment
from inference.samples.distances import as_rows

__all__ = ["LabelStatistics", "Probabilities", "class_labels", "label_statistics"]

Floats = NDArray[np.float64]


@runtime_checkable
class Probabilities(Protocol):
    """Any classifier: `predict_proba(x)` of an array `(n, d)` gives the probability of each class, `(n, C)`.

    If it has `classes_`, `(C,)`, these are the labels; otherwise they are 0 to C - 1.
    """

    def predict_proba(self, x: Any) -> Any: ...


@dataclass(frozen=True, eq=False)
class LabelStatistics:
    """The classes of S samples, as a classifier sees them, against those of n labelled data.

    Attributes:
        classes: labels, `(C,)`.
        counts: samples by class, `(C,)`.
        reference: labelled data by class, `(C,)`.
        confidence: mean probability of the class that is most probable.
        confidence_se: its standard error over the samples.
        accuracy: of the classifier on held-out data, if it says so; NaN otherwise. What it gets wrong is in the counts.
    """

    classes: NDArray[np.int64]
    counts: NDArray[np.int64]
    reference: NDArray[np.int64]
    confidence: float
    confidence_se: float
    accuracy: float

    @property
    def share(self) -> Floats:
        """Of the samples, by class, `(C,)`."""
        return np.asarray(self.counts / self.counts.sum())

    @property
    def reference_share(self) -> Floats:
        """Of the labelled data, by class, `(C,)`."""
        return np.asarray(self.reference / self.reference.sum())

    @property
    def entropy(self) -> float:
        """Of the samples' classes in nats, from 0 to log C; about (C - 1) / 2S too low by chance."""
        return float(entr(self.share).sum())

    @property
    def entropy_se(self) -> float:
        r"""Standard error of `entropy` over the samples, somewhat large for equal shares.

        .. math:: \operatorname{Var}(\log p_c) / S + (C - 1) / 2 S^2

        The first is less what chance adds to it, (C - 1) / S of it; the second is what is left for equal shares.
        """
        S, p = self.counts.sum(), self.share[self.counts > 0]
        first = (p * np.log(p) ** 2).sum() - self.entropy**2 - (len(p) - 1) / S
        return math.sqrt(max(first, 0.0) / S + (len(p) - 1) / (2 * S**2))

    @property
    def reference_entropy(self) -> float:
        """Of the data's labels in nats."""
        return float(entr(self.reference_share).sum())

    @property
    def tv(self) -> float:
        """Total variation between the samples' classes and the data's labels, 0 to 1."""
        return float(np.abs(self.share - self.reference_share).sum() / 2)

    @property
    def tv_se(self) -> float:
        """Standard error of `tv` over samples and labelled data; up to 1.7 of it where the shares are the same."""
        sign = np.sign(self.share - self.reference_share)
        parts = [
            ((share * sign**2).sum() - (share * sign).sum() ** 2) / counts.sum()
            for share, counts in ((self.share, self.counts), (self.reference_share, self.reference))
        ]
        return math.sqrt(sum(max(part, 0.0) for part in parts)) / 2

    @property
    def tv_by_chance(self) -> float:
        """What `tv` is on average if samples have the data's label distribution (by normal approximation)."""
        q = self.reference_share
        variance = q * (1 - q) * (1 / self.counts.sum() + 1 / self.reference.sum())
        return float(np.sqrt(2 * variance / math.pi).sum() / 2)

    @property
    def squared_distance(self) -> float:
        """Sum of squared differences of the shares, which papers print as L2."""
        return float(np.square(self.share - self.reference_share).sum())

    def to_histogram(self) -> pd.DataFrame:
        """One row per class."""
        columns = {"class": self.classes, "samples": self.counts, "share": self.share, "data": self.reference_share}
        return pd.DataFrame(columns)

    def to_frame(self) -> pd.DataFrame:
        """One row per measure; what samples from the data themselves would have stands beside it."""
        rows = [
            ("label entropy, nats", self.entropy, self.entropy_se, self.reference_entropy),
            ("total variation of labels", self.tv, self.tv_se, self.tv_by_chance),
            ("mean confidence", self.confidence, self.confidence_se, math.nan),
        ]
        return pd.DataFrame(rows, columns=["measure", "value", "se", "of the data"])

    def __str__(self) -> str:
        return (
            f"{self._headline()}: entropy {self.entropy:.3f} ± {self.entropy_se:.3f} nats "
            f"({self.reference_entropy:.3f} of the data), total variation {self.tv:.3f} ± {self.tv_se:.3f} "
            f"({self.tv_by_chance:.3f} by chance), confidence {self.confidence:.3f}"
        )

    def _repr_html_(self) -> str:
        return fragment(self._headline(), self.to_frame()) + fragment("samples by class", self.to_histogram())

    def _headline(self) -> str:
        judge = "a classifier" if math.isnan(self.accuracy) else f"a classifier of {100 * self.accuracy:.1f} % accuracy"
        return f"labels of {self.counts.sum()} samples by {judge}"


def label_statistics(samples: Tensor, classifier: Probabilities, reference: Tensor) -> LabelStatistics:
    """Count the classes that a classifier sees in samples, and compare with the labels of data.

    Args:
        samples: `(S, d)`.
        classifier: anything with `predict_proba`, such as `train_classifier` returns.
        reference: labels of data, whole numbers, `(n,)`; each a class that the classifier knows.

    Raises:
        TypeError: the classifier has no `predict_proba`, or labels are no whole numbers.
        ValueError: the samples are empty or not finite, or a label is none that the classifier knows.

    References:
        Li, Alvarez-Melis, Xu, Jegelka and Sra, *Distributional Adversarial Networks*, 2017, arXiv 1706.09549.

    >>> class Sign:
    ...     def predict_proba(self, x):
    ...         return np.where(x > 0, [[0.1, 0.9]], [[0.8, 0.2]])
    >>> x = torch.tensor([[1.0], [2.0], [3.0], [-1.0]])
    >>> print(label_statistics(x, Sign(), torch.tensor([0, 1])))
    labels of 4 samples by a classifier: entropy 0.562 ± 0.177 nats (0.693 of the data), total variation 0.250 ± 0.415
        (0.345 by chance), confidence 0.875
    """
    (x,) = as_rows(samples=samples)
    if not isinstance(classifier, Probabilities):
        raise TypeError(
            f"`classifier` is a {type(classifier).__name__}, expected an object with `predict_proba(x)`: such as "
            "train_classifier(x, y) returns"
        )
    probs = np.asarray(classifier.predict_proba(x.cpu().numpy()), dtype=np.float64)  # (S, C)
    if probs.ndim != 2 or len(probs) != len(x):
        raise ValueError(
            f"`classifier` gives probabilities of shape {probs.shape}, expected ({len(x)}, C): a row for each sample"
        )
    classes = np.asarray(getattr(classifier, "classes_", np.arange(probs.shape[1])))
    best = probs.max(1)  # (S,)
    return LabelStatistics(
        classes=classes,
        counts=np.bincount(probs.argmax(1), minlength=len(classes)),
        reference=_counts(class_labels("reference", reference), classes),
        confidence=float(best.mean()),
        confidence_se=float(best.std(ddof=1) / math.sqrt(len(best))) if len(best) > 1 else math.nan,
        accuracy=float(getattr(classifier, "accuracy", math.nan)),
    )


def class_labels(name: str, given: Tensor) -> NDArray[np.int64]:
    """Labels as an array, `(n,)`; refuses what is no vector of whole numbers."""
    y = torch.as_tensor(given).detach().cpu()
    if y.is_floating_point() or y.is_complex():
        raise TypeError(
            f"`{name}` is of {y.dtype}, expected whole numbers, a label for each datum: call `.long()` on it"
        )
    if y.dim() != 1 or not len(y):
        raise ValueError(f"`{name}` has shape {tuple(y.shape)}, expected labels (n,), one for each datum")
    return y.long().numpy()


def _counts(y: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.int64]:
    seen: Mapping[int, int] = dict(zip(*(found.tolist() for found in np.unique(y, return_counts=True)), strict=True))
    strange = sorted(set(seen) - set(classes.tolist()))
    if strange:
        raise ValueError(
            f"`reference` holds label {strange[0]}, expected the classes that the classifier knows "
            f"({', '.join(map(str, classes.tolist()))}): train it on data with all of them"
        )
    return np.array([seen.get(label, 0) for label in classes.tolist()], dtype=np.int64)
