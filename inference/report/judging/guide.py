"""Can the guide's weights be trusted? Pareto k-hat datum by datum, and the chains on those it does worst on."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from inference.diagnostics import khat_threshold
from inference.ladder import HEAVY
from inference.report.evidence import Evidence
from inference.report.examination import Array
from inference.report.judging.chains import has_passed, method_of, on_chains, row_in_words
from inference.report.judging.ends import FITTED_FROM
from inference.report.judging.words import graded, is_posterior, together
from inference.report.verdict import Judgement, State
from inference.report.words import listed, number, of_data

__all__ = ["guide"]

FEW, MANY = 0.1, 0.25
"""Shares of the data above it: up to the one a guide is good, above the other it is bad."""


@dataclass(frozen=True, eq=False)
class _Weights:
    """K-hat of n data from K draws each; effective draws where they are known."""

    khat: Array
    num_particles: int
    ess: Array | None = None


def guide(evidence: Evidence) -> Judgement:
    """Whether the guide is near enough to the posterior for its weights to be used."""
    return together("Guide", [_on_weights(evidence), *_on_worst(evidence)])


def _on_weights(evidence: Evidence) -> Judgement:
    weights = _weights(evidence)
    if weights is not None:
        return Judgement("Guide", *_weighed(weights), "guide")
    if is_posterior(evidence) and method_of(evidence) != "MCMC":
        return Judgement("Guide", *_of_draws(evidence), "guide")
    if is_posterior(evidence) and not evidence.is_pair:
        return Judgement("Guide", "not applicable", "The draws are of Markov chains: there is no guide.", "guide")
    why = "Nobody has looked at the guide: run `examine`, or `compare_bounds` with 25 particles or more."
    return Judgement("Guide", "absent", why, "guide")


def _weights(evidence: Evidence) -> _Weights | None:
    found = evidence.examination
    if found is not None and "khat" in found.per_datum and len(found.per_datum):
        ess = found.per_datum["ess"].to_numpy(dtype=np.float64) if "ess" in found.per_datum else None
        return _Weights(found.per_datum["khat"].to_numpy(dtype=np.float64), found.num_particles, ess)
    ladder = evidence.ladder
    drawn = [row.num_particles for row in ladder.rows if row.source == "guide"] if ladder is not None else []
    if ladder is None or not drawn or not len(ladder.khat) or bool(ladder.khat.isnan().all()):
        return None
    return _Weights(ladder.khat.detach().double().cpu().numpy(), max(drawn))


def _weighed(weights: _Weights) -> tuple[State, str]:
    K, khat, n = weights.num_particles, weights.khat, len(weights.khat)
    if K < FITTED_FROM and np.isnan(khat).all():
        return "doubt", f"K = {K} is too few to fit k-hat: {FITTED_FROM} draws are the least, 1,000 are better."
    heavy, limit = np.isnan(khat) | (khat > HEAVY), khat_threshold(K)
    share, scarce = float(heavy.mean()), float((np.isnan(khat) | (khat > limit)).mean())
    above = f"k-hat is above {HEAVY} for {of_data(share, n)} at K = {K:,}"
    state = graded(share, FEW, MANY)
    if np.isnan(khat).any():
        above += f", {int(np.isnan(khat).sum()):,} of them without one"
    if state == "good" and scarce > FEW:
        said = f"above {limit:.2f} for {of_data(scarce, n)}"
        return (
            "doubt",
            f"K = {K:,} is too few for this guide (k-hat is {said}): about {_needed(khat)} draws are needed.",
        )
    effective = "" if weights.ess is None else f"; {_effective(weights.ess, K)}"
    if state == "good" and weights.ess is not None and np.isnan(weights.ess).mean() > FEW:
        return "doubt", f"The effective draws of the guide are not known for many data: {above}{effective}."
    if state == "good":
        return state, f"The guide's weights can be used: {above}{effective}."
    doubt = "misses part of the posterior" if state == "bad" else "is doubtful"
    return state, f"The guide {doubt}: {above}{effective}; use a richer guide, or train on."


def _needed(khat: Array) -> str:
    """Draws that nine data of ten make do with, rounded up to two digits."""
    k = float(np.quantile(np.where(np.isnan(khat), np.inf, khat), 0.9, method="inverted_cdf"))
    draws = 10 ** (1 / (1 - k))
    step = 10 ** max(0, math.floor(math.log10(draws)) - 1)
    return f"{math.ceil(draws / step) * step:,}"


def _effective(ess: Array, K: int) -> str:
    if np.isnan(ess).all():
        return "the effective draws are not known"
    unknown = int(np.isnan(ess).sum())
    beside = f" ({unknown:,} data without)" if unknown else ""
    return f"the median number of effective draws is {number(float(np.nanmedian(ess)))} of {K:,}{beside}"


def _of_draws(evidence: Evidence) -> tuple[State, str]:
    """A posterior's draws that are a guide's."""
    rows = [row for row in (evidence.diagnosis.rows if evidence.diagnosis else ()) if row.check == "k-hat"]
    if not rows:
        return "absent", "The draws are a guide's, and nobody has looked at their k-hat: run `diagnose`."
    row = rows[0]
    if row.verdict == "fail":
        return "bad", f"The guide is not the posterior: {row_in_words(row)}."
    if has_passed(row):
        return "good", f"The guide's weights can be used: k-hat is {number(row.value)} (limit {number(row.threshold)})."
    return "doubt", f"The k-hat of the guide's draws is not known: {row.advice.rstrip('.') or 'it is not a number'}."


def _on_worst(evidence: Evidence) -> Iterator[Judgement]:
    """What is said of the data the guide does worst on stands on chains of theirs."""
    worst, diagnosis = evidence.worst, evidence.worst_diagnosis
    if worst is None and diagnosis is None:
        return
    said, why = "The guide cannot be compared with the posterior of its worst data", ""
    if diagnosis is None:
        why = "the chains on them have not been judged"
    elif worst is None:
        why = "the draws of the chains on them are not here"
    elif on_chains(diagnosis)[0] != "good":
        failed = [row for row in diagnosis.rows if row.verdict == "fail" and not row.check.startswith("LOO")]
        which = listed(list(dict.fromkeys(row.check for row in failed))) or "some checks are unknown"
        where = f", at `{failed[0].where}`" if failed and failed[0].where else ""
        why = f"the chains on them have not mixed ({which}{where}); run these for longer"
    if why:
        yield Judgement("Guide", "doubt", f"{said}: {why}.", "guide")
    else:
        yield Judgement("Guide", "good", "The chains on the data it does worst on have mixed.", "guide")
