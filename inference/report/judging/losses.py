"""Losses that say nothing of how far training has come: those of a game and of a contrast need not fall."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inference.report.evidence import Evidence
from inference.report.examination import Array
from inference.report.verdict import State

__all__ = ["not_finite", "without_measure"]

FALLING = ("ExactLikelihood", "Denoising")
"""Objectives without a guide whose loss is minus log p(x), minus a bound on it, or a squared error."""

NO_MEASURE: Mapping[str, str] = {
    "Adversarial": "The losses of a game move against each other",
    **dict.fromkeys(
        ("ContrastiveDivergence", "PersistentContrastiveDivergence"),
        "A contrast of free energies is no bound on log p(x), and need not fall",
    ),
    "BoltzmannLearning": "A contrast of energies is no bound on log p(x), and need not fall",
}
"""Why the losses of an objective say nothing."""


def without_measure(evidence: Evidence, losses: Mapping[str, Array], last: str) -> tuple[State, str] | None:
    """What is said of losses that need not fall, whose last are `last`; nothing of those that should fall."""
    objective = str(evidence.manifest.get("objective", "")).partition("(")[0]
    if evidence.kind is None or objective in FALLING or (evidence.kind == "transition" and not objective):
        return None
    if broken := not_finite(losses):
        return "doubt", broken
    why = NO_MEASURE.get("Adversarial" if evidence.kind == "implicit" else objective)
    if why is None:
        named = f"of `{objective}`" if objective else "of an objective that the run does not name"
        return "doubt", f"Training has finished; whether a loss {named} should fall is not known here ({last})."
    judged = "judge the draws" if evidence.kind == "implicit" else "judge it by log p(x)"
    said = f"{why}, so the course is no measure of progress ({last}): {judged}"
    return "not applicable", f"Training has finished. {said}."


def not_finite(losses: Mapping[str, Array]) -> str:
    """What is said of losses that are not finite in some reports; nothing where all are."""
    for name, values in losses.items():
        if count := int((~np.isfinite(values)).sum()):
            return f"`{name}` is not finite in {count} of {len(values)} reports: look at them."
    return ""
