"""Shares of components, and classes in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inference.report.examination import Components
from inference.report.figures.style import COLOURS, INK, Array, new_figure, nothing, numbers, styled, unseen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["confusion_figure", "usage_figure"]

MOST, PRINTED = 60, 20


def usage_figure(components: Components) -> Figure:
    """The share of each component with the line below which it is dead; of sticks in order, what they add up to."""
    share, known = numbers(components.share), np.isfinite(components.share)
    order = np.arange(len(share)) if components.ordered else np.argsort(np.where(known, -share, np.inf), kind="stable")
    shown, lost = order[:MOST], unseen(int((~np.isfinite(share)).sum()))
    with styled():
        figure = new_figure(7.2, 2.5)
        axes = figure.subplots()
        axes.set(xlabel=f"component{lost}", ylabel="share of the data")
        heights = np.where(np.isfinite(share[shown]), share[shown], 0.0)
        if not np.isfinite(share).any():
            nothing(axes)
            return figure
        places = np.arange(len(shown))
        axes.bar(places, heights, color=[COLOURS[6 if h < components.dead_below else 0] for h in heights])
        if np.isfinite(numbers(components.dead_below)):
            axes.axhline(components.dead_below, color=COLOURS[1], linewidth=1.0, linestyle="--", label="dead below")
        if components.ordered:
            axes.plot(places, np.cumsum(heights), color=COLOURS[2], marker=".", label="sum so far")
        _ticks(axes, "x", [str(c) for c in shown])
        axes.set_xlim(-0.7, max(len(shown), 5) - 0.3)
        axes.grid(visible=False, axis="x")
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
        less = "come after" if components.ordered else "have less"
        more = f"; {len(order) - len(shown)} more {less}" if len(order) > len(shown) else ""
        axes.set_xlabel(f"component{more}{lost}")
    return figure


def confusion_figure(components: Components) -> Figure:
    """The classes of each component's data as shares of it, components of one class beside each other.

    Of more than 60 components or classes, those with most data are shown.
    """
    with styled():
        counts = None if components.confusion is None else numbers(components.confusion)
        if counts is None or not counts.size or not np.isfinite(counts).any():
            figure = new_figure(4.0, 2.0)
            nothing(figure.subplots(), "there are no labels" if counts is None else "nothing finite to draw")
            return figure
        known = np.where(np.isfinite(counts), counts, 0.0)
        rows, columns = (np.sort(np.argsort(-known.sum(axis), kind="stable")[:MOST]) for axis in (1, 0))
        rows = rows[np.lexsort((-known[rows].sum(1), known[rows].argmax(1)))]
        whole = known.sum(1)[rows][:, None]
        part = known[np.ix_(rows, columns)]
        figure = new_figure(min(7.2, 1.6 + 0.42 * len(columns)), min(8.0, 1.1 + 0.32 * len(rows)))
        axes = figure.subplots()
        axes.grid(visible=False)
        shares = part / np.where(whole > 0, whole, 1.0)
        axes.imshow(shares, cmap=_shades(), vmin=0, vmax=1, aspect="auto", interpolation="none")
        axes.spines[["top", "right"]].set_visible(True)
        _ticks(axes, "x", [str(k) for k in columns])
        _ticks(axes, "y", [str(c) for c in rows])
        axes.set_xlabel(f"class{_of(len(columns), counts.shape[1])}{unseen(int((~np.isfinite(counts)).sum()))}")
        axes.set_ylabel(f"component{_of(len(rows), len(counts))}")
        if max(part.shape) <= PRINTED:
            _print(axes, part, shares)
    return figure


def _shades() -> Colormap:
    """From clear to blue, so that none is the page's own colour."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    blue = to_rgb(COLOURS[0])
    return LinearSegmentedColormap.from_list("shades", [(*blue, 0.0), (*blue, 1.0)])


def _print(axes: Axes, counts: Array, shares: Array) -> None:
    for i, k in zip(*np.nonzero(counts), strict=True):
        ink = "#ffffff" if shares[i, k] > 0.55 else INK  # on blue, whatever the page is
        axes.text(k, i, f"{counts[i, k]:.4g}", ha="center", va="center", fontsize=7, color=ink)


def _ticks(axes: Axes, which: str, labels: list[str]) -> None:
    """A label for each place, small or on its side where there are many."""
    many = len(labels) > 25
    turned = which == "x" and many and max(map(len, labels)) > 2
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(range(len(labels)), labels, fontsize=6 if many else 8, rotation=90 if turned else 0)


def _of(shown: int, there: int) -> str:
    return f", {shown} of {there}" if shown < there else ""
