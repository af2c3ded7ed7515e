r"""How well clusters agree with classes: accuracies by two ways of naming clusters, and measures that need no names."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

from inference.display import fragment
from inference.truth import Labels, labels_of, labels_to_judge_by
from inference.usage import ComponentUsage, check_shares, component_usage

__all__ = ["ClusterScores", "cluster_scores"]

Assignments: TypeAlias = Tensor | ArrayLike
Integers: TypeAlias = NDArray[np.int64]

TEXTS = {
    "accuracy": "accuracy, one-to-one names (Hungarian)",
    "majority_accuracy": "accuracy, majority names",
    "nmi": "normalised mutual information",
    "ari": "adjusted Rand index",
}


@dataclass(frozen=True, eq=False)
class ClusterScores:
    """Agreement of C clusters with classes on n labelled data.

    Attributes:
        split: of the data judged on.
        names_from: where clusters got the names of classes: from these very data, or from others.
        accuracy: share of data whose cluster has the name of their class, each class naming one cluster at most and
            each cluster named once at most: the best such naming (the Hungarian method). With more clusters than
            classes, data in clusters without a name count as wrong.
        majority_accuracy: the same, each cluster named for most of its data. Optimistic with more clusters than
            classes: with a cluster for each datum it is one.
        nmi: normalised mutual information, over the arithmetic mean of both entropies.
        ari: adjusted Rand index; 0 in expectation for clusters at random.
        standard_error: of each of these over the data: binomial for the accuracies, by bootstrap for the others.
        confusion: data by cluster and class.
        naming: the class of each cluster by `accuracy`; clusters without one are left out.
        majority: the class of each cluster by `majority_accuracy`.
        usage: how the data are spread over the clusters; `usage.entropy`, `usage.dead` and others.
    """

    split: str
    names_from: str
    accuracy: float
    majority_accuracy: float
    nmi: float
    ari: float
    standard_error: Mapping[str, float]
    confusion: pd.DataFrame
    naming: Mapping[int, int]
    majority: Mapping[int, int]
    usage: ComponentUsage

    @property
    def num_data(self) -> int:
        """n, the data judged on."""
        return int(self.confusion.to_numpy().sum())

    def to_frame(self) -> pd.DataFrame:
        """One row per score, with its standard error; entropies in nats."""
        usage = self.usage
        rows = {name: (getattr(self, name), error) for name, error in self.standard_error.items()} | {
            "usage_entropy": (usage.entropy, usage.entropy_se),
            "conditional_entropy": (usage.conditional_entropy, usage.conditional_entropy_se),
            "effective_clusters": (usage.effective, usage.effective * usage.entropy_se),
            "dead_clusters": (len(usage.dead), math.nan),
        }
        table = pd.DataFrame.from_dict(rows, orient="index", columns=["value", "standard_error"])
        return table.rename_axis("score").reset_index().assign(split=self.split)

    def __str__(self) -> str:
        scores = [
            f"  {text:<40}{getattr(self, name):.4f} ± {self.standard_error[name]:.4f}" for name, text in TEXTS.items()
        ]
        if self._more_clusters:
            scores[1] += "  (optimistic: more clusters than classes)"
        return "\n".join([self._headline(), *scores, f"  {self.usage}", *self.usage.findings()])

    def _repr_html_(self) -> str:
        optimistic = ["majority_accuracy is optimistic: more clusters than classes"] * self._more_clusters
        notes = [*optimistic, str(self.usage), *self.usage.findings()]
        scores = fragment(self._headline(), self.to_frame().drop(columns="split"), notes)
        return scores + fragment("data by cluster (rows) and class (columns)", self.confusion)

    def _headline(self) -> str:
        C, classes = self.confusion.shape
        return f"{self.num_data} data ({self.split}), {C} clusters, {classes} classes, names from {self.names_from}"

    @property
    def _more_clusters(self) -> bool:
        C, classes = self.confusion.shape
        return classes < C


def cluster_scores(
    assignments: Assignments,
    labels: Labels,
    *,
    num_clusters: int | None = None,
    split: str | None = None,
    fit_on: tuple[Assignments, Labels] | None = None,
    on_training_labels: bool = False,
    dead_below: float | None = None,
    num_resamples: int = 100,
    seed: int = 0,
) -> ClusterScores:
    """Compare clusters with the true classes of the same data.

    Labels of data that were learned from flatter, so they are refused unless you say that they are meant.

    Args:
        assignments: a cluster per datum, `(n,)`, or the probability of each, `(n, C)`, as `assign` returns; data count
            for their most probable cluster, the entropies see the probabilities.
        labels: a dataset that knows its labels and its split, or labels `(n,)`, with `split`.
        num_clusters: C, where `assignments` do not say it; by default one more than the largest.
        split: of which `labels` are: "test", "valid", "train" or "all".
        fit_on: assignments and labels of other data, to name the clusters by; by default these very data. Labels to
            train on will do.
        on_training_labels: whether `labels` may be of "train" or "all".
        dead_below: the share of the data below which a cluster is dead; by default a tenth of an equal one.
        num_resamples: bootstrap samples for the standard errors of `nmi` and `ari`; 0 for none.
        seed: of the bootstrap.

    Raises:
        TypeError: the labels are no whole numbers.
        ValueError: the labels are of training data, or assignments and labels do not fit.

    References:
        Kuhn, *The Hungarian method for the assignment problem*, 1955, for `accuracy`.
        Dilokthanakul, Mediano, Garnelo, Lee, Salimbeni, Arulkumaran and Shanahan, *Deep Unsupervised Clustering with
        Gaussian Mixture Variational Autoencoders*, 2016, arXiv 1611.02648, for `majority_accuracy`.
        Hubert and Arabie, *Comparing partitions*, 1985, for `ari`.

    >>> found = cluster_scores([0, 0, 1, 1, 2, 2], [5, 5, 3, 3, 3, 5], split="test")
    >>> round(found.accuracy, 3), round(found.majority_accuracy, 3), dict(found.naming)
    (0.667, 0.833, {0: 5, 1: 3})
    """
    y, split = labels_to_judge_by(labels, split=split, on_training_labels=on_training_labels)
    shares = _shares("assignments", assignments, len(y), num_clusters)
    C, hard = shares.shape[1], shares.argmax(1).cpu().numpy()
    if fit_on is None:
        named_by, named_y, names_from = hard, y, "these data"
    else:
        named_y, names_from = labels_of(fit_on[1], "fit_on"), "other data"
        named_by = _shares("fit_on", fit_on[0], len(named_y), C).argmax(1).cpu().numpy()
    classes = np.unique(np.concatenate([y, named_y]))
    naming, majority = _names(_table(named_by, named_y, C, classes))
    right = {
        "accuracy": _share_right(hard, y, naming),
        "majority_accuracy": _share_right(hard, y, majority),
    }
    binomial = {name: math.sqrt(share * (1 - share) / len(y)) for name, share in right.items()}
    return ClusterScores(
        split=split,
        names_from=names_from,
        **right,
        nmi=float(normalized_mutual_info_score(y, hard)),
        ari=float(adjusted_rand_score(y, hard)),
        standard_error=binomial | _bootstrap(y, hard, num_resamples, seed),
        confusion=_table(hard, y, C, classes),
        naming=naming,
        majority=majority,
        usage=component_usage(shares, name="clusters", dead_below=dead_below),
    )


def _table(hard: Integers, y: Integers, C: int, classes: Integers) -> pd.DataFrame:
    """Data by cluster, 0 to C - 1, and class."""
    place = np.searchsorted(classes, y)
    counts = np.zeros((C, len(classes)), dtype=np.int64)
    np.add.at(counts, (hard, place), 1)
    return pd.DataFrame(counts, pd.RangeIndex(C, name="cluster"), pd.Index(classes, name="class"))


def _names(table: pd.DataFrame) -> tuple[dict[int, int], dict[int, int]]:
    """The class of each cluster: one to one so that most data are right, and by majority."""
    counts, classes = table.to_numpy(), table.columns.to_numpy()
    clusters, places = linear_sum_assignment(counts, maximize=True)
    naming = {int(c): int(classes[k]) for c, k in zip(clusters, places, strict=True) if counts[c, k]}
    majority = {int(c): int(classes[counts[c].argmax()]) for c in np.flatnonzero(counts.sum(1))}
    return naming, majority


def _share_right(hard: Integers, y: Integers, names: Mapping[int, int]) -> float:
    named = np.array([names.get(int(cluster), -1) for cluster in hard])
    return float((named == y).mean())


def _bootstrap(y: Integers, hard: Integers, num_resamples: int, seed: int) -> dict[str, float]:
    """Standard errors of `nmi` and `ari` over resamples of the data."""
    if not num_resamples:
        return {"nmi": math.nan, "ari": math.nan}
    generator, found = np.random.default_rng(seed), []
    for _ in range(num_resamples):
        index = generator.integers(len(y), size=len(y))
        of = y[index], hard[index]
        found.append((normalized_mutual_info_score(*of), adjusted_rand_score(*of)))
    nmi, ari = np.std(found, axis=0, ddof=1)
    return {"nmi": float(nmi), "ari": float(ari)}


def _shares(name: str, assignments: Assignments, n: int, num_clusters: int | None) -> Tensor:
    """Probabilities `(n, C)`; of hard assignments ones and zeros."""
    given = assignments.detach().cpu() if isinstance(assignments, Tensor) else torch.as_tensor(np.asarray(assignments))
    if len(given) != n:
        raise ValueError(f"`{name}` has {len(given)} rows and {n} labels, expected a row for each label")
    if given.is_floating_point():
        shares = check_shares(name, given)
        if num_clusters not in (None, shares.shape[1]):
            raise ValueError(f"`num_clusters` is {num_clusters}, but `{name}` has {shares.shape[1]}: leave it out")
        return shares
    if given.dim() != 1:
        raise ValueError(
            f"`{name}` is {given.dtype} of shape {tuple(given.shape)}, expected clusters (n,) or probabilities (n, C)"
        )
    largest = int(given.max())
    if num_clusters is None and largest == 0:
        raise ValueError(f"`{name}` holds cluster 0 alone, so it does not say how many there are: set `num_clusters`")
    C = largest + 1 if num_clusters is None else num_clusters
    if int(given.min()) < 0 or largest >= C:
        raise ValueError(f"`{name}` holds {int(given.min())} to {largest}, expected clusters from 0 to {C - 1}")
    return torch.nn.functional.one_hot(given.long(), C).double()
