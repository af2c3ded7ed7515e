"""How data are spread over clusters and sticks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from inference.report.blocks import Block, Picture, Section, Table
from inference.report.evidence import Evidence
from inference.report.examination import Components
from inference.report.figures import confusion_figure, usage_figure
from inference.report.glossary import terms_for
from inference.report.words import percent

__all__ = ["clusters"]

NAMES = {"accuracy": "accuracy", "majority_accuracy": "accuracy, majority names", "nmi": "NMI", "ari": "ARI"}


def clusters(evidence: Evidence) -> Section | None:
    """Usage of every site of components, and confusion with classes; `None` where there are none."""
    found = evidence.examination
    if found is None or not found.components:
        return None
    blocks = [block for one in found.components for block in _blocks(one)]
    return Section("clusters", "Clusters and sticks", tuple(blocks))


def _blocks(one: Components) -> Iterator[Block]:
    C = len(one.share)
    yield Table(
        f"usage-{one.site}",
        f"Components of {one.site}; entropies in nats",
        _numbers(one),
        {"standard error": "standard error"},
    )
    largest = int(np.nanargmax(one.share)) if np.isfinite(one.share).any() else 0
    yield Picture(
        partial(usage_figure, one),
        f"Shares of {C} components of {one.site}: the largest is component {largest} with "
        f"{percent(one.share[largest])}; {len(one.dead)} are dead.",
        f"The share of the data that each component of {one.site} holds, and the share below which it is dead.",
    )
    if one.confusion is not None:
        yield Picture(
            partial(confusion_figure, one),
            f"{int(np.nansum(one.confusion))} data by component of {one.site} and class.",
            f"Data by component of {one.site} (rows) and class (columns); shares of each row.",
        )
    shares = pd.DataFrame({"component": np.arange(C), "share": one.share})
    if one.confusion is not None:
        counts = one.confusion
        shares["data"] = counts.sum(1)
        shares["largest class"] = counts.argmax(1)
        shares["its part"] = counts.max(1) / np.where(counts.sum(1) > 0, counts.sum(1), np.nan)
    order = shares.sort_values("share", ascending=False, na_position="first") if not one.ordered else shares
    caption = f"Every component of {one.site}"
    yield Table(f"components-{one.site}", caption, order, terms_for(map(str, shares.columns)), top=10)


def _numbers(one: Components) -> pd.DataFrame:
    effective = math.exp(one.entropy)
    rows: list[tuple[str, float, float]] = [
        ("components in effect", effective, effective * one.entropy_se),
        ("usage entropy", one.entropy, one.entropy_se),
        ("conditional entropy", one.conditional_entropy, one.conditional_entropy_se),
        ("dead", float(len(one.dead)), math.nan),
    ]
    rows += [(said, one.scores[k], one.scores_se.get(k, math.nan)) for k, said in NAMES.items() if k in one.scores]
    return pd.DataFrame(rows, columns=["what", "value", "standard error"])
