"""Chains that agree: the ranks of each one's draws among all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from inference.report.figures.selecting import panels_of, quiet, selected, varies, why_not
from inference.report.figures.style import COLOURS, GRID, fitted_name, nothing, styled

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["rank_figure"]

POINTS = 40

SIMULATIONS, SHUFFLED = 2000, 20_000_000
"""Sets of uniform ranks that a band is of, fewer where they would be more ranks than this altogether: with 2,000 the
band's false-alarm rate of 5 % is good to 0.5 %."""


def rank_figure(tree: xr.DataTree, names: Sequence[str]) -> Figure:
    """Ranks of each chain's draws among all, as distribution functions less the uniform one, with a band.

    Draws are thinned to about their effective number, so that the band, in which 95 % of chains of independent draws
    stay at every point at once, means what it says.
    """
    draws = selected(tree, names)
    with styled():
        figure, panels = panels_of(len(names), 2, 2.1)
        for axes, name in zip(panels, names, strict=False):
            axes.set_title(fitted_name(name, 36))
            values = draws[name]
            if len(values) < 2 or not varies(values):
                nothing(axes, why_not(values) or "one chain has none to agree with")
                continue
            values = values[:, :: _thinning(values)]
            points = np.arange(1, POINTS) / POINTS
            reach = _reach(*values.shape) * np.sqrt(points * (1 - points) / values.shape[1])
            axes.fill_between(points, -reach, reach, color=GRID, linewidth=0)
            lines = _ecdfs(_ranks(values), points) - points
            out = (abs(lines) > reach).any(1)
            for line, outside in zip(lines, out, strict=True):
                colour, width = (COLOURS[1], 1.2) if outside else (COLOURS[0], 0.6)
                axes.plot(points, line, color=colour, linewidth=width, alpha=1.0 if outside else 0.6)
            axes.set_xlabel(f"rank; {int(out.sum())} of {len(out)} chains leave the band")
    return figure


# -- numbers --------------------------------------------------------------------------------------------------


def _thinning(values: Any) -> int:
    """Every how many draws there is one that is worth an independent one."""
    from arviz_stats.base.array import array_stats

    if values.shape[1] < 2 * POINTS:
        return 1
    with quiet():
        ess = float(array_stats.ess(values, method="bulk"))
    most = values.shape[1] // POINTS
    return int(np.clip(round(values.size / max(ess, 1.0)), 1, most)) if np.isfinite(ess) else most


def _ranks(values: Any) -> Any:
    """Places of draws among all, as parts of their number, `(chain, draw)`; ties share theirs."""
    from scipy.stats import rankdata

    return ((rankdata(values, axis=None) - 0.5) / values.size).reshape(values.shape)


def _ecdfs(ranks: Any, points: Any) -> Any:
    """The distribution function of each chain's ranks at the points, `(chain, points)`."""
    return np.stack([np.searchsorted(np.sort(chain), points, side="right") / len(chain) for chain in ranks])


@lru_cache
def _reach(chains: int, draws: int) -> float:
    """How many standard errors chains of exchangeable draws leave uniformity by, at most, in 95 % of cases."""
    rng, points = np.random.default_rng(0), np.arange(1, POINTS) / POINTS
    spread = np.sqrt(points * (1 - points) / draws)
    place = (np.arange(chains * draws) * POINTS // (chains * draws)).astype(np.int64)  # which step of the points
    largest = []
    for _ in range(min(SIMULATIONS, max(200, SHUFFLED // (chains * draws)))):
        steps = rng.permutation(place).reshape(chains, draws)
        flat = (steps + POINTS * np.arange(chains)[:, None]).ravel()
        counts = np.bincount(flat, minlength=chains * POINTS).reshape(chains, POINTS)
        lines = counts.cumsum(1)[:, :-1] / draws - points
        largest.append(float((abs(lines) / spread).max()))
    return float(np.quantile(largest, 0.95))
