"""Bounds on log p(x) by annealing, per datum, with their errors: from below, or from both sides."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from torch import Tensor

from inference.averaging import PerDatum
from inference.schedule import Annealing

__all__ = ["Annealed", "Bidirectional"]


@dataclass(frozen=True, eq=False)
class Annealed(PerDatum):
    """A bound on log p(x) for each of n data by annealing, in nats; every tensor is `(n,)`.

    Attributes:
        annealing: the settings.
        direction: "lower" for chains to the posterior, "upper" for chains back from it; in expectation.
        value: the bound.
        standard_error: its Monte Carlo error, by a jackknife over chains; NaN for a single chain.
        ess: effective number of chains.
        acceptance: mean probability of accepting a transition; NaN where there was none.
    """

    annealing: Annealing
    direction: Literal["lower", "upper"]
    value: Tensor
    standard_error: Tensor
    ess: Tensor
    acceptance: Tensor

    @property
    def num_chains(self) -> int:
        """C, the chains per datum."""
        return self.annealing.num_chains

    def to_frame(self) -> pd.DataFrame:
        """One row per datum."""
        columns = ("value", "standard_error", "ess", "acceptance")
        return pd.DataFrame({name: getattr(self, name).cpu().numpy() for name in columns})

    def __str__(self) -> str:
        sign = ">=" if self.direction == "lower" else "<="
        return (
            f"log p(x) {sign} {self.mean:.3f} nats per datum, s.e. {self.mean_se:.3f} over {len(self.value)} data and "
            f"{self.mean_mc_se:.3f} over chains; {self.num_chains} chains of {self.annealing.num_temperatures:,} "
            f"temperatures, acceptance {float(self.acceptance.mean()):.2f}, median ESS {float(self.ess.median()):.1f}"
        )


@dataclass(frozen=True, eq=False)
class Bidirectional:
    """Log p(x) between two bounds, for data drawn from the model itself.

    Attributes:
        forward: the lower side.
        reverse: the upper side, on the same data.
    """

    forward: Annealed
    reverse: Annealed

    @property
    def gap(self) -> Tensor:
        """Upper less lower, `(n,)`: what either can be wrong by, in expectation; chance may make it negative."""
        return self.reverse.value - self.forward.value

    @property
    def gap_mean(self) -> float:
        return float(self.gap.mean())

    @property
    def gap_se(self) -> float:
        """Standard error of `gap_mean` over the model's data, chains included; NaN for one datum."""
        return float(self.gap.std()) / math.sqrt(len(self.gap)) if len(self.gap) > 1 else math.nan

    @property
    def gap_median(self) -> float:
        return float(self.gap.median())

    @property
    def gap_max(self) -> float:
        return float(self.gap.max())

    def to_frame(self) -> pd.DataFrame:
        """One row per datum."""
        sides = {"lower": self.forward, "upper": self.reverse}
        columns = {
            f"{name}{suffix}": values.cpu().numpy()
            for name, side in sides.items()
            for suffix, values in (("", side.value), ("_se", side.standard_error), ("_ess", side.ess))
        }
        return pd.DataFrame(columns | {"gap": self.gap.cpu().numpy()})

    def __str__(self) -> str:
        return (
            f"{self.forward.mean:.3f} <= log p(x) <= {self.reverse.mean:.3f} nats per datum, gap {self.gap_mean:.3f} "
            f"(s.e. {self.gap_se:.3f}, median {self.gap_median:.3f}, largest {self.gap_max:.3f}) on {len(self.gap)} "
            "data drawn from the model: it certifies the annealing on the model's own samples, not on other data"
        )
