"""The rows of a verdict that are about whole draws, chains, weights and data: one function for each."""

from __future__ import annotations

import warnings
from functools import reduce
from itertools import product
from operator import or_

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from inference.diagnostics.scalars import MIN_DRAWS, Array, Draws, flat, label
from inference.diagnostics.verdicts import Check, absent, judged

__all__ = [
    "bfmi_check",
    "complete_check",
    "constant_check",
    "divergence_check",
    "finite_check",
    "khat_check",
    "loo_checks",
    "restart_check",
    "stuck_check",
    "too_few",
]


def finite_check(draws: Draws) -> Check:
    """Infinite draws, or NaN."""
    return judged(
        "non-finite draws",
        0,
        draws.nonfinite.astype(np.float64),
        draws.names,
        worse="above",
        fail="find where the model overflows; leave a quantity that may be infinite out by `var_names`",
        unknown="",
    )


def constant_check(draws: Draws) -> Check:
    """Variables that no draw moved; zeros and ones that belong to a variable's form are only counted."""
    total, form = len(set(draws.variables.tolist())), int(draws.structural.sum())
    if draws.fixed:
        advice = (
            "R-hat and ESS are undefined for it; a number that is known is no parameter: leave it out by `var_names`"
        )
        where = ", ".join(draws.fixed)
        return Check("constant parameters", 0, len(draws.fixed), where, len(draws.fixed), total, "fail", advice)
    owners = ", ".join(dict.fromkeys(draws.variables[draws.structural].tolist()))
    where = f"{form} constant elements of {owners} left out" if form else ""
    return Check("constant parameters", 0, 0, where, 0, total, "pass")


# -- chains --------------------------------------------------------------------------------------------------


def stuck_check(posterior: xr.Dataset, stats: xr.Dataset) -> Check:
    """Chains that never moved, accepted nothing, or diverged at every draw; per image where images have chains."""
    if posterior.sizes["draw"] < MIN_DRAWS:
        return absent("stuck chains", too_few(posterior.sizes["draw"]), threshold=0, verdict="unknown")
    every = list(posterior.data_vars.values())
    keep = {"chain", "data"} if all("data" in array.dims for array in every) else {"chain"}
    stuck = ~reduce(or_, ((a != a.isel(draw=0)).any([d for d in a.dims if d not in keep]) for a in every))
    if "acceptance_rate" in stats:
        stuck = stuck | (stats["acceptance_rate"] == 0).all("draw")
    if "diverging" in stats:
        stuck = stuck | stats["diverging"].astype(bool).all("draw")
    names, values = _by_chain(stuck)
    return judged(
        "stuck chains",
        0,
        values.astype(np.float64),
        names,
        worse="above",
        fail="start these chains elsewhere, lengthen the warm-up or raise `target_acceptance`; do not just drop them",
        unknown="",
    )


def bfmi_check(energy: xr.DataArray | None, threshold: float) -> Check:
    """The energy fraction of missing information of each chain."""
    from arviz_stats.base.array import array_stats  # two seconds to import: only those who ask pay

    if energy is None or energy.sizes["draw"] < MIN_DRAWS:
        why = (
            "`sample_stats` has no `energy`: keep it when sampling" if energy is None else too_few(energy.sizes["draw"])
        )
        return absent("BFMI", why, threshold=threshold, verdict="unknown")
    _, values = flat(energy)
    with np.errstate(all="ignore"):
        found = array_stats.bfmi(values.astype(np.float64))  # (elements, chain)
    return judged(
        "BFMI",
        threshold,
        found.reshape(-1),
        _by_chain(energy.isel(draw=0))[0],
        worse="below",
        fail="the energy moves slowly, as with heavy tails or a funnel: reparametrise (non-centred), or draw far more",
        unknown="the energy is constant or not finite",
    )


def divergence_check(diverging: xr.DataArray | None, threshold: float) -> Check:
    """Divergent transitions, their number, and the chain that has most."""
    if diverging is None:
        why = "`sample_stats` has no `diverging`: keep it when sampling"
        return absent("divergences", why, threshold=threshold, verdict="unknown")
    names, values = _by_chain(diverging.astype(bool).sum("draw"))
    number, total = int(values.sum()), diverging.size
    where = names[int(values.argmax())] if number else ""
    if number <= threshold:
        return Check("divergences", threshold, number, where, number, total, "pass")
    advice = (
        f"{number / total:.2%} of the draws diverge, so some region is not reached: raise `target_acceptance`, or "
        "reparametrise a funnel (non-centred)"
    )
    return Check("divergences", threshold, number, where, number, total, "fail", advice)


def restart_check(restarts: object, threshold: float) -> Check:
    """Chains that the sampler restarted from others when it knew the metric."""
    if restarts is None:
        return absent("restarts", "the sampler reports no restarts of chains")
    number = int(np.sum(np.asarray(restarts)))
    if number <= threshold:
        return Check("restarts", threshold, number, "", number, number, "pass")
    advice = (
        "chains were moved to where others were, which hides minor modes: start elsewhere, and compare with a sampler "
        "that restarts none (`nuts`)"
    )
    return Check("restarts", threshold, number, "warm-up", number, number, "fail", advice)


def complete_check(partial: object, draws: int, asked: object) -> Check:
    """Whether the run came to its end."""
    if partial is None and asked is None:
        return absent("complete run", "the sampler does not say whether it was interrupted")
    planned = int(asked) if isinstance(asked, int | np.integer) else None
    if not partial:
        return Check("complete run", planned or draws, draws, "", 0, planned or draws, "pass")
    of = f"{draws} of {planned} draws" if planned else f"{draws} draws, of how many is not said"
    missing = max(planned - draws, 0) if planned else 0
    advice = f"interrupted: {of}; resume the run, or judge it as the shorter run it is"
    return Check("complete run", planned or np.nan, draws, "draws", missing, planned or draws, "fail", advice)


def _by_chain(array: xr.DataArray) -> tuple[list[str], NDArray[np.generic]]:
    """`chain 3`, or `chain 3, data 12`, and the values in that order."""
    rest = [str(dim) for dim in array.dims if dim != "chain"]
    dims = [*rest, "chain"]
    index = product(*(array[dim].values for dim in dims))
    names = [
        ", ".join(f"{dim} {i}" for dim, i in zip(["chain", *rest], (*at[-1:], *at[:-1]), strict=True)) for at in index
    ]
    return names, array.transpose(*dims).values.reshape(-1)


def too_few(draws: int) -> str:
    """Why nothing is said of so few draws."""
    return f"too few draws in a chain to judge by ({draws}): {MIN_DRAWS} are the very least"


# -- weights -------------------------------------------------------------------------------------------------


def khat_check(khat: xr.DataArray | None, threshold: float) -> Check:
    """Pareto k-hat of a guide's weights, the worst datum's."""
    if khat is None:
        why = "no k-hat is kept: write `inference.diagnostics.pareto_khat` of the weights to `sample_stats` as `khat`"
        return absent("k-hat", why, threshold=threshold, verdict="unknown")
    index = product(*([f"{dim} {i}" for i in khat[dim].values] for dim in khat.dims))
    return judged(
        "k-hat",
        threshold,
        khat.values.astype(np.float64).reshape(-1),
        [", ".join(at) for at in index],
        worse="above",
        fail="the guide misses part of the posterior: use a richer one or train on, or sample by MCMC",
        unknown="the tail of the weights could not be fitted: take more draws, and look at weights that are infinite",
    )


def loo_checks(log_likelihood: xr.Dataset | None, limit: float, reff: float) -> list[Check]:
    """Pareto k-hat of leaving out each observation, a row for each observed variable."""
    if not log_likelihood:
        return [absent("LOO k-hat", "there is no group `log_likelihood`")]
    return [_loo_check(str(name), array, limit, reff) for name, array in log_likelihood.data_vars.items()]


def _loo_check(name: str, array: xr.DataArray, limit: float, reff: float) -> Check:
    check = f"LOO k-hat of {name}"
    try:
        index, values = flat(array)
        finite = np.isfinite(values.astype(np.float64)).all(axis=(1, 2))
        usable = finite & (values.max(axis=(1, 2)) != values.min(axis=(1, 2)))
        if not usable.any():
            raise ValueError("no log likelihood is finite and differs from draw to draw")
        khat = np.where(finite, -np.inf, np.nan)  # what is masked is the same under all: there is nothing to leave out
        khat[usable], good = _pareto_k(values[usable], reff)
    except Exception as error:  # whatever it was, it is told
        why = f"LOO failed ({type(error).__name__}: {error}): mend the group `log_likelihood`, or drop it"
        return Check(check, limit, np.nan, name, 0, 0, "unknown", why)
    return judged(
        check,
        min(limit, good),
        khat,
        [label(name, at) for at in index],
        worse="above",
        fail="these observations are influential: use moment matching or K-fold for them, or a more robust likelihood",
        unknown="the tail of its weights could not be fitted: look for a log likelihood that is not finite",
    )


def _pareto_k(values: NDArray[np.generic], reff: float) -> tuple[Array, float]:
    """K-hat of observations `(n, chain, draw)`, and the highest that so many draws can bear."""
    from arviz_stats.loo import loo

    along = xr.Dataset({"y": (("chain", "draw", "datum"), np.moveaxis(values.astype(np.float64), 0, -1))})
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # what it warns of is in the row
        found = loo(xr.DataTree.from_dict({"log_likelihood": along}), var_name="y", pointwise=True, reff=reff)
    return np.asarray(found.pareto_k.values, dtype=np.float64), float(found.good_k)
