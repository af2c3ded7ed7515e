"""Images side by side under a title, as matplotlib figures, and where they go."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from inference.report.figures import grid_figure, pairs_figure

__all__ = ["grid", "reconstructions", "save"]


def grid(images: Tensor, shape: Sequence[int], *, columns: int | None = None, title: str = "") -> Figure:
    """Images in rows and columns, black on white, see `inference.report.figures.grid_figure`.

    Args:
        images: grey levels from 0 to 1, `(n, height * width)`.
        shape: of one image, `(height, width)`.
        columns: how many stand in a row; by default as many as make a square.
        title: what stands above.

    >>> import torch
    >>> grid(torch.rand(6, 64), (8, 8), columns=3).axes[0].images[0].get_array().shape
    (18, 27, 4)
    """
    columns = columns or math.ceil(math.sqrt(len(images)))
    return _titled(grid_figure(images.detach().cpu().numpy(), shape, columns=columns), title)


def reconstructions(data: Tensor, means: Tensor, shape: Sequence[int], *, columns: int = 16, title: str = "") -> Figure:
    """Data, and below each datum what the pair makes of it: pairs of rows, `columns` wide.

    Args:
        data: what went in, `(n, height * width)`.
        means: what came out, of the same shape.
        shape: of one image, `(height, width)`.
        columns: how many pairs stand side by side.
        title: what stands above.
    """
    before, after = (values.detach().cpu().numpy() for values in (data, means))
    return _titled(pairs_figure(before, after, shape, columns=columns), title)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure in the format its path ends in."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight", facecolor="white")
    return path


def _titled(figure: Figure, title: str) -> Figure:
    if title:
        figure.axes[0].set_title(title)
    return figure
