"""What is known of log p(x) of a model without a guide."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd

from inference.report.blocks import Block, Note, Picture, Section, Table, Text
from inference.report.evidence import Evidence
from inference.report.examination import Array
from inference.report.figures import free_energies_figure, per_step_figure
from inference.report.glossary import terms_for
from inference.report.outcome import Outcome
from inference.report.words import measured, number

__all__ = ["density", "notes_on_draws"]

TITLE = "What is known of log p(x)"


def density(evidence: Evidence) -> Section | None:
    """Likelihoods, the steps of a chain's bound and free energies; `None` where no model without a guide was judged."""
    found = evidence.outcome
    if evidence.kind == "implicit":
        none = Text("The model is known by its draws alone: it has no density, and no number here bounds log p(x).")
        return Section("density", TITLE, (none, *(_missing(found) if found else ())))
    if found is None:
        return None
    return Section("density", TITLE, tuple(_blocks(found)))


def _missing(found: Outcome) -> Iterator[Block]:
    for part, why in found.missing.items():
        yield Note(f"The {part} could not be found out: {why.rstrip('.')}.")


def _blocks(found: Outcome) -> Iterator[Block]:
    yield from _missing(found)
    if found.likelihood is None or found.likelihood.empty:
        yield Note("log p(x) was not evaluated.")
    else:
        yield Text(" ".join(_said(found, found.likelihood)))
        yield _table(found)
    apart = notes_on_draws(found)
    yield from (Text(note) for note in found.notes if note not in apart)
    if found.per_step is not None and len(found.per_step):
        yield _steps(found.per_step)
        terms = terms_for(["t"], nats="nats per datum")
        yield Table("per-step", "Terms of the bound, which add up to it; nats per datum", found.per_step, terms, top=5)
    if found.energies is not None and len(found.energies):
        yield from _energies(found.energies)


def notes_on_draws(found: Outcome) -> tuple[str, ...]:
    """Of the notes those that are not on log Z, where draws were judged."""
    if found.samples is None:
        return ()
    return tuple(note for note in found.notes if not note.startswith("log Z"))


def _said(found: Outcome, likelihood: pd.DataFrame) -> Iterator[str]:
    """In words: each side, and what has been gained by learning."""
    n = found.data.get("n")
    on = f" over {n:,} data" if isinstance(n, int) else ""
    sides = {str(row["direction"]): row for row in likelihood.to_dict("records")}
    named = {"exact": "exactly", "lower": "at least", "upper": "at most"}
    parts = [f"{named[s]} {measured(sides[s]['value'], sides[s]['se'], 'nats')}" for s in named if s in sides]
    if parts:
        yield f"log p(x) per datum{on} is {' and '.join(parts)}; the errors are over data."
    side = next((side for side in ("exact", "lower") if side in sides), None)
    if side is not None and math.isfinite(found.null):
        gain = float(sides[side]["value"]) - found.null
        way, certain = ("above", "at least ") if gain >= 0 else ("below", "at most ")
        yield (
            f"That is {certain if side == 'lower' else ''}{number(abs(gain))} nats, or "
            f"{number(abs(gain) / math.log(2))} bits, per datum {way} knowing nothing, which is {number(found.null)} "
            "nats."
        )


def _table(found: Outcome) -> Table:
    """Held-out and training data, a row for each side."""
    sets = {"held-out": found.likelihood, "training": found.train}
    known = [frame.assign(data=name) for name, frame in sets.items() if frame is not None and len(frame)]
    frame = pd.concat([one[["data", *one.columns.drop("data")]] for one in known], ignore_index=True)
    terms = terms_for(map(str, frame.columns), low="ends by draws", high="ends by draws")
    caption = "log p(x) of held-out and of training data, nats per datum"
    return Table("likelihood", caption, frame, terms)


def _steps(per_step: pd.DataFrame) -> Picture:
    costs = -per_step["nats"].to_numpy(dtype=float)
    least = int(np.nansum(costs < 0))
    added = f"; {least} add to it" if least else ""
    return Picture(
        partial(per_step_figure, per_step),
        f"Costs of {len(costs)} steps, {number(float(np.nansum(costs)))} nats in all, {number(float(costs[0]))} of "
        f"them at t = 1 and {number(float(costs[-1]))} at the end{added}.",
        "What each step costs the bound, in nats per datum: the likelihood of the datum at t = 1, what is lost at each "
        "step back, and last what the end of the chain still tells of the datum. Below 0 a step adds to the bound: the "
        "first may, as a density may exceed 1; others do so by Monte Carlo noise alone.",
    )


def _energies(energies: pd.DataFrame) -> Iterator[Block]:
    sets = {str(name): part["free_energy"].to_numpy(float) for name, part in energies.groupby("set", sort=False)}
    rows = [(name, *_moments(values)) for name, values in sets.items()]
    said = "; ".join(f"{name} {measured(mean, se)}" for name, mean, se, _, _ in rows)
    frame = pd.DataFrame(rows, columns=["set", "mean", "se", "sd over the set", "n"])
    yield Picture(
        partial(free_energies_figure, energies),
        f"Free energies in nats, means: {said}.",
        "Free energies of single training data, held-out data and samples, as shares of each set. log Z is the same "
        "for all and plays no role: a set further to the left has a higher log p(x). Samples of a model that fits lie "
        "where the data do.",
    )
    terms = terms_for(map(str, frame.columns), mean="free energy")
    yield Table("free-energies", "Free energies of each set, nats", frame, terms)


def _moments(values: Array) -> tuple[float, float, float, int]:
    """Mean, its standard error, standard deviation, and how many there are."""
    n = len(values)
    sd = float(values.std(ddof=1)) if n > 1 else math.nan
    return float(values.mean()), sd / math.sqrt(n), sd, n
