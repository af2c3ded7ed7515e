r"""One bound for every datum, and what the best of them say of log p(x): the bracket."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
from torch import Tensor

from inference.averaging import PerDatum
from inference.bounds import Direction, Guarantee
from inference.display import fragment
from inference.weights import Source

__all__ = ["Bracket", "Row", "paired_difference"]


@dataclass(frozen=True, eq=False)
class Row(PerDatum):
    """One bound at one K, for every datum.

    Attributes:
        label: `IWAE-50`.
        family: what it shares with the same bound at another K: `IWAE`.
        direction: the side of log p(x).
        guarantee: whether it lies there in expectation, or only in the limit of many draws.
        num_particles: K.
        value: nats, `(n,)`.
        standard_error: of the draws, `(n,)`; NaN where one draw cannot know it.
        low: lower end of a 95 % interval of each value, of the draws, `(n,)`.
        high: the upper end.
        seconds: what the row took, its share of the draws included.
        paper: where the bound comes from.
        source: the draws it is a function of.
    """

    label: str
    family: str
    direction: Direction
    guarantee: Guarantee
    num_particles: int
    value: Tensor
    standard_error: Tensor
    low: Tensor
    high: Tensor
    seconds: float
    paper: str = ""
    source: Source = "guide"


@dataclass(frozen=True, eq=False)
class Bracket:
    """The best lower and the best upper bound, on average, and how far each may be off by chance.

    Attributes:
        lower: the highest lower bound; `None` where there is none with an error.
        upper: the lowest upper bound; one that holds in expectation goes before one that holds in the limit; of the
            latter those that lie below a lower bound are left out, and, where there are others, those of a guide whose
            k-hat is too high for more than a tenth of the data.
        level: the probability that `low` and `high` are both on their sides.
        reach: standard errors allowed at either end, for the choice among all rows of that side.
    """

    lower: Row | None
    upper: Row | None
    level: float
    reach: float

    @property
    def low(self) -> float:
        """A lower end for the mean of log p(x) over these data, the draws' error taken off."""
        return self.lower.mean - self.reach * self.lower.mean_mc_se if self.lower else -math.inf

    @property
    def high(self) -> float:
        """An upper end, the error put on.

        Chains that begin at one exact draw of a posterior bound log p(x) on average over that draw: their error is that
        of the gap between data, which has the draw in it.
        """
        if self.upper is None:
            return math.inf
        error = self.upper.mean_mc_se
        if self.lower and self.upper.source in ("posterior", "reverse annealing") and len(self.upper.value) > 1:
            error = max(error, paired_difference(self.upper.value, self.lower.value)[1])
        return self.upper.mean + self.reach * error

    @property
    def gap(self) -> float:
        """How far the two bounds are apart, nats per datum."""
        return self.upper.mean - self.lower.mean if self.lower and self.upper else math.inf

    @property
    def certified(self) -> bool:
        """Whether both ends hold in expectation; an upper end that holds as K grows may lie below log p(x)."""
        return bool(self.lower and self.upper) and all(
            row.guarantee == "expectation" for row in (self.lower, self.upper) if row
        )

    @property
    def per_datum(self) -> pd.DataFrame:
        """The ends for each datum, at the level for each.

        An upper end from one exact draw of the posterior (reverse AIS, the exact EUBO) bounds log p of a datum only on
        average over that draw: there `high` allows for the error of its chains alone.
        """
        ends = {}
        if self.lower:
            ends["low"] = (self.lower.value - self.reach * self.lower.standard_error).cpu().numpy()
        if self.upper:
            ends["high"] = (self.upper.value + self.reach * self.upper.standard_error).cpu().numpy()
        return pd.DataFrame(ends)

    def __str__(self) -> str:
        if self.lower is None or self.upper is None:
            side, other = ("upper", self.lower) if self.upper is None else ("lower", self.upper)
            known = f"; {other.label} is {other.mean:.3f}" if other else ""
            return f"log p(x) is not bracketed: there is no {side} bound{known}"
        said = (
            f"log p(x) in [{self.low:.3f}, {self.high:.3f}] nats per datum at {self.level:.0%}, by {self.lower.label} "
            f"and {self.upper.label}, {self.gap:.3f} apart"
        )
        weak = [row.label for row in (self.lower, self.upper) if row.guarantee != "expectation"]
        return f"{said}; not certified: {' and '.join(weak)} bounds it only in the limit" if weak else said

    def _repr_html_(self) -> str:
        ends = ("lower", self.lower, self.low), ("upper", self.upper, self.high)
        rows = [
            {
                "side": side,
                "bound": row.label,
                "K": row.num_particles,
                "guarantee": row.guarantee,
                "value": row.mean,
                "mc_se": row.mean_mc_se,
                "end": end,
            }
            for side, row, end in ends
            if row
        ]
        return fragment(str(self), pd.DataFrame(rows))


def paired_difference(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Mean of `a - b` over the data, and its standard error (NaN for one datum)."""
    d = a - b
    return float(d.mean()), float(d.std()) / math.sqrt(len(d)) if len(d) > 1 else math.nan
