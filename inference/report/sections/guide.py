"""How well the guide serves each datum, and where it does worst."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from inference.diagnostics.khat import khat_threshold
from inference.diagnostics.scalars import flat, label
from inference.ladder import HEAVY
from inference.report.blocks import Block, Note, Picture, Section, Table, Text
from inference.report.evidence import Evidence
from inference.report.examination import Examination
from inference.report.figures import guide_figure, khat_figure, pairs_figure
from inference.report.glossary import terms_for
from inference.report.words import ends, measured, number, percent

__all__ = ["guide"]


def guide(evidence: Evidence) -> Section | None:
    """k-hat and ESS of every datum, the worst as pictures, and the guide beside the posterior; `None` without any."""
    found = evidence.examination
    if found is None and evidence.worst is None:
        return None
    blocks = [*(() if found is None else _examined(found)), *_beside(evidence)]
    return Section("guide", "The guide, datum by datum", tuple(blocks))


def _examined(found: Examination) -> Iterator[Block]:
    frame, K = found.per_datum, found.num_particles
    khat, n = frame["khat"].to_numpy(dtype=float), len(frame)
    high, (least, median, largest) = float((~(khat <= HEAVY)).mean()), ends(khat)
    yield Text(
        f"log p(x) is {measured(frame['value'].mean(), frame['value'].std() / math.sqrt(n))} nats per datum over {n} "
        f"data, by {K} draws for each, whose own error is {number(_draws_error(frame))}. k-hat is above {HEAVY}, or "
        f"unknown, for {percent(high, math.sqrt(high * (1 - high) / n))} of the data; its median is {number(median)}, "
        f"and the median ESS is {number(frame['ess'].median())} of {K} draws."
    )
    yield Picture(
        partial(khat_figure, frame, khat_threshold(K)),
        f"k-hat of {n} data, from {number(least)} to {number(largest)}, {percent(high)} above {HEAVY}; ESS from "
        f"{number(frame['ess'].min())} to {number(frame['ess'].max())}.",
        f"Left: Pareto k-hat of each datum's weights; beyond {HEAVY} averages over the guide's draws cannot be relied "
        "on. Right: effective draws, on a logarithmic axis.",
    )
    if found.worst is not None and found.pictures is not None and len(found.worst.index):
        worst = found.worst
        labels = [f"{i}: {number(khat[i])}" for i in worst.index]
        yield Picture(
            partial(pairs_figure, worst.data, worst.reconstructions, found.pictures.shape, columns=10, labels=labels),
            f"The {len(labels)} data of highest k-hat over their reconstructions; number and k-hat: "
            f"{', '.join(labels)}.",
            "The data that the guide does worst on, each with its number and k-hat, and below it the mean of the "
            "data given one draw of its latents from the guide.",
        )
    table = frame.assign(datum=np.arange(n)).sort_values("khat", ascending=False, na_position="first")
    columns = ["datum", "value", "standard_error", "khat", "ess"]
    terms = terms_for(columns, value="log p(x)")
    yield Table(
        "per-datum", "Every datum, the highest k-hat first; value and error in nats", table[columns], terms, top=10
    )


def _draws_error(frame: pd.DataFrame) -> float:
    return float(np.sqrt((frame["standard_error"] ** 2).sum()) / len(frame))


def _beside(evidence: Evidence) -> Iterator[Block]:
    """The guide beside the posterior by MCMC."""
    tree, diagnosis = evidence.worst, evidence.worst_diagnosis
    if tree is None:
        return
    if diagnosis is None or not diagnosis.passed:
        head = str(diagnosis).splitlines()[0] if diagnosis is not None else "they could not be judged"
        yield Note(f"The chains that the guide is compared with below are not to be trusted: {head}.", "doubt")
    if "guide" not in tree.children:
        yield Note("There are no draws of the guide to compare the posterior of the worst data with.")
        return
    table = _moments(evidence)
    apart = table["apart"].abs()
    yield Picture(
        partial(guide_figure, tree),
        f"Draws of the guide and of the posterior for the worst data. Means are apart by {number(apart.max())} "
        f"posterior standard deviations at most, and by {number(apart.median())} in the median, over {len(table)} "
        "units.",
        "For each of the worst data, the posterior of its latents by MCMC and what the guide takes it for, in two "
        "units.",
    )
    terms = terms_for(
        map(str, table.columns),
        **{"posterior mean": "posterior mean", "posterior sd": "sd"},
        **dict.fromkeys(("guide mean", "guide sd"), "guide's draws"),
    )
    yield Table(
        "guide-posterior",
        "The posterior of the worst data's latents by MCMC, and the guide's draws of the same; “apart” is the "
        "difference of means in posterior standard deviations, “ratio” that of standard deviations",
        table.reindex(apart.sort_values(ascending=False, na_position="first").index),
        terms,
        top=10,
    )


def _moments(evidence: Evidence) -> pd.DataFrame:
    """Mean and sd of every unit of every one of the worst data, under both."""
    assert evidence.worst is not None
    rows = []
    guide, posterior = (evidence.worst[name].to_dataset() for name in ("guide", "posterior"))
    table = evidence.worst_diagnosis.parameters if evidence.worst_diagnosis is not None else pd.DataFrame()
    for name in guide.data_vars:
        index, drawn = flat(guide[name])
        _, true = flat(posterior[name])
        for each, q, p in zip(index, drawn.astype(float), true.astype(float), strict=True):
            key, sd = label(str(name), each), float(p.std())
            known: Any = table.loc[key] if key in table.index else {}
            rows.append(
                {
                    "unit": key,
                    "posterior mean": float(p.mean()),
                    "mcse_mean": known.get("mcse_mean", math.nan),
                    "posterior sd": sd,
                    "r_hat": known.get("r_hat", math.nan),
                    "guide mean": float(q.mean()),
                    "guide sd": float(q.std()),
                    "apart": float(q.mean() - p.mean()) / sd if sd else math.nan,
                    "ratio": float(q.std()) / sd if sd else math.nan,
                }
            )
    return pd.DataFrame(rows)
