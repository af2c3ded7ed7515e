"""Several runs beside each other, each less the first, paired by datum."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor

from inference.bracket import paired_difference
from inference.report.blocks import Block, Note, Picture, Section, Table
from inference.report.evidence import Evidence
from inference.report.figures import differences_figure
from inference.report.glossary import terms_for
from inference.report.outcome import Outcome
from inference.report.verdict import Verdict
from inference.report.words import measured

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["comparison"]


def comparison(runs: Sequence[tuple[Evidence, Verdict]]) -> Section:
    """A table of the runs, and what sets them apart on data they were all judged on."""
    return Section("comparison", "The runs beside each other", tuple(_blocks(runs)))


def _blocks(runs: Sequence[tuple[Evidence, Verdict]]) -> Iterator[Block]:
    overview = pd.DataFrame([_overview(evidence, verdict) for evidence, verdict in runs])
    terms = terms_for(map(str, overview.columns), **{"s.e.": "standard error", "side": "direction"})
    yield Table("runs", "The runs, log p(x) in nats per datum", overview, terms)
    first, others = runs[0][0], [evidence for evidence, _ in runs[1:]]
    rows = [row for other in others for row in _differences(other, first)]
    if rows:
        table = pd.DataFrame(rows)
        said = "; ".join(f"{row['run']}, {row['of']}: {measured(row['difference'], row['se'])}" for row in rows[:10])
        yield Picture(
            partial(differences_figure, table),
            f"Differences from {first.name} in nats per datum: {said}{' and more' if len(rows) > 10 else ''}.",
            f"Each run less {first.name} on the same data, paired by datum, with two standard errors either way.",
        )
        yield Table(
            "paired",
            f"Each run less {first.name} on the same data, paired by datum, nats",
            table,
            terms_for(map(str, table.columns), difference="paired difference"),
        )
    if any(evidence.kind for evidence, _ in runs):
        yield Note("Of models without a guide no values per datum are kept, so they are paired with no other run.")
    apart = [other.name for other in others if not other.kind and other.name not in {row["run"] for row in rows}]
    if apart:
        yield Note(
            f"{', '.join(apart)} cannot be paired with {first.name}: values per datum on the same data are needed of "
            "both, as `examine` and `compare_bounds` keep them."
        )
    posteriors = [evidence for evidence, _ in runs if evidence.posterior is not None]
    if len(posteriors) > 1:
        yield from _left_out(posteriors)


def _overview(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    row: dict[str, Any] = {"run": evidence.name, "colour": verdict.colour}
    row |= {one.topic.lower(): one.state for one in verdict.judgements}
    found = evidence.examination
    if found is not None:
        value = found.per_datum["value"]
        row |= {
            "log p(x)": value.mean(),
            "s.e.": value.std() / len(value) ** 0.5,
            "k-hat": found.per_datum["khat"].median(),
        }
        row |= {"n": len(value), "K": found.num_particles}
    return row | (_known(evidence.outcome) if evidence.outcome is not None else {})


def _known(found: Outcome) -> dict[str, Any]:
    """The exact value of log p(x), or the lower side, of a model without a guide."""
    sides = (
        {} if found.likelihood is None else {str(one["direction"]): one for one in found.likelihood.to_dict("records")}
    )
    side = next((side for side in ("exact", "lower") if side in sides), None)
    if side is None:
        return {}
    return {"log p(x)": sides[side]["value"], "s.e.": sides[side]["se"], "side": side, "n": found.data.get("n")}


def _differences(run: Evidence, first: Evidence) -> Iterator[dict[str, Any]]:
    """By bound, and of log p(x) as it was examined, wherever both say that they are of the same data."""
    pairs: list[tuple[str, Tensor, Tensor]] = []
    a, b = run.examination, first.examination
    if a is not None and b is not None and _same(a.data, b.data):
        K = str(a.num_particles) if a.num_particles == b.num_particles else f"{a.num_particles} and {b.num_particles}"
        mine, theirs = (torch.tensor(one.per_datum["value"].to_numpy()) for one in (a, b))
        pairs.append((f"log p(x), K = {K}", mine, theirs))
    if run.ladder and first.ladder and _same(run.ladder_data, first.ladder_data):
        before = {row.label: row.value for row in first.ladder.rows}
        pairs += [(row.label, row.value, before[row.label]) for row in run.ladder.rows if row.label in before]
    for what, mine, theirs in pairs:
        if len(mine) == len(theirs):
            value, se = paired_difference(mine.double(), theirs.double())
            yield {"run": run.name, "less": first.name, "of": what, "difference": value, "se": se, "n": len(mine)}


def _same(a: Any, b: Any) -> bool:
    return bool(a.get("sha256")) and a.get("sha256") == b.get("sha256")


def _left_out(posteriors: Sequence[Evidence]) -> Iterator[Block]:
    """By leave-one-out, observed variable by observed variable, where all saw the same observations."""
    trees = {evidence.name: evidence.posterior for evidence in posteriors if evidence.posterior is not None}
    if len({_digest(tree) for tree in trees.values()}) > 1:
        yield Note("The posteriors are not compared by leave-one-out: they are not all of the same observations.")
        return
    observed = [set(tree["log_likelihood"].data_vars if "log_likelihood" in tree else ()) for tree in trees.values()]
    variables = sorted(map(str, set.intersection(*observed)))
    if not variables:
        yield Note("The posteriors are not compared by leave-one-out: not all have the likelihood of an observation.")
    for variable in variables:
        try:
            frame = _compared(trees, variable)
        except Exception as error:  # as of every section: whatever is wrong with the draws, the page is written
            yield Note(f"The posteriors could not be compared by leave-one-out of {variable}: {error}")
            continue
        table = frame.rename_axis("run").reset_index()
        terms = terms_for(map(str, table.columns))
        yield Table(f"loo-{variable}", f"The posteriors by leave-one-out of {variable}", table, terms)


def _compared(trees: Mapping[str, xr.DataTree], variable: str) -> pd.DataFrame:
    import warnings

    from arviz_stats import compare, loo  # type: ignore[attr-defined]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of high k-hat, and of pandas: each run's own section says the first
        found = {name: loo(tree, var_name=variable, pointwise=True) for name, tree in trees.items()}
        frame: pd.DataFrame = compare(found)
    return frame


def _digest(tree: Any) -> str:
    """Of the data that a posterior is given; different for every tree that does not say."""
    if "observed_data" not in tree.children:
        return str(id(tree))
    data = tree["observed_data"].to_dataset()
    parts = [f"{name}{data[name].shape}".encode() + data[name].to_numpy().tobytes() for name in sorted(map(str, data))]
    return hashlib.sha256(b"".join(parts)).hexdigest()
