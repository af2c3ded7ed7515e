"""Medians, quartiles and Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Quartiles(NamedTuple):
    """A median between its quartiles."""

    low: float
    middle: float
    high: float

    def __str__(self) -> str:
        return f"{digits(self.middle)} [{digits(self.low)}, {digits(self.high)}]"


def quartiles(values: Sequence[float]) -> Quartiles:
    """Median and quartiles; all the same where there is one value."""
    if len(values) == 1:
        return Quartiles(*values, *values, *values)
    return Quartiles(*statistics.quantiles(values, n=4, method="inclusive"))


def digits(value: float) -> str:
    """As many decimals as a reader can use."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def verdict(value: Quartiles, limit: float) -> str:
    """A measured ratio beside its target."""
    return f"{value}, <= {limit:.2f}: {'met' if value.middle <= limit else '**missed**'}"


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
