"""Which term of `glossary.toml` defines a column of a table."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files

__all__ = ["TERMS", "glossary", "terms_for"]


@cache
def glossary() -> Mapping[str, str]:
    """Every term and what it means."""
    return tomllib.loads((files("inference.report") / "glossary.toml").read_text(encoding="utf-8"))


TERMS: Mapping[str, str] = {
    "value": "nats per datum",
    "se": "standard error",
    "standard_error": "error of draws",
    "mc_se": "error of draws",
    "low": "interval",
    "high": "interval",
    "bound": "bound",
    "K": "K",
    "direction": "direction",
    "guarantee": "guarantee",
    "khat": "k-hat",
    "k-hat": "k-hat",
    "ess": "ESS",
    "ESS": "ESS",
    "log p(x)": "log p(x)",
    "mean": "posterior mean",
    "sd": "sd",
    "mcse_mean": "MCSE",
    "mcse_sd": "MCSE",
    "ess_bulk": "bulk ESS",
    "ess_tail": "tail ESS",
    "r_hat": "R-hat",
    "r_hat_nested": "nested R-hat",
    "check": "check",
    "threshold": "threshold",
    "verdict": "verdict",
    "KL": "KL",
    "activity": "activity",
    "active": "active unit",
    "told apart": "told apart",
    "share": "share",
    "usage entropy": "usage entropy",
    "conditional entropy": "conditional entropy",
    "p_value": "p-value",
    "elpd": "elpd",
    "prior": "power scaling",
    "likelihood": "power scaling",
    "mean_rank": "rank",
    "spread": "spread",
    "difference": "paired difference",
    "loss": "loss",
    "validation": "validation",
    "grad_norm": "gradient norm",
    "free_energy": "free energy",
}
"""The term that defines a column of that name."""


def terms_for(columns: Iterable[str], **others: str) -> dict[str, str]:
    """The terms of the columns that have one.

    >>> terms_for(["datum", "khat"])
    {'khat': 'k-hat'}
    """
    known = {**TERMS, **others}
    return {column: known[column] for column in columns if column in known}
