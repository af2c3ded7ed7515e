r"""Ladders as figures: values with intervals and the bracket shaded, and values over K."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, Self

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from inference.bracket import Bracket, Row

__all__ = ["Rungs", "ladder_figure"]

COLOURS = {"lower": "#0072B2", "upper": "#D55E00", "estimate": "#6E6E6E"}
"""Of the sides of log p(x); Okabe and Ito's, told apart by every kind of eye."""

BRACKET: dict[str, Any] = {"facecolor": "#009E73", "alpha": 0.2, "linewidth": 0}

MARKERS = {"lower": ">", "upper": "<", "estimate": "o"}
"""A lower bound points up to log p(x), an upper one down to it."""


class Rungs(Protocol):
    """What is drawn of a ladder."""

    @property
    def rows(self) -> Sequence[Row]: ...

    def bracket(self) -> Bracket: ...

    def parts(self) -> Iterator[tuple[str, Self]]: ...


def ladder_figure(ladders: Sequence[tuple[str, Rungs]]) -> Figure:
    """One row of axes for each ladder, and for what each says of simulated data.

    Left: each bound's mean over the data with its interval (two standard errors of the draws drawn thick, two of the
    data thin), and the bracket shaded, hatched where its upper end holds only in the limit. Right: values over K.

    Args:
        ladders: titles and ladders.
    """
    parts = [
        (f"{title} {'' if on == 'data' else '(simulated data)'}".strip(), part)
        for title, ladder in ladders
        for on, part in ladder.parts()
        if part.rows
    ]
    heights = [1.1 + 0.3 * len(part.rows) for _, part in parts]
    figure = Figure(figsize=(10.5, sum(heights) + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(parts), 2, squeeze=False, height_ratios=heights, width_ratios=(3, 2))
    for (title, part), (left, right) in zip(parts, axes, strict=True):
        _draw_rows(left, part, title)
        _draw_over_particles(right, part)
    return figure


def _draw_rows(axes: Axes, ladder: Rungs, title: str) -> None:
    bracket = ladder.bracket()
    if math.isfinite(bracket.low) and math.isfinite(bracket.high):
        hatch = None if bracket.certified else "///"
        axes.axvspan(bracket.low, bracket.high, edgecolor="#009E73", hatch=hatch, **BRACKET)
    for place, row in enumerate(ladder.rows):
        colour = COLOURS[row.direction]
        for error, width in ((row.mean_se, 1.0), (row.mean_mc_se, 4.0)):
            reach = 0.0 if math.isnan(error) else 2 * error
            axes.plot([row.mean - reach, row.mean + reach], [place, place], color=colour, linewidth=width, alpha=0.6)
        inside = "none" if row.guarantee == "limit" else colour
        axes.plot(row.mean, place, MARKERS[row.direction], color=colour, markersize=7, markerfacecolor=inside)
        axes.annotate(f"{row.mean:.2f}", (row.mean, place), (0, 7), textcoords="offset points", ha="center", size=7)
    axes.set_yticks(range(len(ladder.rows)), [row.label for row in ladder.rows])
    axes.set_ylim(len(ladder.rows) - 0.4, -0.8)
    axes.set_xlabel("nats per datum; thick: draws, thin: data (2 s.e.); hollow: holds only as K grows")
    axes.set_title(title, loc="left")
    axes.grid(axis="x", alpha=0.3)


def _draw_over_particles(axes: Axes, ladder: Rungs) -> None:
    """A line for every bound that stands in the table at several K."""
    families: dict[str, list[Row]] = {}
    for row in ladder.rows:
        families.setdefault(row.family, []).append(row)
    for family, rows in families.items():
        rows = sorted(rows, key=lambda row: row.num_particles)
        colour = COLOURS[rows[0].direction]
        K, values = [row.num_particles for row in rows], [row.mean for row in rows]
        errors = [0.0 if math.isnan(row.mean_mc_se) else 2 * row.mean_mc_se for row in rows]
        axes.errorbar(K, values, errors, marker=MARKERS[rows[0].direction], color=colour, linewidth=1.2, capsize=2)
        above = rows[0].direction == "upper"
        offset, side = ((0, 7), "bottom") if above else ((0, -7), "top")
        at = (K[-1], values[-1])
        axes.annotate(family, at, offset, textcoords="offset points", ha="center", va=side, size=7, color=colour)
    bracket = ladder.bracket()
    if math.isfinite(bracket.low) and math.isfinite(bracket.high):
        axes.axhspan(bracket.low, bracket.high, **BRACKET)
    axes.set_xscale("log")
    axes.set_xlabel("draws K per datum")
    axes.set_ylabel("nats per datum")
    axes.margins(x=0.25)
    axes.grid(alpha=0.3)
