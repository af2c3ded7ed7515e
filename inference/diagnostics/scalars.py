"""Draws of all variables as scalar parameters, one after another, and the numbers of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

__all__ = ["MANY_CHAINS", "MIN_DRAWS", "Array", "Draws", "efficiency", "flat", "label", "parameters_of"]

Array: TypeAlias = NDArray[np.float64]

MIN_DRAWS = 8
"""Draws per chain below which nothing is said of mixing: ArviZ wants four in each half of a chain."""

MANY_CHAINS = 16
"""Chains from which on nested R-hat is computed."""


def flat(array: xr.DataArray) -> tuple[list[tuple[str, ...]], NDArray[np.generic]]:
    """The index of every element, and its draws, `(elements, chain, draw)`."""
    rest = [dim for dim in array.dims if dim not in ("chain", "draw")]
    values = array.transpose(*rest, "chain", "draw").to_numpy()
    index = [tuple(map(str, found)) for found in product(*(array[dim].to_numpy() for dim in rest))]
    return index, values.reshape(-1, *values.shape[-2:])


def label(name: str, index: Sequence[str]) -> str:
    """`theta[3, 0]`, or `tau` where there is no index."""
    return f"{name}[{', '.join(index)}]" if index else name


@dataclass(frozen=True, eq=False)
class Draws:
    """The draws of all variables, one scalar parameter after another.

    Attributes:
        names: `theta[3]`, P of them.
        variables: the variable of each.
        array: `(P, chain, draw)`.
        resolution: rounding of the type each was kept in, relative to its size, `(P,)`.
    """

    names: tuple[str, ...]
    variables: NDArray[np.str_]
    array: Array
    resolution: Array

    @classmethod
    def of(cls, posterior: xr.Dataset) -> Draws:
        """Lay out a dataset."""
        names, variables, values, resolution = [], [], [], []
        for name, array in posterior.data_vars.items():
            index, found = flat(array)
            eps = np.finfo(found.dtype.name).eps if found.dtype.kind == "f" else 0.0
            names += [label(str(name), each) for each in index]
            variables += [str(name)] * len(index)
            resolution += [float(eps)] * len(index)
            values.append(found.astype(np.float64))
        return cls(tuple(names), np.array(variables, dtype=np.str_), np.concatenate(values), np.array(resolution))

    @cached_property
    def nonfinite(self) -> NDArray[np.int64]:
        """Draws that are infinite or not a number, `(P,)`."""
        return np.asarray((~np.isfinite(self.array)).sum(axis=(1, 2)))

    @cached_property
    def constant(self) -> NDArray[np.bool_]:
        """Elements that are the same, up to rounding, in all draws of all chains, `(P,)`."""
        low, high = self.array.min(axis=(1, 2)), self.array.max(axis=(1, 2))
        with np.errstate(invalid="ignore"):
            same = high - low <= 8 * self.resolution * np.maximum(abs(low), abs(high))
        return np.asarray(same & (self.nonfinite == 0))

    @cached_property
    def fixed(self) -> tuple[str, ...]:
        """Variables of which every element is constant."""
        return tuple(
            name for name in dict.fromkeys(self.variables.tolist()) if self.constant[self.variables == name].all()
        )

    @cached_property
    def structural(self) -> NDArray[np.bool_]:
        """Constant elements of variables that vary elsewhere, such as the zeros of a Cholesky factor, `(P,)`."""
        return self.constant & ~np.isin(self.variables, self.fixed)


def parameters_of(draws: Draws, *, markov: bool) -> pd.DataFrame:
    """Every element's numbers, some at a time; those of elements that are constant or not finite stay NaN."""
    _, num_chains, num_draws = draws.array.shape
    with np.errstate(all="ignore"):
        columns = {
            "mean": draws.array.mean(axis=(1, 2)),
            "sd": draws.array.std(axis=(1, 2), ddof=min(1, num_chains * num_draws - 1)),
        }
    usable = np.flatnonzero((draws.nonfinite == 0) & ~draws.constant) if num_draws >= MIN_DRAWS else np.arange(0)
    superchains = _superchains(num_chains)
    names = ["mcse_mean", "mcse_sd"]
    if markov:
        names += ["ess_bulk", "ess_tail", "r_hat", *(["r_hat_nested"] if superchains is not None else [])]
    columns |= {name: np.full(len(draws.names), np.nan) for name in names}
    step = max(1, 2_000_000 // (num_chains * num_draws))
    for first in range(0, len(usable), step):
        block = usable[first : first + step]
        with np.errstate(all="ignore"):  # chains that all stand still have an infinite R-hat
            found = _errors(draws.array[block], columns["sd"][block])
            found |= _agreement(draws.array[block], superchains) if markov else {}
        for name, values in found.items():
            columns[name][block] = values
    return pd.DataFrame(columns, index=pd.Index(draws.names))


def _errors(x: Array, sd: Array) -> dict[str, Array]:
    """Monte Carlo standard errors of the mean and of the sd, of draws `(P, chain, draw)`."""
    from arviz_stats.base.array import array_stats  # two seconds to import: only those who ask pay

    u = (x - x.mean(axis=(1, 2), keepdims=True)) / sd[:, None, None]  # ArviZ takes a range below 1e-15 for a constant
    return {f"mcse_{of}": sd * array_stats.mcse(u, method=of) for of in ("mean", "sd")}


def _agreement(x: Array, superchains: NDArray[np.int64] | None) -> dict[str, Array]:
    """ESS and R-hat, of draws `(P, chain, draw)`, all from one ranking: ArviZ would rank five times."""
    from arviz_stats.base.array import array_stats

    half = x.shape[2] // 2
    halves = np.concatenate([x[..., :half], x[..., -half:]], axis=1)  # (P, 2 chain, draw / 2)
    bulk = _normal_scores(halves)
    folded = _normal_scores(abs(halves - np.median(halves, axis=(1, 2), keepdims=True)))
    ess_bulk = array_stats.ess(bulk, method="identity")
    at_top = (x == x.max(axis=(1, 2), keepdims=True)).mean(axis=(1, 2)) > 0.95
    found = {
        "ess_bulk": ess_bulk,
        "ess_tail": np.where(at_top, ess_bulk, array_stats.ess(x, method="tail", prob=(0.05, 0.95))),
        "r_hat": np.fmax(*(array_stats.rhat(z, method="identity") for z in (bulk, folded))),
    }
    if superchains is not None:
        own = np.arange(len(superchains))
        of_halves, ids = np.concatenate([own, x.shape[1] + own]), np.tile(superchains, 2)
        each = (array_stats.rhat_nested(z[:, of_halves], ids, method="identity") for z in (bulk, folded))
        found["r_hat_nested"] = np.fmax(*each)
    return found


def _normal_scores(x: Array) -> Array:
    """Ranks of each element's draws, as quantiles of a normal, with Blom's offset: Vehtari et al. 2021, section 4."""
    ranks = rankdata(x.reshape(len(x), -1), axis=1)
    scores: Array = ndtri((ranks - 3 / 8) / (ranks.shape[1] + 1 / 4))
    return scores.reshape(x.shape)


def _superchains(num_chains: int) -> NDArray[np.int64] | None:
    """The superchain of each chain; `None` for few chains."""
    if num_chains < MANY_CHAINS:
        return None
    groups = next((groups for groups in range(8, 3, -1) if num_chains % groups == 0), 8)
    return np.repeat(np.arange(groups), num_chains // groups)


def efficiency(table: pd.DataFrame, num_draws: int) -> float:
    """Effective draws of a mean per draw, averaged over parameters, as `arviz_stats.loo` takes it."""
    ess = (table["sd"] / table["mcse_mean"]) ** 2
    return float(ess.mean()) / num_draws if ess.notna().any() else 1.0
