"""Is a model better on what it was trained on than on other data? Train against held-out, and the validation score."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from inference.report.evidence import Evidence
from inference.report.examination import Array
from inference.report.judging.draws import memorised, section_of
from inference.report.judging.training import scores_of
from inference.report.judging.words import graded, together
from inference.report.outcome import Outcome
from inference.report.verdict import Judgement, State
from inference.report.words import measured, number

__all__ = ["overfitting"]

_Row: TypeAlias = Mapping[Hashable, Any]

ERRORS = 4.0
"""Standard errors that a gap may have by chance."""

SMALL, LARGE = 0.2, 0.5
"""Gaps as parts of the standard deviation over data: up to the one they are small, above the other large."""

SLIP, FALL = 0.1, 0.5
"""Parts of what a validation score had gained that it may have lost again at its end."""


def overfitting(evidence: Evidence) -> Judgement:
    """Whether the parameters fit the training data and not the others."""
    if evidence.kind == "implicit":
        return Judgement("Overfitting", *memorised(evidence.outcome), section_of(evidence))
    found = list(_findings(evidence))
    if not found:
        how = "evaluate it again" if evidence.kind else "run `examine` with `train`"
        why = f"No training data were examined and there is no validation score: {how}."
        found = [Judgement("Overfitting", "absent", why, "training")]
    return together("Overfitting", found)


def _findings(evidence: Evidence) -> Iterator[Judgement]:
    examined = evidence.examination
    if evidence.kind is not None and evidence.outcome is not None:
        for one in _without_guide(evidence.outcome):
            yield Judgement("Overfitting", *one, "density")
    elif examined is not None and examined.train is not None:
        ours, theirs = (one["value"].to_numpy(dtype=np.float64) for one in (examined.train, examined.per_datum))
        yield Judgement("Overfitting", *_gap(ours, theirs, "pair"), "training")
    scores = scores_of(evidence.metrics)
    if scores is not None and len(scores) > 2:
        yield Judgement("Overfitting", *_validation(scores, str(evidence.manifest.get("stopped"))), "training")


def _gap(ours: Array, theirs: Array, what: str) -> tuple[State, str]:
    """Of log p(x) of each of the training data and of others, up to a constant that they share."""
    if min(len(ours), len(theirs)) < 2:
        return "doubt", "There are too few data to compare training data with others: examine more."
    if not (np.isfinite(ours).all() and np.isfinite(theirs).all()):
        count = int((~np.isfinite(ours)).sum() + (~np.isfinite(theirs)).sum())
        return "doubt", f"log p(x) is not finite for {count:,} of the data: training data and others are not compared."
    gap = float(ours.mean() - theirs.mean())
    variances = [float(values.var(ddof=1)) for values in (ours, theirs)]
    error = math.sqrt(variances[0] / len(ours) + variances[1] / len(theirs))
    freedom = len(ours) + len(theirs) - 2
    sd = math.sqrt(((len(ours) - 1) * variances[0] + (len(theirs) - 1) * variances[1]) / freedom)
    return _graded_gap(gap, error, sd, what)


def _graded_gap(gap: float, error: float, sd: float, what: str) -> tuple[State, str]:
    """A difference of means with its error, in the light of the standard deviation over data."""
    part = gap / sd if sd > 0 else 0.0 if gap <= 0 else math.inf
    size, way = measured(abs(gap), error, "nats"), "higher" if gap >= 0 else "lower"
    said = f"log p(x) is {size} {way} on training data, {abs(part):.2f} of its sd over data"
    if gap <= ERRORS * error and part > LARGE:
        return "doubt", f"There are too few data to tell whether the {what} overfits: {said}; examine more."
    state: State = "good" if gap <= ERRORS * error else graded(part, SMALL, LARGE)
    if state == "good":
        return state, f"Training data are no better explained than others, or hardly: {said}."
    return state, f"The {what} overfits: {said}; stop earlier (`patience`), make it smaller, or take more data."


def _without_guide(found: Outcome) -> Iterator[tuple[State, str]]:
    """By free energies, in whose difference log Z cancels, or else by means over data with their errors."""
    energies = found.energies
    if energies is not None and {"train", "test"} <= set(energies["set"]):
        sets = energies.groupby("set")["free_energy"]
        ours, theirs = (-sets.get_group(name).to_numpy(dtype=np.float64) for name in ("train", "test"))
        yield _gap(ours, theirs, "model")
    elif found.train is not None and found.likelihood is not None:
        yield from _of_means(found.train.to_dict("records"), found.likelihood.to_dict("records"), found.data.get("n"))


def _of_means(train: Sequence[_Row], held_out: Sequence[_Row], n: Any) -> Iterator[tuple[State, str]]:
    """By the first side of log p(x) that is known of both; n is the number of held-out data."""
    for ours, theirs in product(train, held_out):
        if ours["direction"] != theirs["direction"]:
            continue
        gap, error = ours["value"] - theirs["value"], math.hypot(ours["se"], theirs["se"])
        said = f"training data less others come to {measured(gap, error, 'nats')}"
        if not (math.isfinite(gap) and math.isfinite(error)):
            yield "doubt", f"Training data cannot be compared with others: {said}."
        elif not isinstance(n, int) or n < 2:
            yield "doubt", f"Whether the model overfits is not known, as the number of data is not: {said}."
        else:
            yield _graded_gap(gap, error, theirs["se"] * math.sqrt(n), "model")
        return


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
