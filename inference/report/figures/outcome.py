"""What a model without a guide knows, does and draws: energies, steps of a chain, weights, classes, points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from inference.report.figures.pictures import grid_figure
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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["classes_figure", "filters_figure", "free_energies_figure", "per_step_figure", "scatter_figure"]

BINS = 40
"""Common to all sets of energies."""

FENCE = 4.0
"""Interquartile ranges beyond its quartiles to which the bins follow a set, so that wild values leave them narrow."""

SPANS = 30.0
"""How many times the median the largest cost may be on a linear axis."""

DECADES = 4
"""Below the largest cost that a logarithmic axis shows; what is smaller stands near 0."""

MOST_CLASSES = 30

DASHES = ("-", "--", ":")
"""Of sets in their order: told apart without colours too."""


def filters_figure(filters: Any, shape: Sequence[int], *, columns: int | None = None) -> Figure:
    """Weights of hidden units, each scaled to its own largest absolute value: black up to it, white down, grey at 0.

    Args:
        filters: `(units, x_dim)`.
        shape: of a datum; weights of what are no images are lines from -1 to 1.
        columns: how many stand in a row.
    """
    weights = numbers(filters)
    finite = np.where(np.isfinite(weights), abs(weights), 0.0)
    largest = finite.max(1, keepdims=True) if weights.size else np.ones((len(weights), 1))
    scaled = weights / np.where(largest > 0, largest, 1.0)
    return grid_figure(0.5 + scaled / 2 if len(shape) == 2 else scaled, shape, columns=columns)


def free_energies_figure(energies: pd.DataFrame) -> Figure:
    """How the free energies of each set are spread, as shares of the set in common bins; log Z plays no role.

    Args:
        energies: a row for each, with the columns `set` and `free_energy`, in nats.
    """
    sets = {str(name): numbers(part["free_energy"]) for name, part in energies.groupby("set", sort=False)}
    known = {name: values[np.isfinite(values)] for name, values in sets.items()}
    lost = sum(map(len, sets.values())) - sum(map(len, known.values()))
    with styled():
        figure = new_figure(7.2, 2.8)
        axes = figure.subplots()
        axes.set(xlabel=f"free energy, nats{unseen(lost)}", ylabel="share of the set")
        if not any(map(len, known.values())):
            nothing(axes)
            return figure
        edges = _bins([values for values in known.values() if len(values)])
        beyond = 0
        for i, (name, values) in enumerate(known.items()):
            counts, _ = np.histogram(values, edges)
            beyond += len(values) - int(counts.sum())
            label = f"{fitted_name(name)} ({len(values):,})"
            stairs = axes.stairs(counts / max(1, len(values)), edges, linewidth=1.4, label=label)
            stairs.set(edgecolor=COLOURS[i % len(COLOURS)], linestyle=DASHES[i % len(DASHES)])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"free energy, nats{unseen(lost)}{f'; {beyond:,} beyond the bins' if beyond else ''}")
        axes.legend()
    return figure


def _bins(sets: Sequence[Array]) -> Array:
    """Edges that all sets have in common."""
    ends = np.array([_ends(values) for values in sets])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    if not high > low:
        low, high = low - max(0.5, 1e-6 * abs(low)), high + max(0.5, 1e-6 * abs(high))
    return np.linspace(low, high, BINS + 1)


def _ends(values: Array) -> tuple[float, float]:
    """Where a set begins and ends, or its fences where it goes beyond them."""
    first, third = np.quantile(values, [0.25, 0.75])
    reach = FENCE * (third - first) if third > first else np.inf
    return float(max(values.min(), first - reach)), float(min(values.max(), third + reach))


def per_step_figure(per_step: pd.DataFrame) -> Figure:
    """What each step costs the bound: minus its term, a bar each, below 0 where it adds to the bound.

    The axis is logarithmic either side of 0 where the costs span decades.

    Args:
        per_step: with the columns `t`, from 1 to T and the end at T + 1, and `nats`, the terms.
    """
    t, costs = numbers(per_step["t"]), -numbers(per_step["nats"])
    seen = np.isfinite(t) & np.isfinite(costs)
    lost = unseen(int((~seen).sum()))
    with styled():
        figure = new_figure(7.2, 2.8)
        axes = figure.subplots()
        axes.set(xlabel=f"step t; the last is the end of the chain{lost}", ylabel="cost, nats per datum")
        if not seen.any():
            nothing(axes)
            return figure
        t, costs = t[seen], costs[seen]
        for sign, colour, label in ((1, COLOURS[0], "taken from the bound"), (-1, COLOURS[1], "added to it")):
            chosen = sign * costs > 0
            if chosen.any() or sign > 0:
                axes.bar(t[chosen], costs[chosen], width=1.0 if len(t) > 60 else 0.8, color=colour, label=label)
        axes.axhline(0.0, color=INK, linewidth=0.7)
        _scale(axes, costs)
        axes.set_xlim(t.min() - 0.7, t.max() + 0.7)
        if (costs < 0).any():
            axes.legend()
    return figure


def _scale(axes: Axes, costs: Array) -> None:
    """A logarithmic axis, linear near 0, where the largest cost would hide the usual one."""
    sizes = abs(costs[costs != 0])
    if not len(sizes) or sizes.max() <= SPANS * np.median(sizes):
        return
    linear = max(float(sizes.min()), float(sizes.max()) / 10**DECADES)
    axes.set_yscale("symlog", linthresh=linear)
    decades = 10.0 ** np.arange(np.floor(np.log10(linear)) + 1, np.floor(np.log10(sizes.max())) + 1)
    ticks = [0.0, *(sign * size for sign in (1, -1) for size in decades if (sign * costs).max() >= size)]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.set_ylabel("cost, nats per datum (log)")


def classes_figure(labels: pd.DataFrame) -> Figure:
    """The share of each class in samples, with two standard errors either way, beside that in the data.

    Args:
        labels: a row for each class, with the columns `class`, `samples`, `share` and `data`, as
            `LabelStatistics.to_histogram`; the first thirty are drawn.
    """
    shown = labels.head(MOST_CLASSES)
    share, data = numbers(shown["share"]), numbers(shown["data"])
    errors = 2 * np.sqrt(np.clip(share * (1 - share), 0, None) / max(1.0, float(np.nansum(labels["samples"]))))
    with styled():
        figure = new_figure(7.2, 2.6)
        axes = figure.subplots()
        lost = unseen(int((~np.isfinite([share, data]).all(0)).sum()))
        more = f"; {len(labels) - len(shown)} more in the table" if len(labels) > len(shown) else ""
        axes.set(xlabel=f"class{lost}{more}", ylabel="share")
        if not (np.isfinite(share).any() or np.isfinite(data).any()):
            nothing(axes)
            return figure
        places = np.arange(len(shown))
        heights = np.where(np.isfinite(share), share, 0.0)
        axes.bar(places - 0.2, heights, width=0.4, color=COLOURS[0], label="samples")
        axes.bar(places + 0.2, np.where(np.isfinite(data), data, 0.0), width=0.4, color=COLOURS[6], label="data")
        reach = np.where(np.isfinite(errors), errors, 0.0)
        axes.errorbar(places - 0.2, heights, reach, fmt="none", ecolor=INK, elinewidth=0.8)
        axes.set_xticks(places, [fitted_name(f"{c}", 12) for c in shown["class"]])
        axes.grid(visible=False, axis="x")
        axes.set_ylim(bottom=0)
        axes.legend(ncols=2)
    return figure


def scatter_figure(samples: Any, data: Any) -> Figure:
    """Samples of two numbers as points, beside held-out data on the same axes.

    Args:
        samples: `(s, 2)`.
        data: `(m, 2)`.
    """
    sets = {"samples": numbers(samples), "data": numbers(data)}
    known = {name: drawable(rows) for name, rows in sets.items()}
    with styled():
        figure = new_figure(7.2, 3.5)
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for i, (axes, (name, rows)) in enumerate(zip(panels, known.items(), strict=True)):
            axes.set_title(f"{len(rows):,} {name}{unseen(len(sets[name]) - len(rows))}")
            if not len(rows):
                nothing(axes)
                continue
            axes.plot(rows[:, 0], rows[:, 1], ".", color=COLOURS[(0, 6)[i]], markersize=4, alpha=0.7, linestyle="none")
            axes.set_aspect("equal", adjustable="box")
        if any(map(len, known.values())):
            every = np.concatenate(list(known.values()))
            middle, reach = (every.max(0) + every.min(0)) / 2, 0.53 * float(np.ptp(every, 0).max()) or 0.5
            panels[0].set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach))
    return figure
