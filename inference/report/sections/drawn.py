"""What a model without a guide draws, and what its draws say of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from inference.report.blocks import Block, Note, Picture, Section, Table, Text
from inference.report.evidence import Evidence
from inference.report.examination import Array
from inference.report.figures import (
    classes_figure,
    filters_figure,
    grid_figure,
    pairs_figure,
    scatter_figure,
    strips_figure,
)
from inference.report.glossary import terms_for
from inference.report.outcome import Drawn, Outcome
from inference.report.sections.density import notes_on_draws
from inference.report.words import ends, measured, number

__all__ = ["drawn", "draws"]

MOST_PAIRS, MOST_COLUMNS = 32, 20
"""Samples over their nearest training data, and columns of data that are no images in a table."""

WAYS = {
    "energy": ("sweeps of Gibbs sampling so far", "Chains on their way, a row each, after so many sweeps."),
    "transition": (
        "steps that are left",
        "Chains walked back, a row each, from the end of the chain with T steps to go down to a sample.",
    ),
}
"""By kind: what stands over a column of states, and how to read them."""


# -- what it draws -------------------------------------------------------------------------------------------


def drawn(evidence: Evidence) -> Section | None:
    """Samples, the training data nearest to them, the way to them and the weights; `None` where nothing was drawn."""
    found = evidence.outcome
    if found is None or found.drawn is None:
        return None
    blocks = _images(found, found.drawn) if found.drawn.are_images else _points(found.drawn)
    return Section("drawn", "What it draws", (*blocks, *_filters(found.drawn)))


def _images(found: Outcome, of: Drawn) -> Iterator[Block]:
    if len(of.samples):
        yield Picture(
            partial(grid_figure, of.samples, of.shape),
            f"{len(of.samples)} samples, grey levels from {number(ends(of.samples.ravel())[0])} to "
            f"{number(ends(of.samples.ravel())[2])}.",
            "Samples of the model.",
        )
    if len(of.data):
        yield Picture(
            partial(grid_figure, of.data[:MOST_PAIRS], of.shape),
            f"{min(MOST_PAIRS, len(of.data))} held-out data.",
            "Held-out data, to compare with.",
        )
    if len(of.nearest):
        yield _nearest(of)
    if len(of.states):
        over, caption = WAYS.get(found.kind, ("steps", "States on the way to samples, a row each."))
        labels = [str(step) for step in of.at]
        yield Picture(
            partial(strips_figure, of.states.transpose(1, 0, 2), of.shape, labels=labels),
            f"{of.states.shape[1]} chains at {len(labels)} places, from {labels[0]} to {labels[-1]} {over}.",
            f"{caption} Numbers are {over}.",
        )


def _nearest(of: Drawn) -> Picture:
    few, near = of.samples[:MOST_PAIRS], of.nearest[:MOST_PAIRS]
    apart = np.sqrt(((few - near) ** 2).sum(1))
    least, median, _ = ends(apart)
    return Picture(
        partial(pairs_figure, few, near, of.shape),
        f"{len(few)} samples over their nearest training data, at a distance of {number(median)} in the median and "
        f"{number(least)} at least; {int((apart == 0).sum())} are equal.",
        "Samples, and below each the training datum nearest to it in the distance of pixels, in which a copy that is "
        "moved by one looks new.",
    )


def _points(of: Drawn) -> Iterator[Block]:
    """Samples that are no images: points in a plane, or means and standard deviations of each number."""
    if of.samples.shape[1] == 2 and len(of.samples):
        yield Picture(
            partial(scatter_figure, of.samples, of.data),
            f"{len(of.samples)} samples and {len(of.data)} held-out data as points; means {_place(of.samples)} and "
            f"{_place(of.data)}.",
            "Samples of the model, left, and held-out data, right, on the same axes.",
        )
    yield Note("The data are no images, so neither single samples nor the states on the way to them are shown.")
    if not len(of.samples):
        return
    frame = pd.DataFrame({"entry": np.arange(of.samples.shape[1])})
    for name, rows in (("samples", of.samples), ("data", of.data)):
        if len(rows) > 1:
            spread = rows.std(0, ddof=1)
            frame[f"mean, {name}"], frame[f"se, {name}"] = rows.mean(0), spread / np.sqrt(len(rows))
            frame[f"sd, {name}"] = spread
    caption = f"Means and standard deviations of each entry, of {len(of.samples)} samples and {len(of.data)} data"
    terms = dict.fromkeys(("se, samples", "se, data"), "standard error")
    yield Table("entries", caption, frame, terms, top=MOST_COLUMNS)


def _place(rows: Array) -> str:
    return f"({', '.join(number(float(value)) for value in rows.mean(0))})" if len(rows) else "unknown"


def _filters(of: Drawn) -> Iterator[Block]:
    if not len(of.filters):
        return
    largest = abs(of.filters).max(1)
    yield Picture(
        partial(filters_figure, of.filters, of.shape),
        f"Weights of {len(of.filters)} hidden units; the largest absolute value of each is from "
        f"{number(ends(largest)[0])} to {number(ends(largest)[2])}.",
        "Weights of hidden units, each scaled to its own largest absolute value: black is positive, white negative, "
        "grey zero.",
    )


# -- what its draws say --------------------------------------------------------------------------------------


def draws(evidence: Evidence) -> Section | None:
    """Measures of the draws beside what they are compared with, and their classes; `None` where none was judged."""
    found = evidence.outcome
    if found is None or (found.samples is None and found.labels is None):
        return None
    return Section("draws", "What its draws say", tuple(_measured(found)))


def _measured(found: Outcome) -> Iterator[Block]:
    if found.samples is not None:
        terms = terms_for(["se"], measure="measures of samples")
        caption = "What samples alone say of the model, each number beside what it is to be compared with"
        yield Table("measures", caption, found.samples, terms)
    yield from map(Text, notes_on_draws(found))
    if found.labels is None or not len(found.labels):
        yield Note("There are no labels, so no classes of draws.")
        return
    labels = found.labels
    total = int(labels["samples"].sum())
    share, data = (labels[name].to_numpy(float) for name in ("share", "data"))
    worst = int(np.nan_to_num(abs(share - data)).argmax())
    error = math.sqrt(share[worst] * (1 - share[worst]) / max(1, total))
    yield Picture(
        partial(classes_figure, labels),
        f"Shares of {len(labels)} classes in {total:,} samples and in the data; furthest apart for class "
        f"{labels['class'].iloc[worst]}, {measured(share[worst], error)} of samples and {number(data[worst])} of data.",
        "The classes that a classifier sees in samples, with two standard errors either way, beside those of the data. "
        "Neither sees what happens within a class.",
    )
    yield Table("classes", "Every class: samples, their share, and that in the data", labels, {}, top=10)
