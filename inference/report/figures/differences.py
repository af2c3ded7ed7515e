"""What sets runs apart, with errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from inference.report.figures.style import COLOURS, INK, fitted_name, new_figure, nothing, numbers, styled, unseen

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["differences_figure"]

MOST = 30


def differences_figure(frame: pd.DataFrame) -> Figure:
    """Differences with two standard errors either way, a line for each, and where there would be none.

    Args:
        frame: with the columns `run`, `of`, `difference` and `se`; the first thirty rows are drawn.
    """
    with styled():
        shown = frame.head(MOST)
        figure = new_figure(7.2, 0.9 + 0.27 * max(1, len(shown)))
        axes = figure.subplots()
        values, errors = numbers(shown["difference"]), numbers(shown["se"])
        known = np.isfinite(values)
        if not known.any():
            nothing(axes)
            return figure
        runs = list(dict.fromkeys(shown["run"]))
        for place in np.flatnonzero(known):
            colour = COLOURS[runs.index(shown["run"].iloc[place]) % len(COLOURS)]
            reach = 2 * errors[place] if np.isfinite(errors[place]) else 0.0
            axes.plot([values[place] - reach, values[place] + reach], [place, place], color=colour, linewidth=2.0)
            axes.plot(values[place], place, "o", color=colour, markersize=4.5)
        axes.axvline(0.0, color=INK, linewidth=0.8, linestyle="--")
        labels = [
            f"{fitted_name(str(run), 20)}: {fitted_name(str(of), 24)}"
            for run, of in zip(shown["run"], shown["of"], strict=True)
        ]
        axes.set_yticks(range(len(shown)), labels)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        more = f"; {len(frame) - len(shown)} more in the table" if len(frame) > len(shown) else ""
        axes.set_xlabel(f"difference in nats, two standard errors either way{unseen(int((~known).sum()))}{more}")
    return figure
