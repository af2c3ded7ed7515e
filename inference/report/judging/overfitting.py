"""Is a pair better on what it was trained on than on other data? Train against held-out, and the validation score."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from inference.report.evidence import Evidence
from inference.report.examination import Array
from inference.report.judging.training import scores_of
from inference.report.judging.words import graded, together
from inference.report.verdict import Judgement, State
from inference.report.words import measured, number

__all__ = ["overfitting"]

ERRORS = 4.0
"""Standard errors that a gap may have by chance."""

SMALL, LARGE = 0.2, 0.5
"""Gaps as parts of the standard deviation over data: up to the one they are small, above the other large."""

SLIP, FALL = 0.1, 0.5
"""Parts of what a validation score had gained that it may have lost again at its end."""


def overfitting(evidence: Evidence) -> Judgement:
    """Whether the parameters fit the training data and not the others."""
    found = [Judgement("Overfitting", *one, "training") for one in _findings(evidence)]
    if not found:
        why = "No training data were examined and there is no validation score: run `examine` with `train`."
        found = [Judgement("Overfitting", "absent", why, "training")]
    return together("Overfitting", found)


def _findings(evidence: Evidence) -> Iterator[tuple[State, str]]:
    examined = evidence.examination
    if examined is not None and examined.train is not None:
        yield _gap(examined.train, examined.per_datum)
    scores = scores_of(evidence.metrics)
    if scores is not None and len(scores) > 2:
        yield _validation(scores, str(evidence.manifest.get("stopped")))


def _gap(train: pd.DataFrame, held_out: pd.DataFrame) -> tuple[State, str]:
    if min(len(train), len(held_out)) < 2:
        return "doubt", "There are too few data to compare training data with others: examine more."
    ours, theirs = (frame["value"].to_numpy(dtype=np.float64) for frame in (train, held_out))
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        count = int((~np.isfinite(ours)).sum() + (~np.isfinite(theirs)).sum())
        return "doubt", f"log p(x) is not finite for {count:,} of the data: training data and others are not compared."
    gap = float(ours.mean() - theirs.mean())
    variances = [float(values.var(ddof=1)) for values in (ours, theirs)]
    error = math.sqrt(variances[0] / len(ours) + variances[1] / len(theirs))
    freedom = len(ours) + len(theirs) - 2
    sd = math.sqrt(((len(ours) - 1) * variances[0] + (len(theirs) - 1) * variances[1]) / freedom)
    part = gap / sd if sd > 0 else 0.0 if gap <= 0 else math.inf
    size, way = measured(abs(gap), error, "nats"), "higher" if gap >= 0 else "lower"
    said = f"log p(x) is {size} {way} on training data, {abs(part):.2f} of its sd over data"
    if gap <= ERRORS * error and part > LARGE:
        return "doubt", f"There are too few data to tell whether the pair overfits: {said}; examine more."
    state: State = "good" if gap <= ERRORS * error else graded(part, SMALL, LARGE)
    if state == "good":
        return state, f"Training data are no better explained than others, or hardly: {said}."
    return state, f"The pair overfits: {said}; stop earlier (`patience`), make it smaller, or take more data."


def _validation(scores: Array, stopped: str) -> tuple[State, str]:
    if not np.isfinite(scores).all():
        return "doubt", "Validation scores are not finite, so overfitting cannot be seen from them."
    best, gained, lost = float(scores.max()), float(scores.max() - scores[0]), float(scores.max() - scores[-1])
    if stopped == "patience":
        return "good", f"The parameters kept are those of the best validation score, {number(best)} nats."
    if lost > 0 and gained <= 0:
        return "doubt", f"The validation score was never better than at first, {number(best)} nats: look for a fault."
    part = lost / gained if gained > 0 else 0.0
    state = graded(part, SLIP, FALL)
    said = (
        f"the validation score ends {number(lost)} nats below its best of {number(best)}, after a gain of "
        f"{number(gained)} (the same noise each time)"
    )
    if state == "good":
        return state, f"Training has not gone past the best: {said}."
    return state, f"Training has gone past the best: {said}; stop earlier (`patience`)."
