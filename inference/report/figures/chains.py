"""Chains: where they go, and what they come to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.report.figures.selecting import drawn, panels_of, quiet, selected, varies, why_not
from inference.report.figures.style import COLOURS, MUTED, fitted_name, new_figure, nothing, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["energy_figure", "evolution_figure", "forest_figure", "pair_figure", "trace_figure"]

MOST_CHAINS, MOST_POINTS = 8, 2000


def trace_figure(tree: xr.DataTree, names: Sequence[str]) -> Figure:
    """Draws in their order, a line for each chain.

    Raises:
        ValueError: if there are more than eight chains, whose lines could not be told apart.
    """
    chains = tree["posterior"].sizes["chain"]
    if chains > MOST_CHAINS:
        raise ValueError(f"`tree` has {chains} chains, expected at most {MOST_CHAINS}: see `rank_figure` for more")
    draws = selected(tree, names)
    most = 12_000 // max(1, len(names) * chains)  # of each line, so that the page stays small
    with styled():
        figure, panels = panels_of(len(names), 1, 1.3)
        for axes, name in zip(panels, names, strict=False):
            axes.set_title(fitted_name(name, 60))
            values = draws[name]
            if not np.isfinite(values).any():
                nothing(axes)
                continue
            step = max(1, -(-values.shape[1] // max(most, 50)))
            for chain, colour in zip(values, (*COLOURS, MUTED), strict=False):
                axes.plot(np.arange(values.shape[1])[::step], chain[::step], color=colour, linewidth=0.6, alpha=0.8)
        panels[len(names) - 1].set_xlabel("draw")
    return figure


def energy_figure(tree: xr.DataTree) -> Figure:
    """The spread of the energy and of its changes, by `arviz_plots.plot_energy`."""
    import xarray as xr
    from arviz_plots import plot_energy

    found = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else {}
    if "energy" not in found:
        return _empty("no energies were kept")
    energy = found["energy"].transpose("chain", "draw")
    if not varies(energy.to_numpy()):
        return _empty(why_not(energy.to_numpy()))
    with styled():
        stats = xr.Dataset({"energy": energy[:, : max(1, 100_000 // energy.sizes["chain"])]})
        visuals = {"bfmi_points": {"color": COLOURS[0]}, "ref_line": {"color": MUTED}, "face": {"alpha": 0.25}}
        tree = xr.DataTree.from_dict({"sample_stats": stats})
        figure = drawn(plot_energy, tree, visuals=visuals, figure_kwargs={"figsize": (7.2, 2.8)})
    for axes in figure.axes:
        axes.set_title("", loc="left")  # white, and below said again
    figure.axes[0].set_xlabel("BFMI; 0.3 dashed")
    figure.axes[1].set_xlabel("energy: all draws, and steps between two")
    return figure


def evolution_figure(tree: xr.DataTree, names: Sequence[str]) -> Figure:
    """Bulk and tail ESS, and R-hat, as draws are added."""
    draws = selected(tree, names)
    with styled():
        figure = new_figure(7.2, 2.7)
        left, right = figure.subplots(1, 2)
        shown = False
        for i, name in enumerate(names):
            values, colour = draws[name], COLOURS[i % len(COLOURS)]
            if not varies(values) or values.shape[1] < 2 * 8:
                continue
            shown = True
            ends, bulk, tail, r_hat = _evolution(values)
            left.plot(ends, bulk, color=colour, marker=".", label=fitted_name(name, 20))
            left.plot(ends, tail, color=colour, marker=".", linestyle=":", linewidth=1.0)
            right.plot(ends, r_hat, color=colour, marker=".")
        if not shown:
            for axes in (left, right):
                nothing(axes, "nothing that varies, is finite and has 16 draws")
            return figure
        left.legend()
        left.set(xlabel="draws of each chain", ylabel="ESS; bulk, tail dotted")
        right.axhline(1.01, color=MUTED, linewidth=0.9, linestyle="--")
        right.set(xlabel="draws of each chain", ylabel="R-hat; 1.01 dashed")
    return figure


def forest_figure(tree: xr.DataTree, names: Sequence[str]) -> Figure:
    """Medians with intervals of 50 % (thick) and 94 % (thin), one parameter under the other."""
    draws = selected(tree, names)
    with styled():
        figure = new_figure(7.2, 0.7 + 0.2 * max(1, len(names)))
        axes = figure.subplots()
        shown, labels = 0, []
        for place, name in enumerate(names):
            values = draws[name][np.isfinite(draws[name])]
            lost = draws[name].size - len(values)
            labels.append(f"{fitted_name(name)}{f' ({lost} not finite)' if lost else ''}")
            if not len(values):
                continue
            shown += 1
            ends = np.quantile(values, [0.03, 0.25, 0.5, 0.75, 0.97])
            axes.plot(ends[[0, 4]], [place, place], color=COLOURS[0], linewidth=1.0)
            axes.plot(ends[[1, 3]], [place, place], color=COLOURS[0], linewidth=3.2)
            axes.plot(ends[2], place, "o", color=COLOURS[1], markersize=3.5)
        if not shown:
            nothing(axes)
            return figure
        axes.set_yticks(range(len(names)), labels)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("median, 50 % and 94 % intervals")
    return figure


def pair_figure(tree: xr.DataTree, names: Sequence[str]) -> Figure:
    """Draws of parameters against each other, divergent transitions marked."""
    if len(names) < 2:
        return _empty("two parameters are needed")
    values = {name: one.ravel() for name, one in selected(tree, names).items()}
    wild = _diverging(tree)
    k = len(names) - 1
    with styled():
        figure = new_figure(min(7.2, 2.4 * k), min(6.6, 2.1 * k))
        grid = figure.subplots(k, k, squeeze=False, sharex="col", sharey="row")
        for i, j in np.ndindex(k, k):
            axes: Any = grid[i, j]
            if j > i:
                axes.set_visible(False)
                continue
            _points(axes, values[names[j]], values[names[i + 1]], wild)
            if i == k - 1:
                axes.set_xlabel(fitted_name(names[j], 18))
            if j == 0:
                axes.set_ylabel(fitted_name(names[i + 1], 18))
    return figure


# -- numbers -------------------------------------------------------------------------------------------------


def _points(axes: Axes, x: Any, y: Any, wild: Any) -> None:
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        nothing(axes)
        return
    few = np.flatnonzero(finite)
    few = few[:: max(1, -(-len(few) // MOST_POINTS))]
    axes.scatter(x[few], y[few], s=3, color=COLOURS[0], alpha=0.35, linewidths=0, rasterized=True)
    if wild is not None and len(wild) == len(x):
        marked = np.flatnonzero(finite & wild)[:500]
        axes.scatter(x[marked], y[marked], s=14, color=COLOURS[1], marker="x", lw=0.9, rasterized=len(marked) > 100)


def _empty(why: str) -> Figure:
    with styled():
        figure = new_figure(7.2, 1.5)
        nothing(figure.subplots(), why)
    return figure


def _diverging(tree: xr.DataTree) -> Any:
    """Which draws diverged, chain after chain; `None` where that was not kept."""
    stats = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else {}
    if "diverging" not in stats or set(stats["diverging"].dims) != {"chain", "draw"}:
        return None
    return stats["diverging"].transpose("chain", "draw").to_numpy().astype(bool).ravel()


def _evolution(values: Any) -> tuple[Any, Any, Any, Any]:
    """Numbers of draws, and ESS and R-hat of so many."""
    from arviz_stats.base.array import array_stats

    draws = values.shape[1]
    ends = np.unique(np.linspace(max(16, draws // 10), draws, 10 if values.size < 50_000 else 6).astype(int))
    with quiet():
        bulk = [float(array_stats.ess(values[:, :end], method="bulk")) for end in ends]
        tail = [float(array_stats.ess(values[:, :end], method="tail", prob=(0.05, 0.95))) for end in ends]
        r_hat = [float(array_stats.rhat(values[:, :end], method="rank")) for end in ends]
    return ends, bulk, tail, r_hat
