"""Data as pictures: grey levels in rows and columns, black on white, or lines where a datum is no image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from inference.report.figures.style import (
    COLOURS,
    GRID,
    INK,
    MUTED,
    Array,
    fitted_name,
    new_figure,
    nothing,
    numbers,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["grid_figure", "pairs_figure", "strips_figure"]

Labels: TypeAlias = Sequence[Sequence[str]]
"""Over the data of each row; none over a row without."""

WIDTH, CELL, ROOM = 7.2, 0.72, 0.17
"""Inches of a page, of an image, and of a label's height."""

BOXES, POINTS = 8, 120
"""Side by side, where data are lines; of each line."""

WIDE, LEAST = 0.62, 5.5
"""How wide a character is, in its size; the least size that can be read, in points."""

LOW, HIGH = 0.08, 0.9
"""Where in its box the least and the largest number of a line stand."""


def grid_figure(images: Any, shape: Sequence[int], *, columns: int | None = None) -> Figure:
    """Data in rows and columns.

    Args:
        images: grey levels from 0 to 1, `(n, height * width)`, or rows of numbers `(n, x_dim)`.
        shape: of a datum: `(height, width)`, or `(x_dim,)`.
        columns: how many stand in a row; by default twice as many as rows.
    """
    images = numbers(images)
    columns = _side_by_side(columns or max(1, math.ceil(math.sqrt(2 * max(1, len(images))))), shape)
    rows = [images[i : i + columns] for i in range(0, len(images), columns)]
    return _drawn(rows, shape, columns, [()] * len(rows))


def pairs_figure(
    data: Any, reconstructions: Any, shape: Sequence[int], *, columns: int = 16, labels: Sequence[str] | None = None
) -> Figure:
    """Data, and below each what the pair makes of it.

    Args:
        data: what went in, as `grid_figure` takes it.
        reconstructions: what came out, of the same shape.
        shape: of a datum.
        columns: how many pairs stand side by side.
        labels: what stands over each datum.
    """
    before, after = numbers(data), numbers(reconstructions)
    rows, above, columns = [], [], _side_by_side(columns, shape)
    for i in range(0, len(before), columns):
        rows += [before[i : i + columns], after[i : i + columns]]
        above += [list(labels[i : i + columns]) if labels else [], []]
    return _drawn(rows, shape, min(columns, max(1, len(before))), above, kinds=2)


def strips_figure(interpolations: Any, shape: Sequence[int], *, labels: Sequence[str] = ()) -> Figure:
    """Ways from one datum to another, or of a chain to a sample, a row each.

    Args:
        interpolations: `(rows, steps, x_dim)`.
        shape: of a datum.
        labels: what stands over each step, above the first row.
    """
    ways = numbers(interpolations)
    above = [labels if i == 0 else () for i in range(len(ways))]
    return _drawn(list(ways), shape, ways.shape[1] if ways.ndim == 3 else 1, above)


def _side_by_side(columns: int, shape: Sequence[int]) -> int:
    return columns if len(shape) == 2 else min(columns, BOXES)


def _drawn(rows: Sequence[Array], shape: Sequence[int], columns: int, above: Labels, kinds: int = 1) -> Figure:
    with styled():
        if not any(row.size for row in rows):
            figure = new_figure(3.0, 1.0)
            nothing(figure.subplots(), "no data")
            return figure
        if len(shape) == 2:
            return _images(rows, (shape[0], shape[1]), columns, above)
        return _lines(rows, columns, above, kinds)


def _images(rows: Sequence[Array], shape: tuple[int, int], columns: int, above: Labels) -> Figure:
    """One picture of all, a thin line between them; rows that have labels have room for them above."""
    height, width = shape
    inches = min(WIDTH, columns * CELL) / (columns * (width + 1))  # of a pixel
    room = [math.ceil(ROOM / inches) if labels else 0 for labels in above]
    tops = np.cumsum([0, *[height + 1 + r for r in room]])
    levels = np.full((tops[-1], columns * (width + 1), 4), 0, dtype=np.uint8)  # clear where there is no image
    for top, r, row in zip(tops, room, rows, strict=False):
        for k, image in enumerate(row):
            grey = _grey(image.reshape(height, width))
            y, x = top + r, k * (width + 1)
            levels[y : y + height, x : x + width] = np.stack([grey, grey, grey, np.full_like(grey, 255)], -1)
    figure, axes = _bare(levels.shape[1] * inches, levels.shape[0] * inches)
    axes.imshow(levels, interpolation="none", aspect="auto")  # kept as it is: pages scale it
    for top, r, labels in zip(tops, room, above, strict=False):
        for k, label in enumerate(labels):
            _label(axes, k * (width + 1) + width / 2, top + 0.75 * r, label, (width + 1) * inches)
    return figure


def _grey(image: Array) -> Array:
    """Black where it is 1, white where it is 0; what is no number is in between."""
    return np.rint(np.nan_to_num(255 * (1 - np.clip(image, 0, 1)), nan=127)).astype(np.uint8)


def _lines(rows: Sequence[Array], columns: int, above: Labels, kinds: int) -> Figure:
    """A box for each datum with its numbers as a line, all on one scale; rows take turns in `kinds` colours."""
    from matplotlib.collections import LineCollection

    finite = np.concatenate([row[np.isfinite(row)].ravel() for row in rows])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    cell = min(WIDTH / columns, 1.2)
    high_cell = 0.62 * cell
    room = [ROOM / high_cell if labels else 0.0 for labels in above]
    tops = np.cumsum([0.0, *[1.0 + r for r in room]])
    figure, axes = _bare(columns * cell, high_cell * tops[-1] + 0.25, foot=0.25)
    for i, (top, r, row, labels) in enumerate(zip(tops, room, rows, above, strict=False)):
        boxes = [_place(image, k, top + r, low, high) for k, image in enumerate(row)]
        colour = COLOURS[i % kinds]
        frames = [_frame(k, top + r) for k in range(len(row))]
        axes.add_collection(LineCollection(frames, colors=GRID, linewidths=0.8))
        axes.add_collection(LineCollection(boxes, colors=colour, linewidths=1.1))
        few = [box for box in boxes if len(box) < 8]
        if few:
            axes.plot(*np.concatenate(few).T, ".", color=colour, markersize=3)
        for k, image in enumerate(row):
            if not np.isfinite(image).any():
                axes.text(k + 0.5, top + r + 0.5, "not finite", ha="center", va="center", size=6, color=MUTED)
        for k, label in enumerate(labels):
            _label(axes, k + 0.5, top + 0.8 * r, label, cell)
    axes.set(xlim=(0, columns), ylim=(tops[-1], 0))
    said = f"every box from {low:.3g} to {high:.3g}" if len(finite) else "nothing finite to draw"
    figure.text(0.0, 0.0, said, ha="left", va="bottom", size=7.5, color=MUTED)
    return figure


def _place(image: Array, k: int, top: float, low: float, high: float) -> Array:
    """The points of a line in box k of a row, some of very many; axes go downwards."""
    image = np.where(np.isfinite(image), image, np.nan).ravel()
    image = image[:: -(-image.size // POINTS)]
    level = (image / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0 * image + 0.5
    across = (np.arange(image.size) + 0.5) / image.size
    return np.stack([k + 0.06 + 0.88 * across, top + HIGH - (HIGH - LOW) * level], -1)


def _frame(k: int, top: float) -> list[tuple[float, float]]:
    left, right = k + 0.04, k + 0.96
    return [(left, top + 0.02), (left, top + 0.96), (right, top + 0.96), (right, top + 0.02), (left, top + 0.02)]


def _bare(width: float, height: float, foot: float = 0.0) -> tuple[Figure, Axes]:
    """A figure of one plot without axes that fills it, down to its foot in inches."""
    figure = new_figure(width, height)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0, foot / height, 1, 1 - foot / height))
    axes.set_axis_off()
    return figure, axes


def _label(axes: Axes, x: float, y: float, label: str, inches: float) -> None:
    """A label no wider than so many inches."""
    points = 72 * inches
    text = fitted_name(label, max(4, int(points / (WIDE * LEAST))))
    axes.text(x, y, text, ha="center", size=min(7.5, points / max(4, WIDE * len(text))), color=INK)
