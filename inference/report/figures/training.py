"""Curves of a training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from inference.report.figures.style import COLOURS, Array, fitted_name, new_figure, nothing, numbers, styled, unseen

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["loss_figure", "parts_figure"]

MOST_SITES, MOST_CROSSES, STRETCHES = 12, 200, 400

HELD_OUT = "minus validation score"
"""Not of every report: where it is not a number, there was none. The same of a phase's loss, which is not of every."""


def loss_figure(metrics: pd.DataFrame, *, unit: str = "nats per datum") -> Figure:
    """The loss of each report, and minus the validation score, over updates; the first spikes may leave the frame.

    Reports that are not finite are crosses at the foot.

    Args:
        metrics: a row for each report, with the columns `step`, `loss` or `PHASE/loss`, and perhaps `validation`.
        unit: of the losses.
    """
    with styled():
        figure = new_figure(7.2, 3.0)
        axes = figure.subplots()
        curves = {}
        if "loss" in metrics:
            curves["loss, training data"] = _column(metrics["loss"])
        curves |= {str(c): _column(metrics[c]) for c in metrics.columns if str(c).endswith("/loss")}
        if "validation" in metrics:
            curves[HELD_OUT] = -_column(metrics["validation"])
        _curves(axes, _steps(metrics), curves)
        axes.set(xlabel="updates", ylabel=unit)
    return figure


def parts_figure(metrics: pd.DataFrame) -> Figure:
    """Log likelihood, KL of each site, gradient norm and learning rate over updates, a panel each.

    Args:
        metrics: a row for each report, with the columns `step` and some of `log_likelihood`, `kl_SITE`, `grad_norm`
            and `lr`.
    """
    panels = _panels(metrics)
    with styled():
        rows, columns = max(1, (len(panels) + 1) // 2), min(2, max(1, len(panels)))
        figure = new_figure(7.2, 2.3 * rows)
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        if not panels:
            nothing(grid[0], "no parts were reported")
        for axes, (title, curves) in zip(grid, panels.items(), strict=False):
            _curves(axes, _steps(metrics), curves)
            axes.set_title(title)
            axes.set_xlabel("updates")
        for axes in grid[max(1, len(panels)) :]:
            axes.set_visible(False)
    return figure


def _panels(metrics: pd.DataFrame) -> dict[str, dict[str, Array]]:
    """Curves by name, by the title of their panel."""
    kl = {str(name)[3:]: _column(metrics[name]) for name in metrics.columns if str(name).startswith("kl_")}
    some = f", {MOST_SITES} of {len(kl)} sites" if len(kl) > MOST_SITES else ""
    found = {
        "log likelihood, nats": {"": _column(metrics["log_likelihood"])} if "log_likelihood" in metrics else {},
        f"KL from the prior, nats{some}": dict(list(kl.items())[:MOST_SITES]),
        "gradient norm": {"": _column(metrics["grad_norm"])} if "grad_norm" in metrics else {},
        "learning rate": {"": _column(metrics["lr"])} if "lr" in metrics else {},
    }
    return {title: curves for title, curves in found.items() if curves}


def _curves(axes: Axes, steps: Array, curves: dict[str, Array]) -> None:
    """A line for each, of the reports that are finite; a cross at the foot for each that is not."""
    seen = {name: np.isfinite(values) & np.isfinite(steps) for name, values in curves.items()}
    if not any(mask.any() for mask in seen.values()):
        nothing(axes)
        return
    for i, (name, values) in enumerate(curves.items()):
        mask = seen[name]
        marker, dashes = "." if mask.sum() < 3 else None, "-" if i < len(COLOURS) else "--"
        label = fitted_name(name, 28 if len(curves) < 3 else 12) if name else None
        colour = COLOURS[i % len(COLOURS)]
        picked = _extremes(values[mask])
        x, y = steps[mask][picked], values[mask][picked]
        axes.plot(x, y, color=colour, linestyle=dashes, marker=marker, label=label)
    axes.set_ylim(*_frame([values[seen[name]] for name, values in curves.items()], axes.get_ylim()))
    gone = [np.isinf(y) if name == HELD_OUT or "/" in name else ~np.isfinite(y) for name, y in curves.items()]
    lost = np.isfinite(steps) & np.any(gone, axis=0)
    if lost.any():
        at, label, across = steps[lost], unseen(int(lost.sum())).strip("; "), axes.get_xaxis_transform()
        at = at[np.unique(np.linspace(0, len(at) - 1, MOST_CROSSES).astype(int))]
        axes.plot(at, 0 * at, "x", color=COLOURS[1], markersize=5, transform=across, clip_on=False, label=label)
    if lost.any() or any(curves):
        axes.legend(ncols=1 if len(curves) < 5 else 3, fontsize=8 if len(curves) < 5 else 6.5)


def _extremes(values: Array) -> Any:
    """Places in a curve: all, or the least and the largest of each of many short stretches, so that spikes stay."""
    if len(values) <= 2 * STRETCHES:
        return np.arange(len(values))
    parts = np.array_split(np.arange(len(values)), STRETCHES)
    ends = [part[[values[part].argmin(), values[part].argmax()]] for part in parts]
    return np.unique(np.concatenate([[0], *ends, [len(values) - 1]]))


def _frame(curves: list[Array], whole: tuple[float, float]) -> tuple[float, float]:
    """What is to be seen: everything, but for spikes in the first tenth that would hide the rest."""
    usual = np.concatenate([values[len(values) // 10 :] for values in curves])
    starts = [np.median(values[: len(values) // 10]) for values in curves if len(values) >= 10]
    usual = np.concatenate([usual, starts])
    low, high = usual.min(), usual.max()
    highest = max(values.max() for values in curves if len(values))
    if high > low and highest > high + 2 * (high - low):
        return low - 0.05 * (high - low), high + 0.3 * (high - low)
    return whole


def _steps(metrics: pd.DataFrame) -> Array:
    return _column(metrics["step"]) if "step" in metrics else np.arange(len(metrics), dtype=float)


def _column(column: Any) -> Array:
    return numbers(pd.to_numeric(column, errors="coerce"))
