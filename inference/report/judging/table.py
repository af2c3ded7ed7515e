"""The ends that the table of a ladder gives log p(x), as far as means and errors go."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import pandas as pd

from inference.intervals import one_sided
from inference.ladder import DOUBTFUL, IMPOSSIBLE
from inference.report.judging.ends import LEVEL, RATIO, End, Ends, rise_in_words
from inference.report.words import measured

__all__ = ["ends_of_table"]


def ends_of_table(table: pd.DataFrame) -> Iterator[Ends]:
    """The same as far as means and errors go; what the errors of two rows have in common is not in them."""
    kinds = table["on"].astype(str) if "on" in table else pd.Series("data", table.index)
    for on in dict.fromkeys(kinds):
        yield _ends_of_records(on, [_Record.of(row) for row in table[kinds == on].to_dict("records")])


@dataclass(frozen=True)
class _Record:
    """A line of the table."""

    end: End
    direction: str
    bounds: bool
    num_particles: float
    population_error: float

    @classmethod
    def of(cls, row: Mapping[Hashable, Any]) -> _Record:
        end = End(str(row["bound"]), float(row["value"]), float(row["mc_se"]), row["guarantee"] == "expectation")
        return cls(end, str(row["direction"]), row["guarantee"] != "none", float(row["K"]), float(row["se"]))

    @property
    def is_broken(self) -> bool:
        """Whether it lacks a number it should have; the error of a single draw is not known."""
        unknown = math.isnan(self.end.error) and self.num_particles != 1
        return unknown or math.isnan(self.end.value) or math.isnan(self.population_error)


def _ends_of_records(on: str, records: Sequence[_Record]) -> Ends:
    known = [one for one in records if one.bounds and not math.isnan(one.end.value) and not math.isnan(one.end.error)]
    lower, upper = ([one for one in known if one.direction == side] for side in ("lower", "upper"))
    refuted = [one.end.label for one in upper if not one.end.sure and _is_refuted(one.end, lower)]
    upper = [one for one in upper if one.end.label not in refuted]
    reach = one_sided(LEVEL, max(2, len(lower) + len(upper)))
    below, above = (_best([one.end for one in side], sign) for side, sign in ((lower, 1), (upper, -1)))
    return Ends(
        on,
        below,
        above,
        below.value - reach * below.error if below else -math.inf,
        above.value + reach * above.error if above else math.inf,
        crossed=next(_crossings(lower, upper), ""),
        rising=_rising_records(records) if on == "data" else "",
        broken=tuple(one.end.label for one in records if one.is_broken),
        warning=f"{', '.join(refuted)} has too few draws to be an upper bound" if refuted else "",
    )


def _best(ends: Sequence[End], sign: int) -> End | None:
    """The highest, or under the sign of minus the lowest, of those that are sure, or else of all."""
    return max([end for end in ends if end.sure] or ends, key=lambda end: sign * end.value, default=None)


def _is_refuted(high: End, lower: Sequence[_Record]) -> bool:
    """Whether an upper end that holds in the limit lies below a lower one."""
    sure = [one.end for one in lower if one.end.sure]
    return any(low.value - high.value > DOUBTFUL * math.hypot(low.error, high.error) for low in sure)


def _crossings(lower: Sequence[_Record], upper: Sequence[_Record]) -> Iterator[str]:
    """By more than both errors over data explain, as it is not known what they have in common."""
    for low, high in product((one for one in lower if one.end.sure), (one for one in upper if one.end.sure)):
        errors = [0.0 if math.isnan(one.population_error) else one.population_error for one in (low, high)]
        error = max(math.hypot(*errors), math.hypot(low.end.error, high.end.error))
        gap = low.end.value - high.end.value
        if gap > IMPOSSIBLE * error + 1e-6 * max(1.0, abs(high.end.value)):
            names = f"`{low.end.label}` (lower) is above `{high.end.label}` (upper)"
            yield f"{names} by {measured(gap, error, 'nats')}: one of the two does not bound log p(x) here"


def _rising_records(records: Sequence[_Record]) -> str:
    named = [one for one in records if one.end.label.startswith("IWAE-") and not math.isnan(one.end.value)]
    of_iwae = sorted(named, key=lambda one: one.num_particles)
    before = [one for one in of_iwae if one.num_particles * RATIO <= of_iwae[-1].num_particles]
    if not before:
        return ""
    first, last = before[-1].end, of_iwae[-1].end
    error = math.hypot(*(0.0 if math.isnan(end.error) else end.error for end in (first, last)))
    return rise_in_words(first.label, last.label, last.value - first.value, error)
