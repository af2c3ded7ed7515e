"""Between what ends does log p(x) lie? The bracket of the bounds, and what there is to say against it."""

from __future__ import annotations

from collections.abc import Sequence

from inference.report.evidence import Evidence
from inference.report.judging.ends import Ends, ends_of_ladder
from inference.report.judging.table import ends_of_table
from inference.report.judging.words import graded, is_posterior
from inference.report.verdict import Judgement, State
from inference.report.words import listed, number

__all__ = ["bracket"]

CLOSED, WIDE = 1.0, 5.0
"""Nats per datum between the ends: up to the one a bracket is closed, above the other it is open."""

OF_SIMULATED = (
    "on data simulated from the model, which certifies what is said of its own samples, not of the data given"
)

COLUMNS = {"bound", "K", "direction", "guarantee", "value", "se", "mc_se"}
"""What the table of a ladder must have to be judged."""


def bracket(evidence: Evidence) -> Judgement:
    """How well log p(x) is known."""
    return Judgement("Bracket", *_bracket(evidence), "ladder")


def _bracket(evidence: Evidence) -> tuple[State, str]:
    if evidence.ladder is not None:
        found = list(ends_of_ladder(evidence.ladder))
    elif evidence.bounds is not None:
        if missing := COLUMNS - set(evidence.bounds):
            return "doubt", f"The table of bounds cannot be judged: it has no {listed(sorted(missing))}."
        found = list(ends_of_table(evidence.bounds))
    elif is_posterior(evidence) and not evidence.is_pair:
        return "not applicable", "Nothing here bounds log p(x)."
    else:
        found = []
    if not found:
        return "absent", "Nothing bounds log p(x): run `compare_bounds` with `iwae:5000` and `bdmc`."
    return _judged(found)


def _judged(found: Sequence[Ends]) -> tuple[State, str]:
    for ends in found:
        if ends.crossed:
            return "bad", f"The bounds contradict each other{_on(ends)}: {ends.crossed.rstrip('.')}."
    best = _best(found)
    if not best.two_sided:
        state, said = _one_sided(best)
    else:
        width = best.high - best.low
        state = graded(width, CLOSED, WIDE) if width >= 0 else "doubt"
        said = _two_sided(best, found, state)
        state = "doubt" if state == "good" and not best.certified else state
    broken = [label for ends in found for label in ends.broken]
    rising = next((ends.rising for ends in found if ends.rising), "")
    if broken:
        said += f" Values or errors of {listed(broken)} are not a number: look for data the pair rules out."
    if rising:
        said += f" The lower bound is still rising with K: {rising}; take more draws, or a better guide."
    if warning := next((ends.warning for ends in found if ends.warning), ""):
        said += f" Note: {warning.rstrip('.')}."
    return ("doubt" if state == "good" and (broken or rising) else state), said


def _best(found: Sequence[Ends]) -> Ends:
    """A certified bracket before another, one of two ends before one of one, the data given before simulated ones."""
    return max(found, key=lambda ends: (ends.certified, ends.two_sided, ends.on == "data"))


def _on(ends: Ends) -> str:
    return " on data simulated from the model" if ends.on == "simulated" else ""


def _one_sided(ends: Ends) -> tuple[State, str]:
    if ends.lower is not None:
        return "doubt", f"log p(x) is bounded from below only{_on(ends)}, {ends.lower}: add `bdmc`."
    if ends.upper is not None:
        return "doubt", f"log p(x) is bounded from above only{_on(ends)}, {ends.upper}: add `iwae:5000`."
    return "doubt", "log p(x) is not bounded: no bound has both a value and an error; take more draws."


def _two_sided(ends: Ends, found: Sequence[Ends], state: State) -> str:
    word = {"good": "closed", "doubt": "wide", "bad": "open"}.get(state, state)
    by, width = f"from {ends.lower} to {ends.upper}", number(ends.high - ends.low)
    if ends.high < ends.low:
        return f"The ends have changed places{_on(ends)}, {by}, and the errors that would tell why were not kept."
    said = f"The bracket is {word}{_on(ends)}: {width} nats wide, errors included, {by}"
    if not ends.certified:
        said += "; it is not certified, as an end holds only in the limit of many draws: add `bdmc`"
    elif state != "good":
        said += "; take more temperatures or draws"
    if ends.on == "simulated" and ends.certified:
        said += "; it certifies what is said of the model's own samples, not of the data given"
    given = next((other.lower for other in found if other.on == "data" and other is not ends), None)
    return f"{said}. On the data given log p(x) is at least {given}." if given else f"{said}."
