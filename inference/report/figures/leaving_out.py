"""What each observation adds, seen by leaving it out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference.diagnostics.calibration import Calibration
from inference.report.figures.selecting import groups_of, quiet, side_by_side
from inference.report.figures.style import COLOURS, GRID, fitted_name, new_figure, nothing, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["loo_khat_figure", "loo_pit_figure"]

FEWEST_DRAWS, MOST_OBSERVATIONS, MOST_WEIGHTS = 25, 500, 2_000_000
"""Draws below which no tail can be fitted; observations, and these times draws, that are weighted in a second."""


def loo_pit_figure(tree: xr.DataTree, variable: str) -> Figure:
    """Where each observation falls in what the others predict of it, as a distribution function less the uniform one.

    Observations that are not finite, or have predictions or likelihoods that are not, are left out; of very many, some
    are taken at equal distances.

    Args:
        tree: groups `posterior_predictive`, `observed_data` and `log_likelihood`.
        variable: in all three.
    """
    groups = groups_of(tree, variable, "observed_data", "posterior_predictive", "log_likelihood")
    observations = groups["observed_data"].size
    with styled():
        figure = new_figure(7.2, 2.8)
        axes = figure.subplots()
        axes.set_title(fitted_name(variable, 60))
        if set(groups["log_likelihood"].dims) - {"chain", "draw"} != set(groups["observed_data"].dims):
            nothing(axes, "an observation has several numbers, but one likelihood")
            return figure
        data, draws = side_by_side(groups["observed_data"], groups["posterior_predictive"])
        if len(draws) < FEWEST_DRAWS:
            nothing(axes, f"{len(draws)} draws are too few to leave observations out")
            return figure
        log_likelihood = side_by_side(groups["observed_data"], groups["log_likelihood"])[1]
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
