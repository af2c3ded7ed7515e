"""Some scalar parameters of a tree, and the figures that a plotting library makes, taken off its hands."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.diagnostics.scalars import label
from inference.report.figures.style import INK, MUTED, new_figure, numbers, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["drawn", "groups_of", "panels_of", "quiet", "selected", "side_by_side", "varies", "why_not"]


def selected(tree: xr.DataTree, names: Sequence[str]) -> dict[str, Any]:
    """The draws of each scalar, `(chain, draw)`, by names such as `theta[3]`; what no axis can hold is infinite.

    Raises:
        ValueError: if a name is that of no scalar.
    """
    posterior = tree["posterior"].to_dataset()
    found: dict[str, Any] = {}
    wanted = set(names)
    for name, array in posterior.data_vars.items():
        if not any(one == str(name) or one.startswith(f"{name}[") for one in wanted):
            continue
        rest = [dim for dim in array.dims if dim not in ("chain", "draw")]
        values = array.transpose(*rest, "chain", "draw").to_numpy()
        coords = [[str(value) for value in array[dim].to_numpy()] for dim in rest]
        for place in np.ndindex(values.shape[:-2]):
            key = label(str(name), [axis[i] for axis, i in zip(coords, place, strict=True)])
            if key in wanted:
                found.setdefault(key, numbers(values[place]))
    if missing := [name for name in names if name not in found]:
        raise ValueError(f"`names` has {missing[0]!r}, expected scalars of the posterior, such as `theta[0]`")
    return {name: found[name] for name in names}


def varies(values: Any) -> bool:
    """Whether draws are finite, and not all the same."""
    return bool(np.isfinite(values).all() and values.size and values.max() > values.min())


def why_not(values: Any) -> str:
    """What keeps draws from being compared; empty where nothing does."""
    finite = np.isfinite(values)
    if not finite.any():
        return "nothing finite to draw"
    if not finite.all():
        return f"{int((~finite).sum())} draws are not finite"
    return "" if varies(values) else "every draw is the same"


def panels_of(count: int, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of so many plots in rows, and the plots."""
    rows = max(1, -(-count // columns))
    figure = new_figure(7.2, 0.3 + height * rows)
    grid = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid


def groups_of(tree: xr.DataTree, variable: str, *groups: str) -> dict[str, xr.DataArray]:
    """The variable of each group."""
    for group in groups:
        if group not in tree.children or variable not in tree[group].data_vars:
            raise ValueError(f"`tree` has no `{variable}` in its group `{group}`, expected it: sample it there too")
    return {group: tree[group].to_dataset()[variable] for group in groups}


def side_by_side(observed: xr.DataArray, drawn: xr.DataArray) -> tuple[Any, Any]:
    """Observations `(n,)` and what there is of each in every draw, `(S, n)`."""
    if "chain" in observed.dims or set(drawn.dims) != {"chain", "draw", *observed.dims}:
        expected = ", ".join(map(str, ("chain", "draw", *observed.dims)))
        raise ValueError(f"`tree` has draws of `{drawn.name}` over {drawn.dims}, expected {expected}")
    data = observed.to_numpy().astype(float).ravel()
    return data, drawn.transpose("chain", "draw", *observed.dims).to_numpy().reshape(-1, data.size)


def drawn(plot: Callable[..., Any], *args: Any, **kwargs: Any) -> Figure:
    """The figure that a function of `arviz_plots` makes, in this style, and out of pyplot's registry."""
    import matplotlib.pyplot as plt

    before = set(plt.get_fignums())
    try:
        with quiet(), styled():
            figure: Figure = plot(*args, backend="matplotlib", **kwargs).viz["figure"].item()
    finally:
        for number in set(plt.get_fignums()) - before:
            plt.close(number)
    for axes in figure.axes:
        axes.set_facecolor("none")
        axes.title.set_fontsize(9)
        for text in (axes.title, axes.xaxis.label, axes.yaxis.label):
            text.set_color(INK)
            text.set_parse_math(False)
        axes.tick_params(labelsize=7.5, labelcolor=INK, color=MUTED)
    figure.set_facecolor("none")
    figure.set_layout_engine("constrained")
    return figure


@contextmanager
def quiet() -> Iterator[None]:
    """Without what a library says of numbers that the page shows itself."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield
