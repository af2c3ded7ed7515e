r"""`ppc`: do the data look like data that the fitted program makes?

A statistic T of the data is compared with the same of data drawn from the posterior,
:math:`P(T(x^{rep}) \ge T(x) \mid x)`: near 0 or 1 the program does not make such data. As the data have been used to
fit, such p-values lean towards one half: they miss more than they should, and cry wolf less.

References:
    Gelman, Meng and Stern, *Posterior Predictive Assessment of Model Fitness via Realized Discrepancies*, 1996,
    Statistica Sinica 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd

from inference.display import fragment

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["STATISTICS", "PredictiveCheck", "ppc"]

Statistic: TypeAlias = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]
"""Of data `(S, N)`, one number for each of S sets of N: `(S,)`."""

STATISTICS: dict[str, Statistic] = {
    "mean": lambda x: x.mean(-1),
    "sd": lambda x: x.std(-1),
    "least": lambda x: x.min(-1),
    "median": lambda x: np.median(x, -1),
    "largest": lambda x: x.max(-1),
    "share of zeros": lambda x: (x == 0).mean(-1),
}
"""What data are compared in unless something else is asked for."""


@dataclass(frozen=True, eq=False)
class PredictiveCheck:
    """What a posterior predictive check found.

    Attributes:
        frame: a row for each observed variable and statistic: its value on the data, mean and sd on data drawn from the
            posterior, `p_value` (of a replicate being at least as large, ties counting half), and the verdict.
        alpha: p-values nearer to 0 or 1 than half of this fail.
    """

    frame: pd.DataFrame
    alpha: float

    @property
    def passed(self) -> bool:
        """Whether no statistic fails."""
        return bool((self.frame["verdict"] == "pass").all())

    def __str__(self) -> str:
        return f"{self._headline()}\n{self.frame.to_string(index=False, float_format=lambda x: f'{x:.4g}')}"

    def _repr_html_(self) -> str:
        failed_first = self.frame.sort_values("verdict", kind="stable", ignore_index=True)
        return fragment(self._headline(), failed_first)

    def _headline(self) -> str:
        failed = self.frame[self.frame["verdict"] == "fail"]
        if failed.empty:
            return f"the data look like the program's own in {len(self.frame)} statistics"
        names = ", ".join(f"{row.statistic} of {row.variable}" for row in failed.itertuples())
        return f"the program does not make such data: {names}"


def ppc(
    tree: xr.DataTree,
    statistics: Mapping[str, Statistic] | None = None,
    *,
    var_names: Sequence[str] | None = None,
    alpha: float = 0.01,
) -> PredictiveCheck:
    """Compare the data with data drawn from the posterior.

    Args:
        tree: with the groups `posterior_predictive` and `observed_data`.
        statistics: functions of data `(S, N)`, a number for each of S sets, by name; `STATISTICS` by default.
        var_names: observed variables, all by default.
        alpha: p-values nearer to 0 or 1 than half of this fail; for each statistic by itself.

    Raises:
        ValueError: if the tree lacks a group or a variable, or a statistic has another shape.

    >>> import xarray as xr
    >>> rng = np.random.default_rng(0)
    >>> tree = xr.DataTree.from_dict({
    ...     "posterior_predictive": xr.Dataset({"x": (("chain", "draw", "data"), rng.normal(size=(2, 500, 50)))}),
    ...     "observed_data": xr.Dataset({"x": ("data", rng.normal(size=50) * 3)}),
    ... })
    >>> ppc(tree, {"sd": STATISTICS["sd"]}).frame["verdict"].tolist()
    ['fail']
    """
    for group in ("posterior_predictive", "observed_data"):
        if group not in tree.children:
            raise ValueError(f"`tree` has no group `{group}`, expected it: sample with `predictive=True`")
    observed, predicted = tree["observed_data"].to_dataset(), tree["posterior_predictive"].to_dataset()
    names = list(observed.data_vars) if var_names is None else list(var_names)
    rows = []
    for name in names:
        if name not in observed or name not in predicted:
            raise ValueError(f"`var_names` has `{name}`, expected some of {', '.join(map(str, observed.data_vars))}")
        data = observed[name].to_numpy().reshape(1, -1)
        drawn = predicted[name].transpose("chain", "draw", *observed[name].dims).to_numpy().reshape(-1, data.shape[1])
        if observed[name].attrs.get("masked"):  # what is masked stands there as NaN
            data, drawn = data[:, ~np.isnan(data[0])], drawn[:, ~np.isnan(data[0])]
        for label, statistic in (statistics or _suitable(data)).items():
            rows.append({"variable": name, "statistic": label, **_compared(label, statistic, data, drawn, alpha)})
    return PredictiveCheck(pd.DataFrame(rows), alpha)


def _suitable(data: np.ndarray[Any, Any]) -> dict[str, Statistic]:
    """The share of zeros says something of data that have some."""
    return {name: f for name, f in STATISTICS.items() if name != "share of zeros" or (data == 0).any()}


def _compared(
    label: str, statistic: Statistic, data: np.ndarray[Any, Any], drawn: np.ndarray[Any, Any], alpha: float
) -> dict[str, Any]:
    value, values = (np.asarray(statistic(x.astype(float))) for x in (data, drawn))
    if value.shape != (1,) or values.shape != (len(drawn),):
        raise ValueError(
            f"`statistics` has `{label}`, which gives {values.shape} for {len(drawn)} sets, expected one number each: "
            "work along the last axis"
        )
    p_value = float((values > value).mean() + 0.5 * (values == value).mean())
    fails = not np.isfinite(value[0]) or min(p_value, 1 - p_value) < alpha / 2
    return {
        "observed": float(value[0]),
        "predicted": float(values.mean()),
        "sd": float(values.std()),
        "p_value": p_value,
        "verdict": "fail" if fails else "pass",
    }
