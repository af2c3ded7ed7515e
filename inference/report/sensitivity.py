"""How far a posterior moves if the prior, or the likelihood, is raised to a power near one.

References:
    Kallioinen, Paananen, Bürkner and Vehtari, *Detecting and diagnosing prior and likelihood sensitivity with
    power-scaling*, 2024, arXiv 2107.14054.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from inference.diagnostics import Diagnosis
from inference.report.figures.selecting import quiet, selected

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["MOST", "SENSITIVE", "sensitivity_of"]

SENSITIVE = 0.05
"""From here on a parameter depends on what is scaled."""

MOST = 100
"""Parameters that are looked at, the first: each takes some milliseconds."""


def sensitivity_of(tree: xr.DataTree, diagnosis: Diagnosis) -> pd.DataFrame:
    """Of the first parameters of a verdict: `prior`, `likelihood`, and a `diagnosis` in words, by `arviz_stats.psense`.

    Of the prior only what stands in no plate is scaled, where there is such: scaling the law of the members of a group
    along with the group's own says nothing of either.

    Args:
        tree: groups `posterior`, `log_prior` and `log_likelihood`.
        diagnosis: whose parameters are meant.
    """
    import xarray as xr
    from arviz_stats import psense  # type: ignore[attr-defined]

    names = list(dict.fromkeys(map(str, diagnosis.parameters.index)))[:MOST]
    draws = selected(tree, names)
    plain = {f"p{i}": (("chain", "draw"), draws[name]) for i, name in enumerate(names)}  # a tree takes no slash
    prior = tree["log_prior"].to_dataset()
    small = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(plain, {"chain": prior["chain"], "draw": prior["draw"]}),
            "log_prior": prior,
            "log_likelihood": tree["log_likelihood"].to_dataset(),
        }
    )
    top = [str(name) for name, part in prior.data_vars.items() if set(part.dims) <= {"chain", "draw"}]
    columns: dict[str, list[float]] = {}
    for group, of in (("prior", top or None), ("likelihood", None)):
        with quiet():
            found = psense(small, group=group, group_var_names=of)
        columns[group] = [float(found[name]) for name in plain]
    frame = pd.DataFrame(columns, index=pd.Index(names))
    frame["diagnosis"] = [_said(*row) for row in frame.to_numpy()]
    return frame


def _said(prior: float, likelihood: float) -> str:
    """What the two sensitivities say together, as Kallioinen et al. read them."""
    if np.isnan(prior) or np.isnan(likelihood):
        return "unknown"
    if prior < SENSITIVE:
        return "not sensitive to the prior"
    return "prior-data conflict" if likelihood >= SENSITIVE else "strong prior or weak likelihood"
