"""How data are spread over clusters and sticks, and how well clusters are classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference.assignments import assign, discrete_sites
from inference.clusters import cluster_scores
from inference.codes import latent_codes
from inference.report.examination import Array, Components
from inference.report.examining.view import View
from inference.usage import component_usage

__all__ = ["components_of"]

SCORES = ["accuracy", "majority_accuracy", "nmi", "ari"]
"""Of clusters against classes; what needs no classes is among the other numbers."""

Integers: TypeAlias = NDArray[np.int64]


def components_of(
    view: View, shares: Mapping[str, Callable[[Tensor], Tensor]], batch_size: int
) -> Iterator[Components]:
    """Every site whose values are categories, and those whose draws are shares once a function is applied to them."""
    pair, data, how = view.pair, view.data, {"batch_size": batch_size, "seed": view.seed}
    for site in discrete_sites(pair, view.batch(torch.arange(min(batch_size, len(data))))):
        yield _components(view, site, assign(pair.model, pair.guide, data, site=site, **how))
    for site, function in shares.items():
        codes = latent_codes(pair.model, pair.guide, data, site, draw=True, **how)
        yield _components(view, site, function(codes), ordered=True)


def _components(view: View, site: str, r: Tensor, *, ordered: bool = False) -> Components:
    """The numbers of shares `(n, C)`."""
    usage, labels = component_usage(r, name=site), None if ordered else view.labels
    return Components(
        site=site,
        share=usage.share.cpu().numpy(),
        entropy=usage.entropy,
        entropy_se=usage.entropy_se,
        conditional_entropy=usage.conditional_entropy,
        conditional_entropy_se=usage.conditional_entropy_se,
        dead_below=usage.dead_below,
        ordered=ordered,
        confusion=None if labels is None else _confusion(r.argmax(1).cpu().numpy(), labels, r.shape[1]),
        **({} if labels is None else _scores(r, labels)),
    )


def _confusion(clusters: Integers, labels: Integers, C: int) -> Array:
    """Data by component and class, `(C, classes)`."""
    counts = np.zeros((C, int(labels.max()) + 1))
    np.add.at(counts, (clusters, labels), 1)
    return counts


def _scores(r: Tensor, labels: Integers) -> dict[str, Mapping[str, float]]:
    """How well clusters are classes, with errors."""
    found = cluster_scores(r, labels, split="all", on_training_labels=True).to_frame().set_index("score").loc[SCORES]
    of = {"scores": found["value"], "scores_se": found["standard_error"]}
    return {field: {str(k): float(v) for k, v in column.items()} for field, column in of.items()}
