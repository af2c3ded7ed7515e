"""One style for all figures: Okabe and Ito's colours, nothing that is not data, light and dark pages alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "GRID",
    "INK",
    "MUTED",
    "SURFACE",
    "VARIABLES",
    "Array",
    "drawable",
    "fitted_name",
    "new_figure",
    "nothing",
    "numbers",
    "styled",
    "unseen",
]

Array: TypeAlias = NDArray[np.float64]

INK, MUTED, GRID, SURFACE = "#1B1F24", "#5B6470", "#D8DCE1", "#FDFDFE"
"""Of text, of what is less than text, of lines behind the data, and of the page."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6E6E6E")
"""Told apart by every kind of eye; Okabe and Ito's."""

VARIABLES: Mapping[str, str] = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--grid)",
    SURFACE: "var(--surface)",
    **{colour: f"var(--c{i})" for i, colour in enumerate(COLOURS)},
}
"""What a page puts in the place of each colour, so that one figure serves light and dark."""

HUGE = 1e100
"""Beyond it the squares that axes and spreads need are soon infinite: as good as infinite."""

RC: Mapping[str, Any] = {
    "font.size": 9.0,
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "text.color": INK,
    "text.usetex": False,
    "text.parse_math": False,  # names of sites may have a $ in them
    "figure.facecolor": "none",
    "figure.edgecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.4,
    "patch.linewidth": 0.0,
    "hatch.color": MUTED,
    "image.interpolation": "nearest",
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style; what was set before is set again."""
    import matplotlib as mpl
    from cycler import cycler

    with mpl.rc_context({**RC, "axes.prop_cycle": cycler(color=list(COLOURS))}):
        yield


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that no window and no registry knows of."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def nothing(axes: Axes, why: str = "nothing finite to draw") -> None:
    """Say in an empty plot that it is empty."""
    axes.text(0.5, 0.5, why, transform=axes.transAxes, ha="center", va="center", color=MUTED)
    axes.set_xticks([])
    axes.set_yticks([])


def numbers(values: Any) -> Array:
    """Numbers as an array; infinite where no axis can hold them.

    >>> numbers([1, 1e200, -1e200]).tolist()
    [1.0, inf, -inf]
    """
    found = np.asarray(values, dtype=float)
    return np.where(abs(found) > HUGE, np.copysign(np.inf, found), found)


def drawable(draws: Array) -> Array:
    """The rows that are finite throughout."""
    return draws[np.isfinite(draws).all(1)]


def unseen(count: int) -> str:
    """How many are not in a picture because they are not finite, to follow the name of its axis.

    >>> unseen(0), unseen(3)
    ('', '; 3 not finite')
    """
    return f"; {count:,} not finite" if count else ""


def fitted_name(name: str, most: int = 28) -> str:
    """A name that fits beside an axis, of characters that can be drawn.

    One that begins with an underscore is set off by a space: legends leave such names out.

    >>> fitted_name("abcdef", 4), fitted_name("_z"), fitted_name("a\\0")
    ('abc…', ' _z', 'a\ufffd')
    """
    name = " ".join("".join(c if c.isprintable() else "\ufffd" for c in " ".join(str(name).split())).split())
    name = f" {name}" if name.startswith("_") else name
    return name if len(name) <= most else f"{name[: most - 1]}…"
