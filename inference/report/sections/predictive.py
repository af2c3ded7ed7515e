"""Whether the data are such as the program makes, and what it depends on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from inference.report.blocks import Block, Note, Picture, Section, Table, Text
from inference.report.evidence import Evidence
from inference.report.figures import loo_khat_figure, loo_pit_figure, ppc_figure, sensitivity_figure
from inference.report.glossary import terms_for
from inference.report.sensitivity import MOST, SENSITIVE
from inference.report.words import ends, measured, number

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["predictive"]

MOST_OBSERVATIONS = 2_000
"""Beyond these leave-one-out takes too long for a page."""


def predictive(evidence: Evidence) -> Section | None:
    """Predictive checks, leave-one-out, and sensitivity to the prior; `None` where the draws allow none of them."""
    blocks = tuple(_blocks(evidence))
    return Section("predictive", "Data, predictions and the prior", blocks) if blocks else None


def _blocks(evidence: Evidence) -> Iterator[Block]:
    tree = evidence.posterior
    if tree is None:
        return
    if evidence.predictive is not None:
        frame = evidence.predictive.frame
        terms = terms_for(map(str, frame.columns), sd="sd")
        yield Table("predictive-checks", str(evidence.predictive).splitlines()[0].capitalize(), frame, terms)
        for name in dict.fromkeys(frame["variable"]):
            yield Picture(
                partial(ppc_figure, tree, name),
                f"Data of {name} and data drawn from the posterior: {_compared(frame[frame['variable'] == name])}.",
                f"The distribution of {name}, and that of as many data drawn from the posterior.",
            )
    if "log_likelihood" in tree.children:
        for name in map(str, tree["log_likelihood"].data_vars):
            yield from _left_out(tree, name)
    if evidence.sensitivity is not None and len(evidence.sensitivity):
        yield from _sensitivity(evidence.sensitivity)


def _compared(frame: pd.DataFrame) -> str:
    rows: list[dict[str, Any]] = frame.to_dict("records")  # type: ignore[assignment]
    return "; ".join(
        f"{row['statistic']} {number(row['observed'])} against {number(row['predicted'])} (sd {number(row['sd'])}, p "
        f"{number(row['p_value'])})"
        for row in rows
    )


def _left_out(tree: xr.DataTree, name: str) -> Iterator[Block]:
    """Leaving out each observation in turn."""
    observations = tree["log_likelihood"][name].size // max(1, _draws(tree))
    if observations > MOST_OBSERVATIONS:
        yield Note(
            f"Leave-one-out of {observations} observations of {name} was left out of this page: call `arviz_stats.loo`."
        )
        return
    try:
        found = _loo(tree, name)
    except (ValueError, KeyError, TypeError, FloatingPointError) as error:
        yield Note(f"Leave-one-out of {name} could not be had: {error}")
        return
    khat = np.asarray(found.pareto_k, dtype=float).reshape(-1)
    high = int((~(khat <= found.good_k)).sum())
    yield Text(
        f"Leaving out each of {len(khat)} observations of {name} in turn: elpd {measured(found.elpd, found.se)} nats, "
        f"{number(found.p)} parameters in effect; k-hat is above {number(found.good_k)} for {high} of them."
    )
    yield Picture(
        partial(loo_khat_figure, khat, float(found.good_k)),
        f"k-hat of leaving out each of {len(khat)} observations of {name}: at most {number(ends(khat)[2])}, {high} "
        f"above {number(found.good_k)}.",
        "How hard each observation is to leave out; above the line its leave-one-out number cannot be relied on.",
    )
    if {"posterior_predictive", "observed_data"} <= set(tree.children) and name in tree["posterior_predictive"]:
        yield Picture(
            partial(loo_pit_figure, tree, name),
            f"Leave-one-out probability integral transform of {len(khat)} observations of {name} against uniform ones.",
            "Where each observation falls in what the others predict of it; uniform, within the band, where "
            "predictions are calibrated.",
        )


def _draws(tree: xr.DataTree) -> int:
    return int(tree["posterior"].sizes["chain"] * tree["posterior"].sizes["draw"])


def _loo(tree: xr.DataTree, name: str) -> Any:
    import warnings

    from arviz_stats import loo  # type: ignore[attr-defined]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of high k-hat: the page says it of each observation
        return loo(tree, var_name=name, pointwise=True)


def _sensitivity(frame: pd.DataFrame) -> Iterator[Block]:
    conflicts = [str(name) for name in frame.index[frame["diagnosis"].str.contains("conflict")]]
    said = f"in conflict: {', '.join(conflicts[:5])}" if conflicts else "no conflict of prior and data"
    yield Picture(
        partial(sensitivity_figure, frame, limit=SENSITIVE),
        f"Sensitivity of {len(frame)} parameters to the prior, at most {number(frame['prior'].max())}, and to the "
        f"likelihood, at most {number(frame['likelihood'].max())}; {said}.",
        "How far each posterior moves if the prior, or the likelihood, is raised to a power near one; from 0.05 on "
        "it depends on it. Dependence on both speaks of a conflict between prior and data.",
    )
    order = frame[["prior", "likelihood"]].max(axis=1).sort_values(ascending=False, na_position="first").index
    if len(frame) == MOST:
        yield Note(f"Sensitivity was reckoned of the first {MOST} parameters: call `arviz_stats.psense` for others.")
    table = frame.loc[order].rename_axis("parameter").reset_index()
    yield Table("sensitivity", "Sensitivity to power scaling", table, terms_for(map(str, table.columns)), top=10)
