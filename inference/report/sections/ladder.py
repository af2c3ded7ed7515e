"""Both sides of log p(x)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from inference.ladder import Ladder
from inference.report.blocks import Block, Note, Picture, Section, Table, Text
from inference.report.evidence import Evidence
from inference.report.figures import styled
from inference.report.glossary import terms_for
from inference.report.words import measured, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ladder"]

WHERE = {"data": "the {n} data", "simulated": "{n} data simulated from the model"}


def ladder(evidence: Evidence) -> Section | None:
    """The ladder as a plot and a table, and the bracket it makes; `None` where no bound was evaluated."""
    if evidence.ladder is not None:
        blocks: tuple[Block, ...] = tuple(_blocks(evidence.ladder, evidence.name))
    elif evidence.bounds is not None:
        frame = evidence.bounds
        blocks = (
            Note(
                "The values of each datum were not kept, so there is no bracket and no paired difference: evaluate "
                "again."
            ),
            Table("bounds", "Bounds on log p(x), nats per datum", frame, terms_for(map(str, frame.columns))),
        )
    else:
        return None
    return Section("ladder", "Both sides of log p(x)", blocks)


def _blocks(found: Ladder, name: str) -> Iterator[Block]:
    for on, part in found.parts():
        if part.rows:
            yield Text(f"On {WHERE[on].format(n=len(part.rows[0].value))}: {part.bracket()}.")
    said = "; ".join(
        f"{row.label} {measured(row.mean, row.mean_se)}, {row.direction}{'' if on == 'data' else ', on simulated data'}"
        for on, part in found.parts()
        for row in part.rows
    )
    yield Picture(
        partial(_figure, shortened(name), found),
        f"Bounds on log p(x) in nats per datum: {said}.",
        "Left: each bound with two standard errors, of the draws (thick) and of the data (thin), and the bracket "
        "shaded; right: over the number of draws. A lower bound points up to log p(x), an upper one down to it.",
    )
    for warning in dict.fromkeys(warning for _, part in found.parts() for warning in part.warnings):
        yield Note(warning, "doubt")
    table = found.table
    yield Table("bounds", "Bounds on log p(x), nats per datum", table, terms_for(map(str, table.columns)))
    differences = found.differences
    if len(differences):
        yield Table(
            "differences",
            "Each bound less the one above it, paired by datum, nats",
            differences,
            terms_for(map(str, differences.columns), value="paired difference"),
        )


def _figure(name: str, found: Ladder) -> Figure:
    from inference.figures import ladder_figure  # matplotlib takes a second to import

    with styled():
        return ladder_figure([(name, found)])
