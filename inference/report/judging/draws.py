"""What draws alone say: are they copies of training data, do they look like data, and reach all of them?"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from inference.report.evidence import Evidence
from inference.report.examination import Array
from inference.report.judging.words import graded, together
from inference.report.outcome import Outcome
from inference.report.verdict import Judgement, State
from inference.report.words import listed, measured, number, percent

__all__ = ["memorised", "numbers_drawn", "samples", "section_of"]

NEARER, TV = "nearer to training data", "total variation of labels"
"""Rows of `SampleReport.to_frame`."""

REACH = {"precision": "look like data", "recall": "reach all of the data"}
"""Rows that are judged by their share of what real data have, and what draws do not do where it is small."""

TOLD = {"Parzen log density, nats": "Parzen windows, which reward copies,"}
"""Further rows, and their words."""

SHORT, FAR_SHORT = 0.5, 0.2
"""Shares of the precision or recall of real data below which it is doubtful, and bad."""

ERRORS = 4.0
"""Standard errors that chance may have."""

TAME, COPIED = 0.65, 0.85
"""Probabilities that a sample is nearer to training data than new data are: up to the one as for pairs, above bad."""

VAGUE = 0.05
"""A standard error of that probability above which it says nothing."""

CHANCE = 0.001
"""How likely it may be that so many samples miss a class that they do not lack."""

MISSED = 0.15
"""The share of the data in classes that no sample is of above which it is bad, not doubtful."""

UNEVEN, LOPSIDED = 0.15, 0.4
"""Total variation from the data's classes beyond chance: up to the one they are alike, above the other far apart."""


def section_of(evidence: Evidence) -> str:
    """Where what its draws say is shown."""
    found = evidence.outcome
    return "draws" if found is not None and (found.samples is not None or found.labels is not None) else "drawn"


# -- copies --------------------------------------------------------------------------------------------------


def memorised(found: Outcome | None) -> tuple[State, str]:
    """Whether draws lie nearer to training data than new data do."""
    row = _row(found, NEARER)
    if row is None:
        return "absent", "Draws have not been compared with training data: run `ppmodels evaluate --samples`."
    value, error = float(row["value"]), float(row["se"])
    said = f"a draw is nearer to training data than a new datum is with probability {measured(value, error)}"
    if not (math.isfinite(value) and error <= VAGUE):
        return "doubt", f"Whether draws are copies cannot be told: {said}; take more draws."
    state: State = "good" if value - ERRORS * error <= 0.5 else graded(value, TAME, COPIED)
    if state == "good":
        off = "; well below 0.5 they are off the data" if value + ERRORS * error < 1 - TAME else ""
        return state, f"Draws are no copies of training data, or hardly: {said}, 0.5 being the same{off}."
    return state, f"Draws are copies, or too tame: {said}, 0.5 being the same; look at them over their nearest data."


def _row(found: Outcome | None, measure: str) -> pd.Series[float] | None:
    table = None if found is None else found.samples
    if table is None or not {"measure", "value", "se"} <= set(table):
        return None
    rows = table[table["measure"] == measure]
    return rows.iloc[0] if len(rows) else None


# -- classes -------------------------------------------------------------------------------------------------


def samples(evidence: Evidence) -> Judgement:
    """Whether draws are of all classes, look like data and reach all of them; what else is measured is told."""
    found, where = evidence.outcome, section_of(evidence)
    if found is None or (found.samples is None and found.labels is None):
        why = "Nobody has looked at what draws are like: run `ppmodels evaluate --samples`."
        return Judgement("Samples", "absent", why, where)
    judged = [] if found.labels is None else _classes(found, found.labels)
    judged += [one for measure in REACH if (one := _reach(found, measure)) is not None]
    if not judged:
        none = "There are no labels, so whether draws lack classes cannot be asked."
        return Judgement("Samples", "not applicable", f"{none}{_told(found)}", where)
    whole = together("Samples", [Judgement("Samples", *one, where) for one in judged])
    return Judgement("Samples", whole.state, f"{whole.sentence}{_told(found)}", where)


def _classes(found: Outcome, labels: pd.DataFrame) -> list[tuple[State, str]]:
    counts, data = (labels[name].to_numpy(dtype=np.float64) for name in ("samples", "data"))
    C, S = len(labels), float(counts.sum())
    if not (C and S > 0 and np.isfinite(counts).all() and np.isfinite(data).all()):
        return [("doubt", "Which classes draws are of is not known: there are none, or their shares are no numbers.")]
    empty = (counts == 0) & (data > 1 / (2 * C))  # a rare class may be missing from the draws of a good model
    by_chance = empty & ((1 - data) ** S > CHANCE)
    missed = empty & ~by_chance
    names, classes = list(labels["class"]), f"{S:,.0f} draws"
    if missed.any():
        lost = float(data[missed].sum())
        which = listed([name for name, one in zip(names, missed, strict=True) if one], 5)
        state: State = "bad" if lost > MISSED else "doubt"
        said = f"none of {classes} is of {int(missed.sum())} of {C} classes ({which}), {percent(lost)} of the data"
        return [(state, f"Classes are missing: {said}."), _proportions(found, counts, data)]
    if by_chance.any():
        which = listed([name for name, one in zip(names, by_chance, strict=True) if one], 5)
        return [("doubt", f"{classes} are too few to tell whether a class is missing ({which}): take more.")]
    return [("good", f"No class is missing from {classes}."), _proportions(found, counts, data)]


def _proportions(found: Outcome, counts: Array, data: Array) -> tuple[State, str]:
    """How far the classes of draws are from those of the data, beyond what so many draws are by chance."""
    S = counts.sum()
    distance = float(abs(counts / S - data).sum() / 2)
    chance = float(np.sqrt(2 * data * (1 - data) / (math.pi * S)).sum() / 2)
    row = _row(found, TV)
    error = math.nan if row is None else float(row["se"])
    state = graded(max(0.0, distance - chance), UNEVEN, LOPSIDED)
    said = f"total variation {measured(distance, error)}, {number(round(chance, 4))} by chance"
    word = {"good": "near to", "doubt": "apart from"}.get(state, "far from")
    return state, f"Their classes are {word} those of the data: {said}."


def _reach(found: Outcome, measure: str) -> tuple[State, str] | None:
    """Precision or recall beside what as many real data have."""
    row = _row(found, measure)
    if row is None or "mark" not in row:
        return None
    value, error, mark = (float(row[name]) for name in ("value", "se", "mark"))
    said = f"{measure} {measured(value, error)}, {number(round(mark, 4))} of real data"
    if not (math.isfinite(value) and math.isfinite(error) and mark > 0):
        return "doubt", f"What {measure} draws have is not known: {said}."
    share = (value + ERRORS * error) / mark  # what chance may have taken is given back
    state: State = "good" if share >= SHORT else "doubt" if share >= FAR_SHORT else "bad"
    return state, f"Draws {REACH[measure]}: {said}." if state == "good" else f"Draws do not {REACH[measure]}: {said}."


def _told(found: Outcome) -> str:
    """Measures that are told beside their marks and not judged: none of them alone says that draws are good."""
    parts = []
    for measure, words in TOLD.items():
        if (row := _row(found, measure)) is not None:
            beside = f", against {row['compared with']}" if "compared with" in row else ""
            unit = "nats" if measure.endswith(", nats") else ""
            parts.append(f"{words} {measured(float(row['value']), float(row['se']), unit)}{beside}")
    return f" Told, and not judged: {'; '.join(parts)}." if parts else ""


# -- numbers -------------------------------------------------------------------------------------------------


def numbers_drawn(found: Outcome) -> list[str]:
    """What a model without a guide makes that is not finite."""
    drawn = found.drawn
    made = {} if drawn is None else {n: getattr(drawn, n) for n in ("samples", "states", "filters")}
    if found.energies is not None:
        made["free energies"] = found.energies["free_energy"].to_numpy(dtype=np.float64)
    if found.per_step is not None:
        made["steps of the bound"] = found.per_step["nats"].to_numpy(dtype=np.float64)
    return [name for name, values in made.items() if not np.isfinite(values).all()]
