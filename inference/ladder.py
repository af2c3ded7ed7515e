r"""The bound ladder: several bounds on log p(x) side by side, with their errors and the bracket they make."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pandas as pd
import torch
from scipy.stats import norm
from scipy.stats import t as student_t
from torch import Tensor

from inference.bounds import Guarantee
from inference.bracket import Bracket, Row, paired_difference
from inference.display import fragment
from inference.intervals import check_level, critical_value, one_sided

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CrossedBoundsError", "Ladder", "pooled"]


IMPOSSIBLE = 4.0
"""Standard errors by which a lower bound may exceed an upper one, both holding in expectation, by chance."""

DOUBTFUL = 2.0
"""The same where the upper one holds in the limit alone: beyond it, it is not believed."""

HEAVY = 0.7
"""A k-hat above which no practical number of draws makes a guide's weights reliable."""


class CrossedBoundsError(ArithmeticError):
    """A lower bound lies above an upper one by more than chance allows: one of the two is wrong.

    The numbers are not lost: `error.ladder` holds them.
    """

    def __init__(self, message: str, ladder: Ladder) -> None:
        super().__init__(message)
        self.ladder = ladder


@dataclass(frozen=True, eq=False)
class Ladder:
    """Bounds on log p(x) side by side.

    Attributes:
        rows: the bounds with their values per datum.
        khat: Pareto k-hat per datum of the largest set of the guide's weights, `(n,)`; NaN where there are none.
        simulated: the same bounds on data drawn from the model, where reverse AIS bounds log p(x) from above.
        notes: what a reader should know before believing the numbers.
        replications: where several seeds were asked for, the ladder of each.
    """

    rows: tuple[Row, ...]
    khat: Tensor
    simulated: Ladder | None = None
    notes: tuple[str, ...] = ()
    replications: tuple[Ladder, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """One row per bound, in nats per datum.

        `on` says whether the row is about the data given or about data simulated from the model. `se` is the standard
        error of the mean if the data are a sample of a population (draws included), `mc_se` for these very data (draws
        alone); `low` and `high` hold for all rows at once, in 95 % of samples of data; `seconds` is what the row took,
        its share of the draws included; `khat` is the median.
        """
        frames = [part._own_table(on) for on, part in self.parts()]
        return pd.concat([frame for frame in frames if len(frame)], ignore_index=True)

    def parts(self) -> Iterator[tuple[str, Ladder]]:
        """This ladder, `"data"`, and the one on simulated data, `"simulated"`."""
        yield "data", self
        if self.simulated is not None:
            yield "simulated", self.simulated

    def _own_table(self, on: str) -> pd.DataFrame:
        ends = self.intervals()
        return pd.DataFrame(
            {
                "on": on,
                "bound": row.label,
                "K": row.num_particles,
                "direction": row.direction,
                "guarantee": row.guarantee,
                "value": row.mean,
                "se": row.mean_se,
                "mc_se": row.mean_mc_se,
                "low": low,
                "high": high,
                "seconds": row.seconds,
                "khat": float(self.khat.nanmedian()) if len(self.khat) else math.nan,
            }
            for row, low, high in zip(self.rows, ends["low"], ends["high"], strict=True)
        )

    @property
    def per_datum(self) -> pd.DataFrame:
        """One column per bound, one row per datum."""
        columns = {row.label: row.value.cpu().numpy() for row in self.rows}
        return pd.DataFrame(columns | {"khat": self.khat.cpu().numpy()})

    @property
    def errors(self) -> pd.DataFrame:
        """A value, its standard error and its 95 % interval, of the draws, for each datum and bound: the long form."""
        numbers = ("value", "standard_error", "low", "high")
        frames = [pd.DataFrame(columns=["bound", "datum", *numbers])] if not self.rows else []
        for row in self.rows:
            columns = {name: getattr(row, name).cpu().numpy() for name in numbers}
            frames.append(pd.DataFrame({"bound": row.label, "datum": range(len(row.value)), **columns}))
        return pd.concat(frames, ignore_index=True)

    @property
    def differences(self) -> pd.DataFrame:
        """Each bound less the one above it in the table, paired by datum, with the error of the mean."""
        pairs = zip(self.rows[1:], self.rows, strict=False)
        found = [(f"{b.label} - {a.label}", *paired_difference(b.value, a.value)) for b, a in pairs]
        return pd.DataFrame(found, columns=["difference", "value", "se"])

    @property
    def across_seeds(self) -> pd.DataFrame:
        """The spread of each row's mean from seed to seed, and what its error led one to expect."""
        columns = ["bound", "seeds", "sd", "expected"]
        found = []
        for i, row in enumerate(self.rows):
            each = [ladder.rows[i] for ladder in self.replications]
            means = torch.tensor([one.mean for one in each], dtype=torch.float64)
            expected = math.sqrt(sum(one.mean_mc_se**2 for one in each) / len(each)) if each else math.nan
            found.append((row.label, len(each), float(means.std()) if len(each) > 1 else math.nan, expected))
        return pd.DataFrame(found, columns=columns)

    def intervals(self, level: float = 0.95) -> pd.DataFrame:
        """Intervals of the rows' means over the population the data come from, that hold for all rows at once."""
        check_level(level)
        reach = critical_value(torch.stack([row.value for row in self.rows]), level) if self.rows else math.nan
        ends = [(row.label, row.mean - reach * row.mean_se, row.mean + reach * row.mean_se) for row in self.rows]
        return pd.DataFrame(ends, columns=["bound", "low", "high"])

    def bracket(self, level: float = 0.95) -> Bracket:
        """The best lower and the best upper bound on these data, and the ends they give log p(x).

        The best is that of the best mean, not the best for each datum, which would choose among errors.
        """
        check_level(level)
        lower, upper = (
            [row for row in self._rows(side) if row.guarantee != "none" and not math.isnan(row.mean_mc_se)]
            for side in ("lower", "upper")
        )
        return Bracket(
            max(
                [row for row in lower if row.guarantee == "expectation"] or lower,
                key=lambda row: row.mean,
                default=None,
            ),
            min(self._standing(upper), key=lambda row: row.mean, default=None),
            level,
            one_sided(level, max(2, len(lower) + len(upper))),
        )

    def _standing(self, upper: Sequence[Row]) -> Sequence[Row]:
        """Of the upper bounds those most to be believed: sure ones; else those not refuted by a lower bound; of these
        not those of a guide whose weights have too heavy a tail, where there are others."""
        refuted = [high for _, high, *_ in self._crossings(DOUBTFUL)]
        left = [row for row in upper if row not in refuted]
        others = [row for row in left if row.source != "guide"] if self._heavy > 0.1 else []
        return [row for row in upper if row.guarantee == "expectation"] or others or left

    @property
    def _heavy(self) -> float:
        """The share of the data whose k-hat is too high for any number of draws."""
        return float((self.khat > HEAVY).double().mean()) if len(self.khat) else 0.0

    def row(self, label: str) -> Row:
        """The row of a name, such as `IWAE-50`."""
        for row in self.rows:
            if row.label == label:
                return row
        raise KeyError(f"`label` is {label!r}, expected one of {', '.join(row.label for row in self.rows)}")

    def check(self) -> Ladder:
        """Raise where a lower bound exceeds an upper one by more than 4 standard errors; else return the ladder.

        Of bounds that both hold in expectation; others are told of in `warnings`.
        """
        for _, part in self.parts():
            for low, high, gap, error in part._crossings(IMPOSSIBLE):
                if high.guarantee == "expectation":
                    raise CrossedBoundsError(
                        f"`{low.label}` (lower) is above `{high.label}` (upper) by {gap:.4g} nats with a standard "
                        f"error of {error:.2g}: one of the two does not bound log p(x) here",
                        self,
                    )
        return self

    @property
    def warnings(self) -> tuple[str, ...]:
        """`notes`; the upper bounds that lie below a lower one for want of draws; and those the guide cannot give."""
        found = {
            high.label: f"{high.label} lies {gap:.3g} nats below {low.label}, which bounds log p(x) from below: it has "
            "too few draws to be an upper bound"
            for low, high, gap, _ in self._crossings(DOUBTFUL)
            if high.guarantee == "limit"
        }
        doubtful = [row.label for row in self._rows("upper") if (row.guarantee, row.source) == ("limit", "guide")]
        if self._heavy > 0.1 and doubtful:
            found[""] = (
                f"k-hat is above {HEAVY} for {self._heavy:.0%} of the data: from this guide {', '.join(doubtful)} may "
                "lie far too low"
            )
        return (*self.notes, *found.values())

    def _crossings(self, errors: float) -> Iterator[tuple[Row, Row, float, float]]:
        """Lower and upper rows the wrong way round beyond chance: both, the gap and its error."""
        for low in self._rows("lower", "expectation"):
            for high in self._rows("upper"):
                gap, se = paired_difference(low.value, high.value)
                noise = torch.stack([low.standard_error, high.standard_error]).square().sum().sqrt() / len(low.value)
                # the draws' error, or that between data, which fewer of them know less well
                tail = float(student_t.ppf(norm.cdf(errors), max(1, len(low.value) - 1))) / errors
                error = max(found for found in (float(noise), tail * se, -1.0) if not math.isnan(found))
                rounding = 64 * torch.finfo(high.value.dtype).eps * max(1.0, abs(high.mean))
                if error >= 0 and gap > errors * error + rounding:
                    yield low, high, gap, error

    def _rows(self, direction: str, guarantee: Guarantee | None = None) -> list[Row]:
        rows = [row for row in self.rows if row.direction == direction and not math.isnan(row.mean)]
        return [row for row in rows if guarantee in (None, row.guarantee)]

    def plot(self, title: str = "") -> Figure:
        """The ladder as a figure: values with intervals, the bracket shaded, and values over K on a log axis."""
        from inference.figures import ladder_figure  # matplotlib takes a second to import: only those who plot pay

        return ladder_figure([(title, self)])

    def __str__(self) -> str:
        return "\n".join(line for on, part in self.parts() if part.rows for line in part._lines(on))

    def _lines(self, on: str) -> Iterator[str]:
        if on == "simulated":
            yield f"\non {len(self.rows[0].value)} data simulated from the model:"
        table = self._own_table(on).drop(columns=["on", "guarantee", "khat"])
        table["direction"] = [f"{row.direction}{'*' * (row.guarantee == 'limit')}" for row in self.rows]
        yield table.to_string(index=False, float_format=lambda v: f"{v:.3f}")
        if any(row.guarantee == "limit" for row in self.rows):
            yield "* only in the limit of many draws"
        if bool((self.khat > -math.inf).any()):
            median = float(self.khat.nanmedian())
            yield f"k-hat of the guide: median {median:.2f}, above {HEAVY} for {self._heavy:.0%} of the data"
        if any(row.direction == "upper" for row in self.rows):
            yield str(self.bracket())
        yield from (f"note: {warning}" for warning in self.warnings)

    def _repr_html_(self) -> str:
        sizes = {on: len(part.rows[0].value) for on, part in self.parts() if part.rows}
        data = " and ".join(f"{size:,} {'data' if on == 'data' else 'simulated data'}" for on, size in sizes.items())
        return fragment(f"bounds on log p(x), nats per datum, on {data}", self.table, self._said(), most=None)

    def _said(self) -> Sequence[str]:
        return [said for _, part in self.parts() if part.rows for said in (str(part.bracket()), *part.warnings)]


def pooled(ladders: Sequence[Ladder]) -> Ladder:
    """The mean of ladders that differ in their seeds alone; each is kept."""
    first = ladders[0]
    if len(ladders) == 1:
        return first
    beside = [ladder.simulated for ladder in ladders if ladder.simulated is not None]
    return Ladder(
        rows=tuple(_mean([ladder.rows[i] for ladder in ladders]) for i in range(len(first.rows))),
        khat=torch.stack([ladder.khat for ladder in ladders]).nanmedian(0).values,
        simulated=pooled(beside) if beside else None,
        notes=tuple(dict.fromkeys(note for ladder in ladders for note in ladder.notes)),
        replications=tuple(ladders),
    )


def _mean(rows: Sequence[Row]) -> Row:
    """One row for several seeds; its error is each seed's own, or, where a seed cannot know it, that between them."""
    values, errors = torch.stack([row.value for row in rows]), torch.stack([row.standard_error for row in rows])
    within = errors.square().mean(0).sqrt()
    error = torch.where(within.isnan(), values.std(0), within) / math.sqrt(len(rows))
    value, reach = values.mean(0), one_sided(0.95, 2) * error
    seconds = sum(row.seconds for row in rows)
    return replace(rows[0], value=value, standard_error=error, low=value - reach, high=value + reach, seconds=seconds)
