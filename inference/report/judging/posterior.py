"""What else is asked of a posterior: its predictions, the prior's part in it, leaving data out, its calibration."""

from __future__ import annotations

import numpy as np
import pandas as pd

from inference.diagnostics import Calibration
from inference.diagnostics.verdicts import Check
from inference.report.evidence import Evidence
from inference.report.judging.chains import LOO, has_passed, row_in_words
from inference.report.judging.words import together
from inference.report.sensitivity import SENSITIVE
from inference.report.verdict import Judgement, State
from inference.report.words import listed, number

__all__ = ["calibration", "leave_one_out", "predictive", "sensitivity"]

EXTREME = 0.0005
"""A p-value nearer to 0 or 1 is bad, not doubtful."""

INFLUENTIAL = 0.1
"""The share of observations whose k-hat fails above which leave-one-out is bad, not doubtful."""


# -- predictive ----------------------------------------------------------------------------------------------


def predictive(evidence: Evidence) -> Judgement:
    """Whether the posterior makes data like those it was given."""
    return Judgement("Predictive check", *_predictive(evidence), "predictive")


def _predictive(evidence: Evidence) -> tuple[State, str]:
    found = evidence.predictive
    if found is None or found.frame.empty:
        return "absent", "Data have not been compared with those the posterior makes: sample with `predictive=True`."
    frame = found.frame
    distance = np.minimum(frame["p_value"].to_numpy(), 1 - frame["p_value"].to_numpy())
    failed = frame.assign(distance=distance)[frame["verdict"] == "fail"].sort_values("distance")
    if len(failed):
        worst = failed.iloc[0]
        others = f", and {len(failed) - 1} more of {len(frame)} statistics fail" if len(failed) > 1 else ""
        said = (
            f"the {worst['statistic']} of `{worst['variable']}` is {number(worst['observed'])}, that of replicated "
            f"data {number(worst['predicted'])} (sd {number(worst['sd'])}), p = {number(worst['p_value'])}{others}"
        )
        state: State = "bad" if worst["distance"] < EXTREME else "doubt"
        return state, f"The model does not make such data: {said}; mend what it says of this."
    numbers = frame[["observed", "predicted", "sd", "p_value"]].to_numpy(dtype=np.float64)
    if not np.isfinite(numbers).all() or not (frame["verdict"] == "pass").all():
        return "doubt", "Some numbers of the predictive check are not known: look at the data and their replicates."
    statistic, variable, p_value = frame[["statistic", "variable", "p_value"]].to_numpy()[int(distance.argmin())]
    said = f"the least likely is the {statistic} of `{variable}`, p = {number(p_value)}"
    return "good", f"The data look like the model's own in {len(frame)} statistics: {said} (limit {found.alpha / 2:g})."


# -- sensitivity ---------------------------------------------------------------------------------------------


def sensitivity(evidence: Evidence) -> Judgement:
    """Whether prior and data pull apart, or the prior alone decides."""
    return Judgement("Prior", *_sensitivity(evidence.sensitivity), "predictive")


def _sensitivity(frame: pd.DataFrame | None) -> tuple[State, str]:
    if frame is None or frame.empty or not {"prior", "likelihood", "diagnosis"} <= set(frame):
        return "absent", "Nobody has looked at how much the prior matters: keep `log_prior` and `log_likelihood`."
    frame = frame.sort_values("prior", ascending=False)
    said = frame["diagnosis"].astype(str)
    conflict = frame[said.str.contains("conflict")]
    strong = frame[said.str.contains("strong prior|weak likelihood")]
    numbers = frame[["prior", "likelihood"]].to_numpy(dtype=np.float64)
    unknown = frame[~np.isfinite(numbers).all(axis=1) | frame["diagnosis"].isna() | said.str.contains("unknown")]
    if len(conflict):
        about = f"{listed(list(conflict.index))} ({_sensitivities(conflict)})"
        return "doubt", f"Prior and data disagree about {about}: ask whether the prior means what it says."
    if len(strong):
        about = f"{listed(list(strong.index))} ({_sensitivities(strong)})"
        return "doubt", f"The prior matters more than the data for {about}: say so, and justify the prior."
    if len(unknown):
        names = listed(list(unknown.index))
        return "doubt", f"How much the prior matters is not known for {names}: the sensitivity is not a number."
    most = f"`{frame['prior'].idxmax()}`, by {number(float(frame['prior'].max()))} (limit {SENSITIVE})"
    return "good", f"None of {len(frame):,} parameters depends on the prior unduly: the most sensitive is {most}."


def _sensitivities(frame: pd.DataFrame) -> str:
    first = frame.iloc[0]
    return f"sensitivity {number(first['prior'])} to the prior, {number(first['likelihood'])} to the likelihood"


# -- leave-one-out -------------------------------------------------------------------------------------------


def leave_one_out(evidence: Evidence) -> Judgement:
    """Whether a datum can be left out by weights."""
    rows = [row for row in (evidence.diagnosis.rows if evidence.diagnosis else ()) if row.check.startswith(LOO)]
    found = [Judgement("Leave-one-out", *_left_out(row), "predictive") for row in rows]
    if not found:
        why = "Leave-one-out was not looked at: run `diagnose` on draws with `log_likelihood`."
        found = [Judgement("Leave-one-out", "absent", why, "predictive")]
    return together("Leave-one-out", found)


def _left_out(row: Check) -> tuple[State, str]:
    if row.verdict == "not applicable":
        return "absent", f"Leave-one-out was not looked at: {row.advice.rstrip('.')}."
    if row.verdict == "fail":
        state: State = "bad" if row.of and row.count > INFLUENTIAL * row.of else "doubt"
        return state, f"Leave-one-out cannot be had by weights: {row_in_words(row)}."
    if has_passed(row):
        largest = f"the largest k-hat is {number(row.value)} (limit {number(row.threshold)})"
        name = row.check.removeprefix(f"{LOO} of ")
        return "good", f"Each of {row.of:,} observations of `{name}` can be left out: {largest}."
    return "doubt", f"Whether observations can be left out is not known: {row.advice.rstrip('.') or 'no number'}."


# -- calibration ---------------------------------------------------------------------------------------------


def calibration(evidence: Evidence) -> Judgement:
    """Whether true values lie among draws as they should, on simulated data."""
    return Judgement("Calibration", *_calibrated(evidence.calibration), "calibration")


def _calibrated(found: Calibration | None) -> tuple[State, str]:
    if found is None:
        return "not applicable", "Calibration was not simulated."
    if not found.ranks or not found.num_datasets:
        return "absent", "The calibration has no ranks in it: simulate again."
    if any(not np.issubdtype(np.asarray(ranks).dtype, np.integer) for ranks in found.ranks.values()):
        return "doubt", "The ranks of the calibration are not whole numbers: simulate again."
    said = f"{found.num_datasets:,} simulated data sets, {len(found.ranks)} parameters"
    if not found.sampled:
        return "bad", f"The chains of the calibration have not mixed on {said}: run them for longer."
    failed = found.frame[found.frame["verdict"] != "pass"]
    least = float(found.frame["p_value"].min())
    if len(failed):
        names = listed(list(failed["parameter"]))
        return "bad", f"Draws of {names} are not calibrated on {said} (least p = {number(least)}): find the fault."
    return "good", f"Draws are calibrated on {said}: the least p-value is {number(least)}."
