"""Data beside predictions, and what parameters depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from inference.report.figures.selecting import groups_of, side_by_side
from inference.report.figures.style import COLOURS, MUTED, fitted_name, new_figure, nothing, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ppc_figure", "sensitivity_figure"]

REPLICATES, MOST_VALUES, FEW_VALUES, MOST_BARS = 50, 2000, 12, 30

HUGE = 1e300
"""Beyond it the ends of an axis are infinite."""


def ppc_figure(tree: xr.DataTree, variable: str) -> Figure:
    """The distribution of the data and those of data drawn from the posterior: bars for few values, else curves.

    Where data are not finite, as those that are masked, neither they nor what is drawn in their place is shown.

    Args:
        tree: groups `posterior_predictive` and `observed_data`.
        variable: in both.
    """
    groups = groups_of(tree, variable, "observed_data", "posterior_predictive")
    data, draws = side_by_side(groups["observed_data"], groups["posterior_predictive"])
    picked = np.linspace(0, len(draws) - 1, min(REPLICATES, len(draws))).astype(int)
    kept = np.flatnonzero(abs(data) < HUGE)
    kept = kept[:: max(1, -(-len(kept) // MOST_VALUES))]
    data, replicates = data[kept], draws[picked][:, kept].astype(float)
    replicates = np.where(abs(replicates) < HUGE, replicates, np.nan)
    with styled():
        figure = new_figure(7.2, 2.8)
        axes = figure.subplots()
        values = np.unique(np.concatenate([data, replicates[np.isfinite(replicates)]]))
        if not len(data) or not np.isfinite(replicates).any():
            nothing(axes)
            return figure
        axes.set_xlabel(fitted_name(variable, 60))
        if len(np.unique(data)) <= FEW_VALUES and len(values) <= 3 * FEW_VALUES and (values == np.round(values)).all():
            _bars(axes, values, data, replicates)
        else:
            _curves(axes, data, replicates)
        axes.legend()
    return figure


def sensitivity_figure(frame: pd.DataFrame, *, limit: float = 0.05) -> Figure:
    """Sensitivity of each parameter to prior and likelihood, the most sensitive first.

    Args:
        frame: by parameter, with the columns `prior` and `likelihood`.
        limit: from which on a parameter is sensitive.
    """
    numbers = frame[["prior", "likelihood"]].apply(pd.to_numeric, errors="coerce").replace([np.inf, -np.inf], np.nan)
    largest = numbers.max(axis=1).to_numpy(dtype=float)
    order = np.argsort(-largest, kind="stable")[: np.isfinite(largest).sum()]  # NaN go last
    shown, lost = numbers.iloc[order[:MOST_BARS]], int((~np.isfinite(largest)).sum())
    with styled():
        figure = new_figure(7.2, 1.1 + 0.26 * max(2, len(shown)))
        axes = figure.subplots()
        if shown.empty:
            nothing(axes)
            return figure
        places = np.arange(len(shown))
        for side, (name, colour) in zip(
            (-0.19, 0.19), (("prior", COLOURS[4]), ("likelihood", COLOURS[0])), strict=True
        ):
            axes.barh(places + side, shown[name].fillna(0), height=0.36, color=colour, label=name)
        axes.axvline(limit, color=MUTED, linewidth=1.0, linestyle="--", label=f"sensitive from {limit:g}")
        axes.set_yticks(places, [fitted_name(str(name)) for name in shown.index])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper right", ncols=3)
        more = f"; {len(order) - len(shown)} more have less" if len(order) > len(shown) else ""
        unknown = f"; {lost} not finite" if lost else ""
        axes.set_xlabel(f"sensitivity to power scaling{more}{unknown}")
    return figure


def _bars(axes: Axes, values: Any, data: Any, replicates: Any) -> None:
    """Shares of few values, with what 94 % of replicates have."""
    shares = np.array([[(row == value).mean() for value in values] for row in replicates])
    low, middle, high = np.quantile(shares, [0.03, 0.5, 0.97], axis=0)
    places = np.arange(len(values))
    axes.bar(places, [(data == value).mean() for value in values], color=COLOURS[6], alpha=0.5, label="data")
    axes.errorbar(
        places, middle, [middle - low, high - middle], fmt="o", color=COLOURS[0], label="drawn, 94 %", capsize=2
    )
    axes.set_xticks(places, [f"{value:g}" for value in values], fontsize=8 if len(values) <= 20 else 6)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("share")


def _curves(axes: Axes, data: Any, replicates: Any) -> None:
    """Distribution functions, which need no width to be chosen; far tails of the replicates may leave the frame."""
    for i, row in enumerate(replicates):
        row = np.sort(row[np.isfinite(row)])
        if len(row):
            label = f"drawn, {len(replicates)} times" if i == 0 else None
            axes.step(*_steps(row, 80), where="post", color=COLOURS[5], linewidth=0.6, alpha=0.5, label=label)
    axes.step(*_steps(np.sort(data), 200), where="post", color=COLOURS[1], linewidth=1.8, label="data")
    finite = replicates[np.isfinite(replicates)]
    low, high = np.quantile(finite, [0.005, 0.995])
    low, high = min(low, data.min()), max(high, data.max())
    if finite.max() - finite.min() > 4 * (high - low) > 0:
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        axes.set_xlabel(f"{axes.get_xlabel()}; {int(((finite < low) | (finite > high)).sum())} drawn lie beyond")
    axes.set_ylabel("share up to here")


def _steps(values: Any, most: int) -> tuple[Any, Any]:
    """Corners of a distribution function, from 0 up to 1."""
    at = np.unique(np.linspace(0, len(values) - 1, min(most, len(values))).astype(int))
    return np.append(values[0], values[at]), np.append(0.0, (at + 1) / len(values))
