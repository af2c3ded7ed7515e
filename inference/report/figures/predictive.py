"""Data beside predictions, what each observation adds, and what parameters depend on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from inference.diagnostics.calibration import Calibration
from inference.report.figures.selecting import quiet
from inference.report.figures.style import COLOURS, GRID, MUTED, fitted_name, new_figure, nothing, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["loo_khat_figure", "loo_pit_figure", "ppc_figure", "sensitivity_figure"]

REPLICATES, MOST_VALUES, FEW_VALUES, MOST_BARS = 50, 2000, 12, 30

HUGE = 1e300
"""Beyond it the ends of an axis are infinite."""

FEWEST_DRAWS, MOST_OBSERVATIONS, MOST_WEIGHTS = 25, 500, 2_000_000
"""Draws below which no tail can be fitted; observations, and these times draws, that are weighted in a second."""


def ppc_figure(tree: xr.DataTree, variable: str) -> Figure:
    """The distribution of the data and those of data drawn from the posterior: bars for few values, else curves.

    Where data are not finite, as those that are masked, neither they nor what is drawn in their place is shown.

    Args:
        tree: groups `posterior_predictive` and `observed_data`.
        variable: in both.
    """
    groups = _groups(tree, variable, "observed_data", "posterior_predictive")
    data, draws = _side_by_side(groups["observed_data"], groups["posterior_predictive"])
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


def loo_pit_figure(tree: xr.DataTree, variable: str) -> Figure:
    """Where each observation falls in what the others predict of it, as a distribution function less the uniform one.

    Observations that are not finite, or have predictions or likelihoods that are not, are left out; of very many, some
    are taken at equal distances.

    Args:
        tree: groups `posterior_predictive`, `observed_data` and `log_likelihood`.
        variable: in all three.
    """
    groups = _groups(tree, variable, "observed_data", "posterior_predictive", "log_likelihood")
    observations = groups["observed_data"].size
    with styled():
        figure = new_figure(7.2, 2.8)
        axes = figure.subplots()
        axes.set_title(fitted_name(variable, 60))
        if set(groups["log_likelihood"].dims) - {"chain", "draw"} != set(groups["observed_data"].dims):
            nothing(axes, "an observation has several numbers, but one likelihood")
            return figure
        data, draws = _side_by_side(groups["observed_data"], groups["posterior_predictive"])
        if len(draws) < FEWEST_DRAWS:
            nothing(axes, f"{len(draws)} draws are too few to leave observations out")
            return figure
        log_likelihood = _side_by_side(groups["observed_data"], groups["log_likelihood"])[1]
        pit = _loo_pit(data, draws, log_likelihood, groups["log_likelihood"].sizes["chain"])
        if not len(pit):
            nothing(axes)
            return figure
        _less_uniform(axes, pit)
        some = "" if len(pit) == observations else f"{len(pit)} of "
        axes.set(xlabel=f"LOO-PIT of {some}{observations} observations", ylabel="ECDF less uniform")
        figure.legend(loc="outside upper right", ncols=2)
    return figure


def loo_khat_figure(khats: Any, threshold: float) -> Figure:
    """k-hat of leaving out each observation; those above the threshold are marked, as those that are not finite."""
    khats = np.asarray(khats, dtype=float).ravel()
    with styled():
        figure = new_figure(7.2, 2.4)
        axes = figure.subplots()
        known = np.flatnonzero(np.isfinite(khats))
        if not len(known):
            nothing(axes)
            return figure
        high = khats[known] > threshold
        many = len(known) > 1000
        for mask, colour, size in ((~high, COLOURS[0], 8 if many else 16), (high, COLOURS[1], 18 if many else 26)):
            axes.scatter(known[mask], khats[known][mask], s=size, color=colour, linewidths=0, rasterized=many)
        if len(known) < len(khats):
            lost = np.flatnonzero(~np.isfinite(khats))
            ends = [khats[known].max(), threshold if np.isfinite(threshold) else -np.inf]
            top = np.full(len(lost), max(ends))
            label = f"{len(lost)} not finite"
            axes.scatter(lost, top, s=22, color=COLOURS[1], marker="^", linewidths=0, rasterized=many, label=label)
        axes.axhline(threshold, color=COLOURS[1], linewidth=1.0, linestyle="--", label=f"limit {threshold:.2g}")
        axes.legend()
        axes.set(xlabel="observation", ylabel="Pareto k-hat")
    return figure


def sensitivity_figure(frame: pd.DataFrame) -> Figure:
    """Sensitivity of each parameter to prior and likelihood, the most sensitive first.

    Args:
        frame: by parameter, with the columns `prior` and `likelihood`.
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
        axes.axvline(0.05, color=MUTED, linewidth=1.0, linestyle="--", label="sensitive from 0.05")
        axes.set_yticks(places, [fitted_name(str(name)) for name in shown.index])
        axes.set_ylim(len(shown) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside upper right", ncols=3)
        more = f"; {len(order) - len(shown)} more have less" if len(order) > len(shown) else ""
        unknown = f"; {lost} not finite" if lost else ""
        axes.set_xlabel(f"sensitivity to power scaling{more}{unknown}")
    return figure


def _groups(tree: xr.DataTree, variable: str, *groups: str) -> dict[str, xr.DataArray]:
    """The variable of each group."""
    for group in groups:
        if group not in tree.children or variable not in tree[group].data_vars:
            raise ValueError(f"`tree` has no `{variable}` in its group `{group}`, expected it: sample it there too")
    return {group: tree[group].to_dataset()[variable] for group in groups}


def _side_by_side(observed: xr.DataArray, drawn: xr.DataArray) -> tuple[Any, Any]:
    """Observations `(n,)` and what there is of each in every draw, `(S, n)`."""
    if "chain" in observed.dims or set(drawn.dims) != {"chain", "draw", *observed.dims}:
        expected = ", ".join(map(str, ("chain", "draw", *observed.dims)))
        raise ValueError(f"`tree` has draws of `{drawn.name}` over {drawn.dims}, expected {expected}")
    data = observed.to_numpy().astype(float).ravel()
    return data, drawn.transpose("chain", "draw", *observed.dims).to_numpy().reshape(-1, data.size)


def _loo_pit(data: Any, draws: Any, log_likelihood: Any, chains: int) -> Any:
    """The chance, given the other observations, of one below each that is finite throughout; by `arviz_stats`."""
    import xarray as xr
    from arviz_stats import loo_pit  # type: ignore[attr-defined]

    finite = np.isfinite(data) & np.isfinite(draws).all(0) & np.isfinite(log_likelihood).all(0)
    kept = np.flatnonzero(finite)
    kept = kept[:: max(1, -(-len(kept) // MOST_OBSERVATIONS), -(-len(kept) * len(draws) // MOST_WEIGHTS))]
    if not len(kept):
        return np.zeros(0)
    over = ("chain", "draw", "observation")
    predicted, weights = (values[:, kept].reshape(chains, -1, len(kept)) for values in (draws, log_likelihood))
    groups = {
        "posterior": xr.Dataset({"x": (over[:2], weights.sum(-1))}),  # its efficiency is all that is asked of it
        "posterior_predictive": xr.Dataset({"x": (over, predicted)}),
        "log_likelihood": xr.Dataset({"x": (over, weights)}),
        "observed_data": xr.Dataset({"x": (over[2:], data[kept])}),
    }
    with quiet():
        pit = loo_pit(xr.DataTree.from_dict(groups), var_names="x")["x"].to_numpy()
    return pit[np.isfinite(pit)]


def _less_uniform(axes: Axes, pit: Any) -> None:
    """The distribution function of numbers from 0 to 1, and the band that 95 % of uniform ones stay in throughout."""
    points, lower, upper = Calibration({"x": np.minimum((pit * 100).astype(int), 99)}, 99).band()
    axes.fill_between(points, lower - points, upper - points, color=GRID, linewidth=0, label="95 % of uniform ones")
    line = np.searchsorted(np.sort(pit), points, side="right") / len(pit) - points
    axes.plot([0, *points, 1], [0, *line, 0], color=COLOURS[0], label="observations")
    axes.set_xlim(0, 1)


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
