"""`judge`: what is thought of a run, from its evidence alone.

Nothing is good by default: what nobody has looked at is absent, what is not a number is doubtful, what cannot be asked
of such a run is not applicable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from inference.report.evidence import Evidence
from inference.report.judging.bracketing import bracket
from inference.report.judging.chains import chains
from inference.report.judging.clusters import clusters
from inference.report.judging.density import density, no_guide
from inference.report.judging.draws import numbers_drawn, samples, section_of
from inference.report.judging.guide import guide
from inference.report.judging.latents import latents, numbers, prior
from inference.report.judging.overfitting import overfitting
from inference.report.judging.posterior import calibration, leave_one_out, predictive, sensitivity
from inference.report.judging.training import training
from inference.report.judging.words import is_posterior, together
from inference.report.verdict import Judgement, Verdict
from inference.report.words import listed

__all__ = ["judge"]


def judge(evidence: Evidence) -> Verdict:
    """Say what is wrong, what is doubtful and what nobody has looked at; no model is run.

    >>> judge(Evidence("nothing")).colour
    'amber'
    """
    return Verdict(
        tuple(_told(*one, evidence) for one in _first(evidence)),
        tuple(found for one in _others(evidence) if (found := _told(*one, evidence)) is not None),
    )


_Found = TypeVar("_Found", bound=Judgement | None)


def _told(topic: str, judged: Callable[[Evidence], _Found], section: str, evidence: Evidence) -> _Found | Judgement:
    """A judgement, or why there is none: a part that nobody foresaw must not cost a reader the rest."""
    try:
        return judged(evidence)
    except Exception as error:  # whatever it was, it is told
        why = f"This could not be judged ({type(error).__name__}: {error}): look at the part by itself."
        return Judgement(topic, "doubt", why, section)


def _first(evidence: Evidence) -> Iterator[tuple[str, Callable[[Evidence], Judgement], str]]:
    """The three that matter, what judges them, and where they are shown."""
    has_guide = evidence.kind is None
    yield "Convergence", convergence, "training"
    yield ("Guide", guide, "guide") if has_guide else ("Guide", no_guide, "density")
    yield ("Bracket", bracket, "ladder") if has_guide else ("Bracket", density, "density")


def _others(evidence: Evidence) -> Iterator[tuple[str, Callable[[Evidence], Judgement | None], str]]:
    """Topics that apply to such evidence, what judges them, and where they are shown."""
    pair, posterior = evidence.is_pair, is_posterior(evidence)
    if pair or evidence.kind:
        yield "Overfitting", overfitting, "training"
    if evidence.kind:
        yield "Samples", samples, section_of(evidence)
    if pair:
        yield "Latents", latents, "latents"
    if pair or posterior:
        yield "Prior", _prior, "latents" if pair else "predictive"
    if pair:
        yield "Clusters", clusters, "clusters"
    if posterior:
        yield "Predictive check", predictive, "predictive"
        yield "Leave-one-out", leave_one_out, "predictive"
    if pair or posterior or evidence.calibration is not None:
        yield "Calibration", calibration, "calibration"
    yield ("Numbers", _numbers, "drawn") if evidence.kind else ("Numbers", numbers, "latents")
    yield "Missing", missing, "provenance"


def convergence(evidence: Evidence) -> Judgement:
    """Whether training has come to its end, and whether draws are converged: the worse of the two."""
    found = [training(evidence)] if evidence.is_pair or evidence.kind else []
    found += [chains(evidence)] if is_posterior(evidence) else []
    if not found:
        why = "Nothing is known of any training or of any draws."
        found = [Judgement("Convergence", "absent", why, "training")]
    return together("Convergence", found)


def _prior(evidence: Evidence) -> Judgement:
    found = [prior(evidence)] if evidence.is_pair else []
    found += [sensitivity(evidence)] if is_posterior(evidence) else []
    return together("Prior", found)


def _numbers(evidence: Evidence) -> Judgement | None:
    wrong = numbers_drawn(evidence.outcome) if evidence.outcome is not None else []
    if not wrong:
        return None
    said = f"Not all that the model makes is finite ({listed(wrong)}): find where it overflows."
    return Judgement("Numbers", "doubt", said, "drawn")


def missing(evidence: Evidence) -> Judgement | None:
    """What could not be read or found out; pictures are shown, not judged."""
    examined = evidence.examination.missing if evidence.examination is not None else {}
    parts = {**evidence.missing, **{name: why for name, why in examined.items() if name not in ("pictures", "worst")}}
    parts |= evidence.outcome.missing if evidence.outcome is not None else {}
    if not parts:
        return None
    first, why = next(iter(parts.items()))
    others = f"; nor could {listed(list(parts)[1:], 10)}" if len(parts) > 1 else ""
    said = f"The {first} could not be had: {why.rstrip('.')}{others}."
    return Judgement("Missing", "doubt", said, "provenance")
