"""The ends that the bounds of a ladder give log p(x)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from inference.bracket import Row, paired_difference
from inference.ladder import CrossedBoundsError, Ladder
from inference.report.words import measured

__all__ = ["FITTED_FROM", "LEVEL", "RATIO", "End", "Ends", "ends_of_ladder", "rise_in_words"]

RATIO = 5
"""How many times more draws the IWAE must have for its rise to say something."""

FITTED_FROM = 25
"""Draws below which no k-hat can be fitted."""

RISE = 0.1
"""Nats by which it may rise at that."""

LEVEL = 0.95
"""The probability that both ends are on their sides."""


@dataclass(frozen=True)
class End:
    """One end: the bound it is of, its mean and the standard error of the draws, nats per datum."""

    label: str
    value: float
    error: float
    sure: bool

    def __str__(self) -> str:
        return f"{measured(self.value, self.error, 'nats')} by `{self.label}`"


@dataclass(frozen=True)
class Ends:
    """What the bounds on one set of data come to.

    Attributes:
        on: "data" or "simulated".
        lower: the best lower bound.
        upper: the best upper bound.
        low: `lower` with its error taken off.
        high: `upper` with its error put on.
        crossed: how a lower bound lies above an upper one, where one does.
        rising: how the IWAE still rises with K, where it does.
        broken: bounds whose values or errors are not a number.
        warning: what else a reader should know.
    """

    on: str
    lower: End | None
    upper: End | None
    low: float
    high: float
    crossed: str = ""
    rising: str = ""
    broken: tuple[str, ...] = ()
    warning: str = ""

    @property
    def certified(self) -> bool:
        """Whether both ends hold in expectation."""
        return bool(self.lower and self.upper and self.lower.sure and self.upper.sure)

    @property
    def two_sided(self) -> bool:
        """Whether there are two ends."""
        return self.lower is not None and self.upper is not None


# -- of a ladder ---------------------------------------------------------------------------------------------


def ends_of_ladder(ladder: Ladder) -> Iterator[Ends]:
    """Those on the data, and those on data simulated from the model."""
    for on, part in ladder.parts():
        if not part.rows:
            continue
        found = part.bracket(LEVEL)
        yield Ends(
            on,
            _end(found.lower),
            _end(found.upper),
            found.low,
            found.high,
            crossed=_crossed(part, found.low, found.high),
            rising=_rising(part.rows) if on == "data" else "",
            broken=(*(row.label for row in part.rows if _is_broken(row)), *_without_khat(part)),
            warning=next(iter(part.warnings), ""),
        )


def _end(row: Row | None) -> End | None:
    return None if row is None else End(row.label, row.mean, row.mean_mc_se, row.guarantee == "expectation")


def _crossed(part: Ladder, low: float, high: float) -> str:
    try:
        Ladder(part.rows, part.khat).check()
    except CrossedBoundsError as error:
        return str(error)
    if low > high:
        return f"the lower end {low:.4g} lies above the upper end {high:.4g}: one of the two does not bound log p(x)"
    return ""


def _is_broken(row: Row) -> bool:
    """Whether it has NaN where there should be numbers; the error of a single draw is not known."""
    unknown = row.standard_error.isnan() | row.low.isnan() | row.high.isnan()
    return bool(row.value.isnan().any() or (unknown.any() and not (unknown.all() and row.num_particles == 1)))


def _without_khat(part: Ladder) -> Iterator[str]:
    """The k-hat of a guide's weights, where there are enough of them for one and it is not there for any datum."""
    drawn = max((row.num_particles for row in part.rows if row.source == "guide"), default=0)
    if drawn >= FITTED_FROM and len(part.khat) and bool(part.khat.isnan().all()):
        yield "k-hat of the guide"


def _rising(rows: Sequence[Row]) -> str:
    of_iwae = sorted((row for row in rows if row.family == "IWAE"), key=lambda row: row.num_particles)
    before = [row for row in of_iwae if row.num_particles * RATIO <= of_iwae[-1].num_particles]
    if not before:
        return ""
    return rise_in_words(before[-1].label, of_iwae[-1].label, *paired_difference(of_iwae[-1].value, before[-1].value))


def rise_in_words(before: str, last: str, rise: float, error: float) -> str:
    """What is said of a rise; nothing of one that may be chance, or that is a trifle."""
    if not rise > max(RISE, 0.0 if math.isnan(error) else 3 * error):
        return ""
    return f"from `{before}` to `{last}` it rises by {measured(rise, error, 'nats')}"
