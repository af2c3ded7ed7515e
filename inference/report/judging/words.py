"""What a verdict is of, and the worse of several findings."""

from __future__ import annotations

import math
from collections.abc import Iterable

from inference.report.evidence import Evidence
from inference.report.verdict import Judgement, State

__all__ = ["graded", "is_posterior", "together"]

FROM_THE_WORST: tuple[State, ...] = ("bad", "doubt", "absent", "good", "not applicable")


def is_posterior(evidence: Evidence) -> bool:
    """Whether there are draws of a posterior to judge, or should be."""
    parts = (evidence.posterior, evidence.diagnosis, evidence.predictive, evidence.sensitivity)
    return any(part is not None for part in parts) or evidence.manifest.get("kind") == "posterior"


def together(topic: str, findings: Iterable[Judgement]) -> Judgement:
    """Several findings on one topic as one: the state and the section of the worst, which is told first."""
    found = sorted(findings, key=lambda one: FROM_THE_WORST.index(one.state))
    return Judgement(topic, found[0].state, " ".join(one.sentence for one in found), found[0].section)


def graded(value: float, good: float, doubt: float) -> State:
    """Up to `good`, up to `doubt`, or above both; what is not a number is doubtful.

    >>> graded(0.1, 0.1, 0.25), graded(0.2, 0.1, 0.25), graded(0.3, 0.1, 0.25), graded(math.nan, 0.1, 0.25)
    ('good', 'doubt', 'bad', 'doubt')
    """
    if math.isnan(value):
        return "doubt"
    return "good" if value <= good else "doubt" if value <= doubt else "bad"
