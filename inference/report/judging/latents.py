"""Are the latents used, and is the prior where the codes are? And is all that a pair makes a number?"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from inference.report.evidence import Evidence
from inference.report.examination import Array, Examination, LatentUse
from inference.report.judging.ends import FITTED_FROM
from inference.report.judging.words import graded, together
from inference.report.verdict import Judgement, State
from inference.report.words import listed, measured, percent

__all__ = ["latents", "numbers", "prior"]

ALIKE, APART = 0.65, 0.85
"""Shares of draws told rightly: up to the one codes and prior are alike, above the other they are apart."""

LENIENCY = 2.0
"""Standard errors taken off such a share."""

VAGUE = 0.1
"""A standard error above which such a share says nothing."""


def latents(evidence: Evidence) -> Judgement:
    """Whether the units of each site say anything of the datum."""
    if missing := _not_looked_at(evidence, "Latents"):
        return missing
    assert evidence.examination is not None
    found = [Judgement("Latents", *_used(one), "latents") for one in evidence.examination.latents]
    return together("Latents", found)


def prior(evidence: Evidence) -> Judgement:
    """Whether the model's own draws are where the guide's codes are."""
    if missing := _not_looked_at(evidence, "Prior"):
        return missing
    assert evidence.examination is not None
    found = [Judgement("Prior", *_alike(one), "latents") for one in evidence.examination.latents]
    return together("Prior", found)


def _not_looked_at(evidence: Evidence, topic: str) -> Judgement | None:
    """Why there is no site to judge."""
    found = evidence.examination
    if found is None:
        return Judgement(topic, "absent", "No latents were examined: run `examine`.", "latents")
    if not found.latents and found.components:
        why = f"Every latent site is discrete: see {listed([one.site for one in found.components])}."
        return Judgement(topic, "not applicable", why, "latents")
    if not found.latents:
        return Judgement(topic, "absent", "The examination has no latents in it: run `examine`.", "latents")
    return None


def _used(use: LatentUse) -> tuple[State, str]:
    D, active = len(use.variance), use.active
    unknown = int(np.isnan(use.variance).sum()) if not math.isnan(use.threshold) else D
    if unknown or not D:
        return "doubt", f"Whether `{use.site}` is used is not known: {unknown} of {D} units have no variance."
    mixed = len(use.kl) == 1 < D and bool(np.isnan(use.kl).all())
    kl = f"KL {measured(use.total_kl, use.total_kl_se, 'nats')}"
    kl = "its law sums over another site, so it has no KL of its own" if mixed else kl
    said = f"{active} of {D} units of `{use.site}` are active (threshold {use.threshold:g}), {kl}"
    advice = "let the KL rise slowly, weaken the decoder, or ask for fewer units"
    if not active:
        return "bad", f"The posterior of `{use.site}` has collapsed onto the prior: {said}; {advice}."
    if 2 * active < D:
        return "doubt", f"Most units are idle: {said}; {advice}."
    if not mixed and not (np.isfinite(use.kl).all() and np.isfinite([*use.kl_se, use.total_kl_se]).all()):
        return "doubt", f"{said}: its KL or the error of it is not known."
    return "good", f"{said}."


def _alike(use: LatentUse) -> tuple[State, str]:
    share, error = use.told_apart, use.told_apart_se
    if not (math.isfinite(share) and error <= VAGUE):
        told = percent(share, error)
        return "doubt", f"Whether `{use.site}` has codes where its prior is cannot be told ({told} told apart)."
    state = graded(share - LENIENCY * error, ALIKE, APART)
    said = (
        f"the guide's codes and the prior's draws of `{use.site}` are told apart in {percent(share, error)} of cases, "
        "50 % being the same"
    )
    if state == "good":
        return state, f"Prior and codes agree: {said}."
    return state, f"Prior and codes differ: {said}; samples come from where no datum is, so take a richer prior."


def numbers(evidence: Evidence) -> Judgement | None:
    """What a pair makes that is not finite; nothing where all of it is."""
    if evidence.examination is None:
        return None
    made = [*_made(evidence.examination), *_estimated(evidence.examination)]
    wrong = [name for name, values in made if not np.isfinite(values).all()]
    if not wrong:
        return None
    said = f"Not all that the pair makes is finite ({listed(wrong)}): find where the model or the guide overflows."
    return Judgement("Numbers", "doubt", said, "latents")


def _made(found: Examination) -> Iterator[tuple[str, Array]]:
    for use in found.latents:
        yield f"codes of {use.site}", use.codes
        yield f"prior of {use.site}", use.prior
    if found.pictures is not None:
        yield "reconstructions", found.pictures.reconstructions
        yield "samples", found.pictures.samples
        yield "interpolations", found.pictures.interpolations
    if found.worst is not None:
        yield "reconstructions of the worst data", found.worst.reconstructions


def _estimated(found: Examination) -> Iterator[tuple[str, Array]]:
    """Numbers of each datum; k-hat may lack for some, and for all where there are too few draws."""
    for which, frame in (("held-out", found.per_datum), ("training", found.train)):
        for name in ("value", "standard_error", "ess", "khat"):
            if frame is None or name not in frame:
                continue
            if name != "khat" or (found.num_particles >= FITTED_FROM and frame[name].isna().all()):
                yield f"{name} of {which} data", frame[name].to_numpy(dtype=np.float64)
