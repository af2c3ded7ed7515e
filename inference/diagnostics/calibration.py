r"""Ranks of true values among posterior draws, and whether they are uniform.

Where parameters are drawn from the prior, data given them, and draws from the posterior given the data, the rank of the
parameter among L draws is uniform on 0, ..., L. The test is of the ranks' empirical distribution function, at every
point at once: the least of its binomial tail probabilities, against the same of uniform ranks.

References:
    Talts, Betancourt, Simpson, Vehtari and Gelman, *Validating Bayesian Inference Algorithms with Simulation-Based
    Calibration*, 2018, arXiv 1804.06788. Säilynoja, Bürkner and Vehtari, *Graphical Test for Discrete Uniformity and
    its Applications in Goodness-of-Fit Evaluation and Multiple Sample Comparison*, 2022, arXiv 2103.10522.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import bdtr

from inference.display import fragment

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Calibration"]

SIMULATIONS = 4000
"""Sets of uniform ranks that the observed ones are compared with: p-values are good to 0.0003 near 0.0005."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """What simulation-based calibration found.

    Attributes:
        ranks: of the true value among the draws, `(S,)` for each scalar, by name.
        num_draws: L, draws that a true value is ranked among.
        alpha: false-alarm rate of the verdict on all parameters together.
        seconds: what it took.
        about: what else there is to say, by name: `max_rhat`, `min_ess`, `divergences` and the like.

    >>> rng = np.random.default_rng(0)
    >>> good, narrow = rng.integers(0, 100, 500), rng.choice([0, 1, 98, 99], 500)
    >>> Calibration({"mu": good, "tau": narrow}, 99).frame["verdict"].tolist()
    ['pass', 'fail']
    """

    ranks: Mapping[str, np.ndarray[Any, Any]]
    num_draws: int
    alpha: float = 0.01
    seconds: float = math.nan
    about: Mapping[str, Any] | None = None

    @property
    def num_datasets(self) -> int:
        """S, the data sets that were simulated."""
        return len(next(iter(self.ranks.values())))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """By parameter: the p-value of uniform ranks, the mean rank (0.5 where unbiased), their spread (1 where the
        posterior is as wide as it should be; above where draws are too narrow), and a verdict by Holm's method."""
        statistics = [self._statistic(ranks) for ranks in self.ranks.values()]
        p_values = np.array([(1 + (self._null <= value).sum()) / (1 + len(self._null)) for value in statistics])
        uniform_sd = math.sqrt((self.num_draws + 1) ** 2 - 1) / math.sqrt(12)
        verdicts = np.where(_holm(p_values) < self.alpha, "fail", "pass")
        return pd.DataFrame(
            {
                "parameter": list(self.ranks),
                "p_value": p_values,
                "mean_rank": [ranks.mean() / self.num_draws for ranks in self.ranks.values()],
                "spread": [ranks.std() / uniform_sd for ranks in self.ranks.values()],
                "verdict": verdicts,
            }
        )

    @property
    def passed(self) -> bool:
        """Whether chains have mixed, and no parameter's ranks speak against them, at the false-alarm rate `alpha`."""
        return self.sampled and bool((self.frame["verdict"] == "pass").all())

    @property
    def sampled(self) -> bool:
        """Whether chains, if there were any, have mixed at all on every data set: R-hat of at most 1.5 on each.

        The largest of many data sets with four short chains is often 1.1 or 1.2 where all is well.
        """
        return bool((self.about or {}).get("max_rhat", 1.0) <= 1.5)

    def band(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Points, and between what the distribution functions of uniform ranks lie, all points at once, in 95 %."""
        gamma = float(np.quantile(self._null, 0.05))
        points, S = self._points, self.num_datasets
        counts = np.arange(S + 1)[:, None]  # (S + 1, points)
        below, above = _tails(counts, S, points)
        inside = np.minimum(below, above) >= gamma / 2 * (1 - 1e-9)
        return points, inside.argmax(0) / S, (S - inside[::-1].argmax(0)) / S

    def plot(self) -> Figure:
        """The ranks' distribution functions less the uniform one, with the band that 95 % of uniform ranks stay in."""
        from matplotlib.figure import Figure

        points, lower, upper = self.band()
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        axes.fill_between(points, lower - points, upper - points, color="0.85", label="95 % of uniform ranks")
        failed = set(self.frame.loc[self.frame["verdict"] == "fail", "parameter"])
        for name, ranks in self.ranks.items():
            label = name if name in failed or len(self.ranks) <= 10 else None
            line = self._counts(ranks) / self.num_datasets - points
            axes.plot(points, line, lw=1.6 if name in failed else 0.8, label=label)
        axes.axhline(0, color="0.4", lw=0.6)
        axes.set(xlabel="rank, as a part of the draws", ylabel="ECDF less uniform")
        axes.set_title(f"Calibration on {self.num_datasets} simulated data sets")
        axes.legend(fontsize="small")
        return figure

    def to_dict(self) -> dict[str, Any]:
        """All but the ranks, as JSON can hold it."""
        head = {"passed": self.passed, "num_datasets": self.num_datasets, "num_draws": self.num_draws}
        seconds = None if math.isnan(self.seconds) else self.seconds  # JSON has no NaN
        about = {"alpha": self.alpha, "seconds": seconds, **(self.about or {})}
        return {**head, **about, "parameters": self.frame.to_dict("records")}

    def __str__(self) -> str:
        about = "".join(f"; {name.replace('_', ' ')} {_short(value)}" for name, value in (self.about or {}).items())
        return f"{self._headline()}{about}\n{self.frame.to_string(index=False, float_format=lambda x: f'{x:.3f}')}"

    def _repr_html_(self) -> str:
        about = [f"{name.replace('_', ' ')}: {_short(value)}" for name, value in (self.about or {}).items()]
        return fragment(self._headline(), self.frame.sort_values("p_value", kind="stable", ignore_index=True), about)

    def _headline(self) -> str:
        verdict = "calibrated" if self.passed else "NOT calibrated" if self.sampled else "chains have NOT mixed"
        return f"{verdict} on {self.num_datasets} simulated data sets, ranks among {self.num_draws} draws"

    @property
    def _points(self) -> np.ndarray[Any, Any]:
        return np.arange(1, self.num_draws + 1) / (self.num_draws + 1)

    def _counts(self, ranks: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """How many ranks lie below each point."""
        return np.cumsum(np.bincount(ranks, minlength=self.num_draws + 1))[:-1]

    def _statistic(self, ranks: np.ndarray[Any, Any]) -> float:
        """Twice the least tail probability of the counts, over points and both tails."""
        counts, S = self._counts(ranks), self.num_datasets
        return float(2 * np.minimum(*_tails(counts, S, self._points)).min())

    @cached_property
    def _null(self) -> np.ndarray[Any, Any]:
        """The statistic of uniform ranks."""
        rng = np.random.default_rng(0)
        draws = rng.integers(0, self.num_draws + 1, (SIMULATIONS, self.num_datasets))
        return np.array([self._statistic(ranks) for ranks in draws])


def _tails(
    counts: np.ndarray[Any, Any], S: int, points: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Chances of so many uniform ranks of S, or fewer, below each point; and of so many or more."""
    above = np.where(counts > 0, 1 - bdtr(np.maximum(counts - 1, 0), S, points), 1.0)
    return bdtr(counts, S, points), above


def _holm(p_values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """p-values adjusted for their number."""
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    found = np.empty_like(p_values)
    found[order] = np.minimum(adjusted, 1.0)
    return found


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
