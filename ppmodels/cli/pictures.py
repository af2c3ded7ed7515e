"""Images side by side, as matplotlib figures.

Figures are made without pyplot: there is no global state to set or to close, and no window to open.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

__all__ = ["grid", "reconstructions", "save"]


def grid(images: Tensor, shape: Sequence[int], *, columns: int | None = None, title: str = "") -> Figure:
    """Images in rows and columns, black on white, one thin line between them.

    Args:
        images: grey levels from 0 to 1, `(n, height * width)`.
        shape: of one image, `(height, width)`.
        columns: how many stand in a row; by default as many as make a square.
        title: what stands above.

    >>> grid(torch.rand(6, 64), (8, 8), columns=3).axes[0].images[0].get_array().shape
    (17, 26)
    """
    height, width = shape
    n = len(images)
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    levels = torch.full((rows * columns, height + 1, width + 1), math.nan)  # a line below and right of each
    levels[:n, :-1, :-1] = images.detach().cpu().reshape(n, height, width)
    tiles = levels.reshape(rows, columns, height + 1, width + 1).transpose(1, 2)
    canvas = tiles.reshape(rows * (height + 1), columns * (width + 1))[:-1, :-1]
    return _figure(canvas, title)


def reconstructions(data: Tensor, means: Tensor, shape: Sequence[int], *, columns: int = 16, title: str = "") -> Figure:
    """Data, and below each datum what the pair makes of it: pairs of rows, `columns` wide.

    Args:
        data: what went in, `(n, height * width)`.
        means: what came out, of the same shape.
        shape: of one image, `(height, width)`.
        columns: how many pairs stand side by side.
        title: what stands above.
    """
    n = len(data)
    rows = math.ceil(n / columns)
    both = torch.full((rows, 2, columns, data.shape[1]), math.nan)
    for place, images in enumerate((data, means)):
        filled = torch.full((rows * columns, data.shape[1]), math.nan)
        filled[:n] = images.detach().cpu()
        both[:, place] = filled.reshape(rows, columns, -1)
    return grid(both.reshape(2 * rows * columns, -1), shape, columns=columns, title=title)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format its path ends in."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight", facecolor="white")
    return path


def _figure(canvas: Tensor, title: str) -> Figure:
    height, width = canvas.shape
    size = 8 / max(height, width)  # inches a pixel
    figure = Figure(figsize=(width * size, height * size))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(canvas.numpy(), cmap="gray_r", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    axes.set_title(title)
    return figure
