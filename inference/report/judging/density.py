"""Between what ends does log p(x) lie where there is no guide? Energies have both ends, chains one, samplers none."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

from inference.report.evidence import Evidence
from inference.report.judging.bracketing import CLOSED, WIDE
from inference.report.judging.words import graded
from inference.report.verdict import Judgement, State
from inference.report.words import listed, measured, number

__all__ = ["density", "no_guide"]

COLUMNS = {"bound", "direction", "value", "se", "mc_se", "low", "high"}
"""What the table of a likelihood must have to be judged."""

Row = Mapping[Hashable, Any]


def no_guide(evidence: Evidence) -> Judgement:
    """What is said in the guide's place where there is none."""
    assert evidence.kind is not None
    what = {"energy": "An energy", "implicit": "A sampler", "transition": "A chain that is walked back"}[evidence.kind]
    return Judgement("Guide", "not applicable", f"{what} is learned without a guide: there is none.", "density")


def density(evidence: Evidence) -> Judgement:
    """How well log p(x) of a model without a guide is known."""
    return Judgement("Bracket", *_density(evidence), "density")


def _density(evidence: Evidence) -> tuple[State, str]:
    if evidence.kind == "implicit":
        return "not applicable", "The model is known by its draws alone: it has no density, so nothing bounds log p(x)."
    found = evidence.outcome
    if found is None or found.likelihood is None or found.likelihood.empty:
        return "absent", "Nothing is known of log p(x): run `ppmodels evaluate`."
    if missing := COLUMNS - set(found.likelihood):
        return "doubt", f"What is known of log p(x) cannot be judged: its table has no {listed(sorted(missing))}."
    rows = {str(row["direction"]): row for row in found.likelihood.to_dict("records")}
    if unknown := [side for side, row in rows.items() if not math.isfinite(row["value"])]:
        return "doubt", f"log p(x) is not a number ({listed(unknown)}): look for data the model rules out."
    if "exact" in rows:
        return _exact(rows["exact"])
    if {"lower", "upper"} <= set(rows):
        return _two_sided(rows["lower"], rows["upper"])
    if "lower" in rows:
        return "doubt", f"{_one_sided(rows['lower'], 'below')}; nothing is known from above."
    if "upper" in rows:
        return "doubt", f"{_one_sided(rows['upper'], 'above')}, which may be far too high: anneal back as well."
    return "doubt", f"log p(x) is not bounded: there are rows of {listed(list(rows))} alone."


def _exact(row: Row) -> tuple[State, str]:
    known = measured(row["value"], row["se"], "nats")
    if not math.isfinite(row["se"]):
        return "doubt", f"log p(x) is known exactly, but not its error over data: {known}; evaluate more data."
    return "good", f"log p(x) is known exactly, {known} over data: log Z was enumerated."


def _two_sided(lower: Row, upper: Row) -> tuple[State, str]:
    """Ends that allow for the draws' errors: of the lower one its `low`, of the upper one its `high`."""
    low, high = float(lower["low"]), float(upper["high"])
    by = f"from {_end(lower)} to {_end(upper)} by `{lower['bound']}`, errors of the draws"
    if not (math.isfinite(low) and math.isfinite(high)):
        return "doubt", f"The ends of log p(x) have no errors, so nothing says how far apart they are: {by}."
    if low > high:
        said = f"the lower end {number(low)} lies above the upper one {number(high)}, errors included"
        return "bad", f"The ends of log p(x) contradict each other: {said}; take more sweeps or temperatures."
    state = graded(high - low, CLOSED, WIDE)
    word = {"good": "closed", "doubt": "wide"}.get(state, "open")
    advice = "" if state == "good" else "; take more temperatures, chains or sweeps"
    held = "The lower end holds as far as the chains that come back begin at draws of the model"
    return state, f"The bracket is {word}: {number(high - low)} nats wide, errors included, {by}{advice}. {held}."


def _one_sided(row: Row, side: str) -> str:
    draws = f"; of the draws {measured(row['value'], row['mc_se'])}" if math.isfinite(row["mc_se"]) else ""
    value = measured(row["value"], row["se"], "nats")
    return f"log p(x) is bounded from {side} only, {value} over data{draws} by `{row['bound']}`"


def _end(row: Row) -> str:
    return measured(row["value"], row["mc_se"], "nats")
