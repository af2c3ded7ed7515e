"""The rows of a verdict on Markov chains that are about each parameter: R-hat, effective sample sizes, errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from inference.diagnostics import checks
from inference.diagnostics.scalars import MANY_CHAINS, MIN_DRAWS, Array, Draws
from inference.diagnostics.verdicts import Check, absent, judged

__all__ = ["Limits", "mixing_checks", "precision_check"]

NESTED = "groups of chains disagree: warm up for longer, so that none remembers where it began"


@dataclass(frozen=True)
class Limits:
    """The thresholds of a verdict, see `diagnose`."""

    rhat: float = 1.01
    nested_rhat: float = 1.01
    ess_bulk: float = 400
    ess_tail: float = 400
    mcse: float = 0.1
    bfmi: float = 0.3
    divergences: float = 0
    restarts: float = 0
    khat: float = math.nan
    loo_khat: float = 0.7


def mixing_checks(draws: Draws, table: pd.DataFrame, limits: Limits) -> list[Check]:
    """R-hat, nested R-hat, and effective sample sizes."""
    more = "run more draws or chains, or reparametrise so that chains move faster"
    return [
        _r_hat(draws, table, limits),
        _worst("nested R-hat", table["r_hat_nested"], limits.nested_rhat, draws, worse="above", fail=NESTED)
        if "r_hat_nested" in table
        else absent("nested R-hat", f"it is for {MANY_CHAINS} chains or more"),
        _worst("bulk ESS", table["ess_bulk"], limits.ess_bulk, draws, worse="below", fail=more),
        _worst("tail ESS", table["ess_tail"], limits.ess_tail, draws, worse="below", fail=f"{more} in the tails"),
    ]


def _r_hat(draws: Draws, table: pd.DataFrame, limits: Limits) -> Check:
    row = _worst("R-hat", table["r_hat"], limits.rhat, draws, worse="above", fail="run longer")
    if row.verdict == "fail":
        at = int(table["r_hat"].to_numpy(na_value=-np.inf).argmax())
        return replace(row, advice=_disagreement(draws.array[at], row.value))
    if row.verdict == "pass" and draws.array.shape[1] == 1:
        advice = "one chain cannot see another mode: run four or more, started apart"
        return replace(row, verdict="unknown", count=row.of, advice=advice)
    return row


def precision_check(draws: Draws, table: pd.DataFrame, limits: Limits) -> Check:
    """The error of the mean as a part of the sd."""
    part = table["mcse_mean"] / table["sd"]
    return _worst("MCSE of the mean / sd", part, limits.mcse, draws, worse="above", fail="run more draws or chains")


def _worst(
    check: str, values: pd.Series[float], threshold: float, draws: Draws, *, worse: Literal["above", "below"], fail: str
) -> Check:
    """The worst parameter, those left out that belong to the form of a variable."""
    few = draws.array.shape[2] < MIN_DRAWS
    why = "it is undefined where draws are constant or not finite: see the rows of that name"
    unknown = checks.too_few(draws.array.shape[2]) if few else why
    kept = values[~draws.structural]
    numbers, names = np.asarray(kept, dtype=np.float64), list(kept.index)
    return judged(check, threshold, numbers, names, worse=worse, fail=fail, unknown=unknown)


def _disagreement(x: Array, r_hat: float) -> str:
    """Why chains `(chain, draw)` disagree: by more than each one's own slowness explains, or not."""
    from arviz_stats.base.array import array_stats

    moving = x[x.max(axis=1) > x.min(axis=1)][:, None]
    each = [array_stats.ess(v, method="bulk") for v in (moving, abs(moving - np.median(x)))] if len(moving) else [1.0]
    explained = 2 / min(np.median(ess) for ess in each)  # of chains that agree R-hat^2 is about 1 + 2 / (ESS of one)
    if r_hat**2 - 1 > 3 * explained:
        return (
            "each chain mixes but they disagree, as with several modes or a chain that is stuck: look at the chains of "
            "this element, start elsewhere, or temper"
        )
    return (
        "chains have not mixed, or are too short: warm up for longer and draw more in each (more chains do not help), "
        "or reparametrise"
    )
