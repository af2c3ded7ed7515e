"""Are draws of a posterior converged? What the verdict on them says, the rows on leave-one-out left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from inference.diagnostics import Diagnosis
from inference.diagnostics.verdicts import Check
from inference.report.evidence import Evidence
from inference.report.verdict import Judgement, State
from inference.report.words import listed, number

__all__ = ["LOO", "chains", "has_passed", "method_of", "on_chains", "row_in_words"]

LOO = "LOO k-hat"
"""How the names of the rows on leave-one-out begin."""

GRAVEST = (
    "non-finite draws",
    "constant parameters",
    "stuck chains",
    "R-hat",
    "nested R-hat",
    "divergences",
    "BFMI",
    "bulk ESS",
    "tail ESS",
    "MCSE of the mean / sd",
    "restarts",
)
"""Checks in the order in which one would mend what fails."""

NAMED = ("R-hat", "bulk ESS", "tail ESS", "divergences", "MCSE of the mean / sd")
"""Checks whose numbers are told where all pass."""


def chains(evidence: Evidence) -> Judgement:
    """Whether the draws of `posterior` can be taken for draws of it, as far as chains can say."""
    found = _draws(evidence)
    return Judgement("Convergence", *found, "chains")


def _draws(evidence: Evidence) -> tuple[State, str]:
    diagnosis, method = evidence.diagnosis, method_of(evidence)
    if diagnosis is None and evidence.posterior is None:
        return "absent", "There are no draws of the posterior, and no verdict on any."
    if diagnosis is None:
        state, said = _absent(evidence)
    else:
        state, said = on_chains(diagnosis)
        if state == "good" and method != "MCMC":
            state, said = "not applicable", f"The draws are of a guide ({method}): there are no chains to converge."
    if state not in ("good", "not applicable"):
        return state, said
    if evidence.posterior is None:
        return "doubt", f"{said} But the draws that were judged are not here."
    if _is_partial(evidence):
        return "doubt", f"{said} But the run was interrupted: resume it, or judge it as the shorter run it is."
    return state, said


def _absent(evidence: Evidence) -> tuple[State, str]:
    if _is_partial(evidence):
        return "doubt", "The run was interrupted and its draws have not been judged: resume it, and run `diagnose`."
    return "absent", "The draws have not been judged: run `diagnose`."


def _is_partial(evidence: Evidence) -> bool:
    """Whether the tree or the run says that there should be more draws."""
    return bool(_attribute(evidence, "partial")) or evidence.manifest.get("status") in ("started", "interrupted")


def method_of(evidence: Evidence) -> str:
    """What the draws of `posterior` are of: "MCMC", "VI" or "IS"."""
    if evidence.diagnosis is not None:
        return evidence.diagnosis.method
    return str(_attribute(evidence, "inference_method") or "MCMC")


def _attribute(evidence: Evidence, name: str) -> Any:
    tree = evidence.posterior
    if tree is None:
        return None
    inside = tree["posterior"].attrs if "posterior" in tree.children else {}
    return tree.attrs.get(name, inside.get(name))


# -- rows ----------------------------------------------------------------------------------------------------


def _rows_on_draws(diagnosis: Diagnosis) -> list[Check]:
    """The rows that are neither on leave-one-out nor on a guide's weights."""
    return [row for row in diagnosis.rows if not row.check.startswith(LOO) and row.check != "k-hat"]


def on_chains(diagnosis: Diagnosis) -> tuple[State, str]:
    """What these rows come to; an interrupted run is doubtful, as the draws that there are may be good."""
    rows = [row for row in _rows_on_draws(diagnosis) if row.verdict != "not applicable"]
    failed = sorted((row for row in rows if row.verdict == "fail" and row.check != "complete run"), key=_gravity)
    if failed:
        return "bad", f"The draws are not converged: {row_in_words(failed[0])}.{_others(failed[1:])}"
    partial = [row for row in rows if row.verdict == "fail"]
    unknown = partial + [row for row in rows if row.verdict != "fail" and not has_passed(row)]
    if unknown:
        names = listed(list(dict.fromkeys(row.check for row in unknown)))
        return "doubt", f"Whether the draws are converged is not known ({names}): {_why(unknown[0])}."
    if not rows:
        return "doubt", "Whether the draws are converged is not known: no check was made; run `diagnose`."
    return "good", f"The draws pass {len(rows)} checks: {_numbers(rows)}."


def has_passed(row: Check) -> bool:
    """Whether a row says so and has the numbers to say it."""
    return row.verdict == "pass" and not math.isnan(row.value) and not math.isnan(row.threshold)


def _gravity(row: Check) -> int:
    return GRAVEST.index(row.check) if row.check in GRAVEST else len(GRAVEST)


def _why(row: Check) -> str:
    return row.advice.rstrip(".") or "its value is not a number"


def row_in_words(row: Check) -> str:
    """A row that fails: what, how much, where, and what to do."""
    where = f" at `{row.where}`" if row.where else ""
    count = f", {row.count:,} of {row.of:,} fail" if row.count and row.of > 1 else ""
    advice = f"; {row.advice.rstrip('.')}" if row.advice else ""
    return f"{row.check} {number(row.value)} (limit {number(row.threshold)}){where}{count}{advice}"


def _others(rows: Sequence[Check]) -> str:
    names = list(dict.fromkeys(row.check for row in rows))
    return f" Also failing: {listed(names)}." if names else ""


def _numbers(rows: Sequence[Check]) -> str:
    said = [f"{row.check} {number(row.value)} (limit {number(row.threshold)})" for row in rows if row.check in NAMED]
    return ", ".join(said) if said else listed([row.check for row in rows])
