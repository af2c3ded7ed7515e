"""The guide, datum by datum, and beside the posterior of those it does worst on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from inference.ladder import HEAVY
from inference.report.figures.style import (
    COLOURS,
    INK,
    Array,
    drawable,
    fitted_name,
    new_figure,
    nothing,
    numbers,
    styled,
    unseen,
)

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["guide_figure", "khat_figure"]

BINS = 40

DRAWS, COLUMNS = 300, 5
"""Of each cloud of points; clouds side by side."""


def khat_figure(per_datum: pd.DataFrame, threshold: float) -> Figure:
    """Histograms of k-hat, with the limits it is held against, and of the effective draws.

    Args:
        per_datum: with the columns `khat` and `ess`.
        threshold: the limit of k-hat for the number of draws there were.
    """
    khat, ess = (numbers(per_datum[name]) for name in ("khat", "ess"))
    with styled():
        figure = new_figure(7.2, 2.8)
        left, right = figure.subplots(1, 2)
        _khats(left, khat[np.isfinite(khat)], threshold)
        _effective(right, ess[np.isfinite(ess) & (ess > 0)])
        left.set(xlabel=f"Pareto k-hat{unseen(int((~np.isfinite(khat)).sum()))}", ylabel="data")
        right.set(xlabel=f"effective draws{unseen(int((~np.isfinite(ess)).sum()))}", ylabel="data")
    return figure


def _khats(axes: Axes, khat: Array, threshold: float) -> None:
    if not len(khat):
        nothing(axes)
        return
    axes.hist(khat, bins=list(np.linspace(min(khat.min(), 0.0), max(khat.max(), 1.0), BINS + 1)), color=COLOURS[0])
    limits = {HEAVY: "-", round(threshold, 6): "--"} if np.isfinite(numbers(threshold)) else {HEAVY: "-"}
    for limit, dashes in limits.items():
        axes.axvline(limit, color=COLOURS[1], linestyle=dashes, linewidth=1.2, label=f"{limit:.2g}")
    axes.legend(title="limits")


def _effective(axes: Axes, ess: Array) -> None:
    if not len(ess):
        nothing(axes)
        return
    low, high = ess.min(), ess.max()
    axes.hist(ess, bins=list(np.geomspace(low, high if high > low else 1.01 * low, BINS + 1)), color=COLOURS[2])
    axes.set_xscale("log")


def guide_figure(tree: xr.DataTree, *, variable: str | None = None, top: int = 10) -> Figure:
    """Draws of the posterior by MCMC and of the guide, for some data, in the two units where they differ most.

    Args:
        tree: groups `posterior` and `guide` of the same variables, over `chain`, `draw` and the data.
        variable: which; by default the first.
        top: how many data.

    Raises:
        ValueError: if there is no such variable, or it has no dimension of data.
    """
    posterior, guide, data = _by_datum(tree, variable)
    shown = min(top, len(data))
    with styled():
        if not shown:
            figure = new_figure(7.2, 1.2)
            nothing(figure.subplots(), "no data")
            return figure
        rows, columns = -(-shown // COLUMNS), min(COLUMNS, shown)
        figure = new_figure(max(3.6, 1.52 * columns), 0.4 + 1.65 * rows)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        for axes, i in zip(grid, range(shown), strict=False):
            lost = sum(len(draws[i]) - len(drawable(draws[i])) for draws in (posterior, guide))
            _beside(axes, drawable(posterior[i]), drawable(guide[i]))
            axes.set_title(f"datum {fitted_name(data[i], 12)}{unseen(lost)}", fontsize=6.5 if lost else None)
        for axes in grid[shown:]:
            axes.set_visible(False)
        handles = [grid[0].scatter([], [], s=14, color=COLOURS[k], edgecolor="none") for k in (0, 1)]
        figure.legend(handles, ["posterior, by MCMC", "guide"], loc="outside upper right", ncols=2)
    return figure


def _by_datum(tree: xr.DataTree, variable: str | None) -> tuple[Array, Array, list[str]]:
    """Draws of both, `(n, draws, D)`, and what the data are called."""
    known = [str(name) for name in tree["guide"].data_vars if name in tree["posterior"].data_vars]
    if not known or (variable is not None and variable not in known):
        raise ValueError(f"`variable` is {variable!r}, expected one that `posterior` and `guide` have: {known}")
    name = known[0] if variable is None else variable
    arrays = [tree[group][name] for group in ("posterior", "guide")]
    own = [str(dim) for dim in arrays[0].dims if dim not in ("chain", "draw")]
    plate = next((dim for dim in own if not dim.startswith(f"{name}_dim_")), own[0] if own else None)
    if plate is None:
        raise ValueError(f"`tree` has `{name}` over chain and draw alone, expected a dimension of data too")
    laid = [numbers(array.transpose(plate, "chain", "draw", ...)) for array in arrays]
    posterior, guide = (x.reshape(len(x), x.shape[1] * x.shape[2], math.prod(x.shape[3:])) for x in laid)
    return posterior, guide, [str(value) for value in arrays[0][plate].to_numpy()]


def _beside(axes: Axes, posterior: Array, guide: Array) -> None:
    """Points in two units, or histograms of one."""
    axes.tick_params(labelsize=6.5)
    axes.locator_params(nbins=3)
    if not len(posterior) or not len(guide):
        nothing(axes, "nothing finite")
        return
    if posterior.shape[1] == 1:
        edges = list(np.linspace(*_range(np.concatenate([posterior, guide])), BINS + 1))
        for draws, colour in ((posterior, COLOURS[0]), (guide, COLOURS[1])):
            axes.hist(draws[:, 0], bins=edges, density=True, histtype="step", color=colour, linewidth=1.2)
        axes.set_yticks([])
        axes.set_xlabel("unit 0", fontsize=7, labelpad=1)
        return
    a, b = _apart(posterior, guide)
    for draws, colour in ((posterior, COLOURS[0]), (guide, COLOURS[1])):
        few = draws[:: max(1, -(-len(draws) // DRAWS))]
        axes.scatter(few[:, a], few[:, b], s=4, color=colour, alpha=0.6, linewidths=0, rasterized=True)
    axes.set_xlabel(f"unit {a}", fontsize=7, labelpad=1, color=INK)
    axes.set_ylabel(f"unit {b}", fontsize=7, labelpad=1, color=INK)


def _apart(posterior: Array, guide: Array) -> tuple[int, int]:
    """The two units whose means and spreads differ most, in their order."""
    spread = posterior.std(0)
    with np.errstate(all="ignore"):
        apart = np.nan_to_num(abs(posterior.mean(0) - guide.mean(0)) / spread + abs(np.log(guide.std(0) / spread)))
    a, b = sorted(np.argsort(-apart, kind="stable")[:2].tolist())
    return a, b


def _range(values: Array) -> tuple[float, float]:
    """The ends of an axis, with room between them."""
    low, high = float(values.min()), float(values.max())
    room = max(abs(low), abs(high), 1.0)
    return (low, high) if high - low > 1e-9 * room else (low - 0.5 * room, high + 0.5 * room)
