"""Are the components used, and do they say anything of the datum? As `inference.usage` has it, with its thresholds."""

from __future__ import annotations

import math

import numpy as np

from inference.report.evidence import Evidence
from inference.report.examination import Components
from inference.report.judging.words import together
from inference.report.verdict import Judgement, State
from inference.report.words import listed, measured, percent
from inference.usage import NEAR_ZERO

__all__ = ["clusters"]


def clusters(evidence: Evidence) -> Judgement | None:
    """What becomes of components; nothing where there are none."""
    found = evidence.examination.components if evidence.examination is not None else ()
    if not found:
        return None
    return together("Clusters", [Judgement("Clusters", *_used(one), "clusters") for one in found])


def _used(of: Components) -> tuple[State, str]:
    C = len(of.share)
    if C < 2:
        return "doubt", f"`{of.site}` has {C} component, which says nothing of any datum."
    if not _is_finite(of):
        return "doubt", f"How `{of.site}` is used is not known: shares, entropies or scores are not numbers."
    most, largest = math.log(C), int(of.share.argmax())
    share = f"component {largest} of {C} holds {of.share[largest]:.1%} of the data"
    entropy = f"usage entropy {measured(of.entropy, of.entropy_se)} of {most:.2f} nats"
    if of.entropy < NEAR_ZERO * most:
        advice = "start the components from a mixture fitted to latent codes, or keep the best of several seeds"
        return "bad", f"`{of.site}` has collapsed: {share} ({entropy}); {advice}."
    given = f"{measured(of.conditional_entropy, of.conditional_entropy_se)} given the datum"
    if of.information < NEAR_ZERO * of.entropy:
        advice = "let a latent's prior depend on it, or give labels to some data"
        return "bad", f"`{of.site}` ignores the data: {entropy}, {given}; {advice}."
    effective = measured(math.exp(of.entropy), math.exp(of.entropy) * of.entropy_se)
    said = f"{effective} of {C} components of `{of.site}` are in effect, {len(of.dead)} dead{_scores(of)}"
    if dead := _dead(of):
        return "doubt", f"{said}: less than {of.dead_below:.1%} of the data is in {listed(dead)}; ask for fewer."
    return "good", f"{said}."


def _is_finite(of: Components) -> bool:
    single = (of.entropy, of.entropy_se, of.conditional_entropy, of.conditional_entropy_se, of.dead_below)
    numbers = [*single, *of.share, *of.scores.values(), *of.scores_se.values()]
    return bool(np.isfinite(numbers).all()) and (of.confusion is None or bool(np.isfinite(of.confusion).all()))


def _dead(of: Components) -> tuple[int, ...]:
    """Dead components; of those in an order the ones before a living one, as the end of a stick is always thin."""
    living = [c for c in range(len(of.share)) if c not in of.dead]
    return tuple(c for c in of.dead if not of.ordered or (living and c < living[-1]))


def _scores(of: Components) -> str:
    named = {"accuracy": "accuracy", "nmi": "NMI"}
    errors = of.scores_se
    said = [f"{named[k]} {percent(of.scores[k], errors.get(k, math.nan))}" for k in named if k in of.scores]
    return f"; {', '.join(said)} against the labels" if said else ""
