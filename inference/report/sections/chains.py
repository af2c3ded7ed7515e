"""Whether the draws of a posterior may be used: checks, parameters, and the chains of the worst of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from inference.diagnostics import Diagnosis
from inference.report.blocks import Block, Note, Picture, Section, Table, Text
from inference.report.evidence import Evidence
from inference.report.figures import (
    energy_figure,
    evolution_figure,
    forest_figure,
    pair_figure,
    rank_figure,
    trace_figure,
)
from inference.report.glossary import terms_for
from inference.report.words import number, shortened

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["chains"]

LOOKED_AT, FOREST, FEW_CHAINS = 4, 30, 8


def chains(evidence: Evidence) -> Section | None:
    """Checks and parameters as tables, and pictures of the parameters that do worst; `None` without draws."""
    if evidence.posterior is None:
        return None
    if evidence.diagnosis is None:
        blocks: tuple[Block, ...] = (Note("The draws could not be judged: see provenance.", "bad"),)
    else:
        blocks = tuple(_blocks(evidence.posterior, evidence.diagnosis))
    return Section("chains", "Draws of the posterior", blocks)


def _blocks(tree: xr.DataTree, diagnosis: Diagnosis) -> Iterator[Block]:
    sizes = tree["posterior"].sizes
    yield Text(
        f"{sizes['chain']} chains of {sizes['draw']} draws each ({diagnosis.method}): {str(diagnosis).splitlines()[0]}."
    )
    for row in diagnosis.rows:
        if row.verdict in ("fail", "unknown") and row.advice:
            where = f" (worst: {shortened(row.where)}, {number(row.value)})" if row.where else ""
            yield Note(f"{row.check}{where}: {row.advice}.", "bad" if row.verdict == "fail" else "doubt")
    frame = diagnosis.frame
    yield Table(
        "checks", "Checks of the draws; each by its worst", frame, terms_for(map(str, frame.columns), value="worst")
    )
    parameters = diagnosis.parameters
    order = _worst_first(parameters)
    terms = terms_for(map(str, parameters.columns))
    yield Table("parameters", "Every parameter, the one that mixes worst first", _named(parameters.iloc[order]), terms)
    if not parameters.index.is_unique:
        yield Note("Several parameters have one name, so none is drawn: give each a coordinate of its own.", "doubt")
        return
    yield from _pictures(tree, diagnosis, list(parameters.index[order]))


def _named(parameters: pd.DataFrame) -> pd.DataFrame:
    return parameters.rename_axis("parameter").reset_index()


def _worst_first(parameters: pd.DataFrame) -> list[int]:
    """Rows by R-hat and ESS where chains have them, else as they come; what could not be reckoned goes first."""
    if "r_hat" not in parameters:
        return list(range(len(parameters)))
    keys = parameters["ess_bulk"].fillna(0), -parameters["r_hat"].fillna(np.inf)
    return [int(row) for row in np.lexsort(keys)]


def _pictures(tree: xr.DataTree, diagnosis: Diagnosis, ranked: list[str]) -> Iterator[Block]:
    table, shown = diagnosis.parameters, _drawable(diagnosis, ranked)
    if not shown:
        yield Note("No parameter varies and is finite: there is nothing to draw.")
        return
    few, named = shown[:LOOKED_AT], ", ".join(shown[:LOOKED_AT])
    worst = "; ".join(f"{name} {_numbers(table, name)}" for name in few)
    if diagnosis.method == "MCMC":
        yield Picture(
            partial(rank_figure, tree, few),
            f"Ranks of the draws of {len(few)} parameters by chain, {worst}.",
            "Of the parameters that mix worst: how the ranks of each chain's draws are spread; chains that agree "
            "stay in the band.",
        )
        if tree["posterior"].sizes["chain"] <= FEW_CHAINS:
            yield Picture(
                partial(trace_figure, tree, few),
                f"Draws of {named} in their order, chain by chain.",
                "Draws in their order: chains that have mixed lie over each other and go nowhere.",
            )
        yield Picture(
            partial(evolution_figure, tree, few),
            f"Effective sample size and R-hat of {named} as draws are added; at the end {worst}.",
            "As draws are added: the effective sample size should grow in a line, R-hat fall to one.",
        )
        yield from _energies(tree, diagnosis)
    first = _drawable(diagnosis, list(table.index))[:FOREST]
    more = f" and {len(table) - len(first)} more in the table" if len(table) > len(first) else ""
    yield Picture(
        partial(forest_figure, tree, first),
        f"Means and intervals of {len(first)} parameters, from {shortened(first[0])} to {shortened(first[-1])}{more}.",
        f"Posterior medians and intervals of the first {len(first)} parameters{more}.",
    )
    if len(few) > 1:
        count = int(_stats(tree, "diverging").sum()) if _stats(tree, "diverging") is not None else None
        said = "divergences were not kept" if count is None else f"{count} divergent transitions are marked"
        yield Picture(
            partial(pair_figure, tree, few),
            f"Draws of {named} against each other; {said}.",
            "Draws of the parameters that mix worst, two by two; divergent transitions are marked where there are any.",
        )


def _energies(tree: xr.DataTree, diagnosis: Diagnosis) -> Iterator[Block]:
    energy = _stats(tree, "energy")
    if energy is not None and set(energy.dims) == {"chain", "draw"} and np.isfinite(energy).all():
        yield Picture(
            partial(energy_figure, tree),
            f"Energies of the draws and of the steps between them; least BFMI {number(diagnosis.row('BFMI').value)}.",
            "The spread of the energy, and that of its changes: where these are much narrower, the sampler explores "
            "slowly.",
        )


def _stats(tree: xr.DataTree, name: str) -> Any:
    stats = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else None
    return None if stats is None or name not in stats else stats[name]


def _drawable(diagnosis: Diagnosis, names: list[str]) -> list[str]:
    """Parameters that vary and are finite."""
    known = diagnosis.parameters["mcse_mean"].notna() & np.isfinite(diagnosis.parameters["mean"])
    return [name for name in names if known[name]]


def _numbers(table: pd.DataFrame, name: str) -> str:
    row: Any = table.loc[name]
    return f"(R-hat {number(row.get('r_hat'))}, bulk ESS {number(row.get('ess_bulk'))})"
