"""From results to Markdown: a table of implementations with their ratios, and a target beside what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from benchmarks.harness import Result
from benchmarks.report import markdown, verdict

Results: TypeAlias = Mapping[str, Result]
Ratio: TypeAlias = tuple[str | None, str | None]  # names above and below the line; `None` is the row itself


def compare(results: Results, ratios: Sequence[Ratio], *, what: str, losses: bool = True) -> str:
    """A line per implementation: its time, the ratios asked for, and the loss that shows that all do the same."""
    named = [f"x {below}" if above is None else f"{above} / this" for above, below in ratios]
    header = ["implementation", f"{what} [quartiles]", *named, *["loss per datum"] * losses]
    lines = []
    for name, result in results.items():
        if result.reason:
            lines.append([name, f"not measured: {result.reason}", *["-"] * (len(header) - 2)])
            continue
        cells = [ratio(results, above or name, below or name) or "-" for above, below in ratios]
        lines.append([name, str(result.spread()), *cells, *[_loss(result)] * losses])
    return markdown(header, lines)


def ratio(results: Results, above: str, below: str) -> str | None:
    """The ratio of two rows; `None` where one is missing or was not measured."""
    found = results[above].over(results[below]) if {above, below} <= results.keys() else None
    return None if found is None else str(found)


def target(results: Results, above: str, below: str, limit: float) -> str:
    """The ratio of two rows beside what was asked for."""
    found = results[above].over(results[below]) if {above, below} <= results.keys() else None
    return f"not measured, <= {limit:.2f}" if found is None else verdict(found, limit)


def _loss(result: Result) -> str:
    loss = result.head["loss"]
    return "-" if loss is None else f"{loss:.1f} after {result.head['units']:.0f} steps"
