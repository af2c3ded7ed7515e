"""Units of a latent site, and its prior against the guide's draws over all data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from inference.report.examination import LatentUse
from inference.report.figures.style import (
    COLOURS,
    MUTED,
    Array,
    drawable,
    new_figure,
    nothing,
    numbers,
    styled,
    unseen,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["kl_figure", "projection_figure"]

MOST_UNITS, MOST_POINTS, RASTERISED = 50, 2000, 1500


def kl_figure(use: LatentUse) -> Figure:
    """KL of each unit with two standard errors, the largest first; idle units are grey."""
    kl, errors = numbers(use.kl), 2 * numbers(use.kl_se)
    known = np.flatnonzero(np.isfinite(kl))
    order = known[np.argsort(-kl[known], kind="stable")]
    shown, whole = order[:MOST_UNITS], len(use.kl) == 1 and use.codes.shape[1] > 1
    with styled():
        figure = new_figure(7.2, 2.6)
        axes = figure.subplots()
        lost = unseen(len(kl) - len(known))
        axes.set(xlabel=f"unit{lost}", ylabel="KL, nats per datum")
        if not len(shown):
            nothing(axes)
            return figure
        active = use.variance > use.threshold if len(use.variance) == len(kl) else np.ones(len(kl), dtype=bool)
        places, colours = np.arange(len(shown)), [COLOURS[0] if active[unit] else COLOURS[6] for unit in shown]
        reach = np.where(np.isfinite(errors[shown]), errors[shown], 0.0)
        axes.bar(places, kl[shown], yerr=reach, color=colours, ecolor=MUTED, error_kw={"linewidth": 1.0})
        axes.set_xticks(places, ["all units" if whole else str(unit) for unit in shown], fontsize=_size(len(shown)))
        axes.set_xlim(-0.7, max(len(shown), 5) - 0.3)
        axes.grid(visible=False, axis="x")
        more = f"; {len(order) - len(shown)} more have less" if len(order) > len(shown) else ""
        idle = "" if active[shown].all() else "; idle units grey"
        unsure = int((~np.isfinite(errors[shown])).sum())
        unsure_of = f"; {unsure} without a standard error" if unsure else ""
        axes.set_xlabel(f"unit{more}{idle}{unsure_of}{lost}")
    return figure


def _size(count: int) -> float:
    """Of so many labels side by side."""
    return 8.0 if count <= 25 else 6.0


def projection_figure(use: LatentUse) -> Figure:
    """Draws of the prior and of the guide over all data, in two dimensions: the units, or what varies most in both."""
    codes, prior = (drawable(numbers(draws)) for draws in (use.codes, use.prior))
    with styled():
        figure = new_figure(7.2, 3.4)
        panels = left, right = figure.subplots(1, 2, sharex=True, sharey=True)
        left.set_title(f"prior{unseen(len(use.prior) - len(prior))}")
        right.set_title(f"guide, over {len(codes)} data{unseen(len(use.codes) - len(codes))}")
        if not codes.size or not prior.size:
            for axes in panels:
                nothing(axes)
            return figure
        both = (prior, codes)
        if codes.shape[1] == 1:
            edges = _edges(np.concatenate(both))
            for axes, draws, colour in zip(panels, both, (COLOURS[2], COLOURS[0]), strict=True):
                axes.hist(draws[:, 0], bins=edges, density=True, color=colour)
                axes.set_xlabel("unit 0")
            left.set_ylabel("density")
            return figure
        flat, names = _plane(prior, codes)
        many = sum(min(len(draws), MOST_POINTS) for draws in both) > RASTERISED  # then in one colour, light and dark
        for axes, draws, colour in zip(panels, flat, (COLOURS[2], COLOURS[0]), strict=True):
            axes.scatter(*draws[:MOST_POINTS].T, s=6, alpha=0.7, color=colour, linewidths=0, rasterized=many)
            axes.set_xlabel(names[0])
        left.set_ylabel(names[1])
    return figure


def _edges(values: Array) -> list[float]:
    """Of 40 bins, however little the values differ."""
    low, high = float(values.min()), float(values.max())
    room = 1e-6 * max(abs(low), abs(high), 1.0)
    return list(np.linspace(low, max(high, low + room), 41))


def _plane(prior: Array, codes: Array) -> tuple[list[Any], tuple[str, str]]:
    """Both sets of draws in the same two dimensions, and what these are called."""
    if codes.shape[1] == 2:
        return [prior, codes], ("unit 0", "unit 1")
    both = np.concatenate([prior, codes])
    scale = max(float(abs(both).max()), 1e-300)  # squares of what is left are finite
    centre = (both / scale).mean(0)
    _, values, axes = np.linalg.svd(both / scale - centre, full_matrices=False)
    total = max(float((values**2).sum()), 1e-300)
    parts = [float(value**2) / total for value in values[:2]]
    flat = [scale * ((draws / scale - centre) @ axes[:2].T) for draws in (prior, codes)]
    return flat, (f"1st component, {parts[0]:.0%} of variance", f"2nd component, {parts[1]:.0%}")
