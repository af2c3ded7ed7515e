r"""A classifier of images to judge samples by: quick, and with its accuracy on data that it has not seen."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from torch import Tensor

from inference.samples.distances import as_rows
from inference.samples.labels import class_labels

__all__ = ["Classifier", "train_classifier"]


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier and what it is worth.

    Attributes:
        network: scikit-learn's, of :math:`(x - m) / s`.
        loc: m, the mean of each column, `(d,)`.
        scale: s, one for all columns: one that the data hardly use must not rule what is seen in samples.
        accuracy: share of the held-out data that it classifies rightly.
        num_held_out: how many these are.
    """

    network: MLPClassifier
    loc: NDArray[np.float64]
    scale: float
    accuracy: float
    num_held_out: int

    @property
    def accuracy_se(self) -> float:
        """Binomial standard error of `accuracy`."""
        return math.sqrt(self.accuracy * (1 - self.accuracy) / self.num_held_out)

    @property
    def classes_(self) -> NDArray[np.int64]:
        """The labels, `(C,)`, in the order of the probabilities."""
        return np.asarray(self.network.classes_)

    def predict_proba(self, x: Any) -> NDArray[np.float64]:
        """Probability of each class, `(n, C)`."""
        return np.asarray(self.network.predict_proba((np.asarray(x) - self.loc) / self.scale))

    def __str__(self) -> str:
        return (
            f"classifier of {len(self.classes_)} classes: {100 * self.accuracy:.1f} % ± {100 * self.accuracy_se:.1f} "
            f"of {self.num_held_out} held-out data right"
        )


def train_classifier(x: Tensor, y: Tensor, *, held_out: float = 0.2, hidden: int = 256, seed: int = 0) -> Classifier:
    """Train a network of one hidden layer on data with labels, and test it on a part of them that is left out.

    Args:
        x: data, `(n, d)`.
        y: labels, whole numbers, `(n,)`.
        held_out: share of the data that it is tested on.
        hidden: units.
        seed: of the split, the start and the order of the data.

    Raises:
        TypeError: `x` is no tensor of floats, or labels are no whole numbers.
        ValueError: data and labels do not fit, or there are too few of a class.

    >>> import torch
    >>> y = torch.arange(200) % 2
    >>> print(train_classifier(torch.randn(200, 2) + 6 * y.unsqueeze(1), y))
    classifier of 2 classes: 100.0 % ± 0.0 of 40 held-out data right
    """
    (rows,) = as_rows(x=x)
    labels = class_labels("y", y)
    if len(labels) != len(rows):
        raise ValueError(f"`y` has {len(labels)} labels, expected {len(rows)}, one for each row of `x`")
    if not 0 < held_out < 1:
        raise ValueError(f"`held_out` is {held_out}, expected a share of the data between 0 and 1")
    counts = np.bincount(np.unique(labels, return_inverse=True)[1])
    if len(counts) < 2 or counts.min() < 10:
        raise ValueError(
            f"`y` has {len(counts)} classes, the smallest of {counts.min()} data, expected at least 2 classes of at "
            "least 10 each: the rest cannot be learned and tested"
        )
    parts = train_test_split(rows.cpu().numpy(), labels, test_size=held_out, stratify=labels, random_state=seed)
    x_train, x_test, y_train, y_test = parts
    loc, scale = x_train.mean(0), float(x_train.std()) or 1.0
    network = MLPClassifier((hidden,), tol=1e-3, n_iter_no_change=5, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # what it is worth is measured
        network.fit((x_train - loc) / scale, y_train)
    return Classifier(network, loc, scale, float(network.score((x_test - loc) / scale, y_test)), len(y_test))
