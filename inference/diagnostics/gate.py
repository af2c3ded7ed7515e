r"""May these draws be used? One verdict on a posterior, with a row for each check and what to do where it fails."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import xarray as xr

from inference.diagnostics import checks
from inference.diagnostics.khat import khat_threshold
from inference.diagnostics.mixing import Limits, mixing_checks, precision_check
from inference.diagnostics.scalars import Draws, efficiency, parameters_of
from inference.diagnostics.verdicts import Check, Diagnosis, Verdict, absent

__all__ = ["Check", "Diagnosis", "Verdict", "diagnose"]

REFUSED = ("stuck chains", "R-hat", "nested R-hat", "bulk ESS", "tail ESS", "BFMI", "divergences", "restarts")
"""Checks of Markov chains that say nothing of independent draws."""

_Given: TypeAlias = Mapping[str, float | None]


def diagnose(
    tree: xr.DataTree,
    *,
    rhat: float | None = None,
    nested_rhat: float | None = None,
    ess_bulk: float | None = None,
    ess_tail: float | None = None,
    mcse: float | None = None,
    bfmi: float | None = None,
    divergences: float | None = None,
    restarts: float | None = None,
    khat: float | None = None,
    loo_khat: float | None = None,
    var_names: str | Sequence[str] | None = None,
) -> Diagnosis:
    r"""Judge a posterior's draws by every check that applies to them, each by its worst element.

    It passes only if no check fails and none is unknown. `inference_method` among the attributes of the tree or of its
    posterior says what the draws are: "MCMC" (assumed where it is missing), "VI" or "IS". Independent draws of a guide
    agree with each other whether or not they are the posterior, so the checks of chains are refused for the last two
    and Pareto k-hat is asked for in their place.

    Elements that are constant while others of their variable vary are taken for the variable's form (the zeros of a
    Cholesky factor) and left out.

    Args:
        tree: group `posterior`, of dimensions `chain` and `draw`; optionally `sample_stats` (`energy`, `diverging`,
            `acceptance_rate`, `khat`) and `log_likelihood`; attributes `restarts`, `partial` with `num_samples`,
            `khat`, `num_particles`.
        rhat: highest rank-normalised split R-hat, 1.01, for which each chain needs about 100 effective draws however
            many chains there are. One chain is split too, but cannot see another mode: it is never more than unknown.
        nested_rhat: highest nested R-hat, 1.01; of 16 chains or more, grouped as they come into 4 to 8 superchains of
            one size (the largest number that divides them; else 8, those left over being seen by R-hat alone).
            It is Margossian's measure where chains of a superchain share their start, and a milder one otherwise.
        ess_bulk: lowest effective sample size in the bulk, over all chains, 400: 100 for each of four chains, below
            which R-hat and the estimates of ESS and MCSE are not themselves reliable.
        ess_tail: lowest effective sample size of the 5 % and 95 % quantiles, over all chains, 400, for the same reason.
            Where more than 95 % of the draws are the largest value there is no such quantile, and the bulk's stands in.
        mcse: highest Monte Carlo standard error of the mean as a part of the standard deviation, 0.1.
        bfmi: lowest energy fraction of missing information of a chain, 0.3.
        divergences: how many divergent transitions are allowed, 0.
        restarts: how many chains may have been restarted from others in warm-up, 0.
        khat: highest Pareto k-hat of a guide's weights, :math:`\min(1 - 1 / \log_{10} S, 0.7)` of S draws, which are
            `num_particles` or else the draws there are.
        loo_khat: highest Pareto k-hat of leaving one observation out, 0.7; never above what the draws can bear.
        var_names: variables to look at; by default all.

    Raises:
        TypeError: if `tree` is no `xarray.DataTree`.
        ValueError: if it has no draws or other than numbers, a variable is not there, a threshold is not a number from
            0 on, or a check is given a threshold that does not apply to draws of this method.

    References:
        Vehtari, Gelman, Simpson, Carpenter and Bürkner, *Rank-normalization, folding, and localization: an improved
        R-hat*, 2021, arXiv 1903.08008. Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman, *Nested R-hat*,
        2024, arXiv 2110.13017. Betancourt, *Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte
        Carlo*, 2016, arXiv 1604.00695. Vehtari, Gelman and Gabry, *Practical Bayesian model evaluation using
        leave-one-out cross-validation and WAIC*, 2017, arXiv 1507.04544.

    >>> draws = np.random.default_rng(0).normal(size=(4, 500, 3))
    >>> posterior = xr.Dataset({"theta": (("chain", "draw", "school"), draws)})
    >>> found = diagnose(xr.DataTree.from_dict({"posterior": posterior}))
    >>> found.row("R-hat").verdict, found.row("bulk ESS").verdict
    ('pass', 'pass')
    >>> found.passed, str(found).splitlines()[0]
    (False, 'not passed (MCMC): unknown: BFMI, divergences')
    """
    every = _posterior(tree)
    draws, method = Draws.of(_selected(every, var_names)), _method(tree)
    if not draws.names:
        raise ValueError("`tree` has a posterior of no elements, expected some: sample again, or look at `var_names`")
    chains = {"rhat": rhat, "nested_rhat": nested_rhat, "ess_bulk": ess_bulk, "ess_tail": ess_tail, "bfmi": bfmi}
    chains |= {"divergences": divergences, "restarts": restarts}
    limits = _limits(method, chains, {"khat": khat}, {"mcse": mcse, "loo_khat": loo_khat})
    table = parameters_of(draws, markov=method == "MCMC")
    stats = _statistics(tree, every)
    num_chains, num_draws = draws.array.shape[1:]
    rows = [
        checks.complete_check(_attribute(tree, "partial"), num_draws, _attribute(tree, "num_samples")),
        checks.finite_check(draws),
        checks.constant_check(draws),
    ]
    if method == "MCMC":
        rows += [
            checks.stuck_check(every, stats),
            *mixing_checks(draws, table, limits),
            precision_check(draws, table, limits),
            checks.bfmi_check(stats.get("energy"), limits.bfmi),
            checks.divergence_check(stats.get("diverging"), limits.divergences),
            checks.restart_check(_attribute(tree, "restarts"), limits.restarts),
        ]
    else:
        why = "independent draws of a guide agree with each other whether or not they are the posterior"
        particles = int(_attribute(tree, "num_particles") or num_chains * num_draws)
        limit = khat_threshold(particles) if math.isnan(limits.khat) else limits.khat
        rows += [checks.khat_check(_khat(tree, stats), limit), precision_check(draws, table, limits)]
        rows += [absent(check, why) for check in REFUSED]
    log_likelihood = tree["log_likelihood"].to_dataset() if "log_likelihood" in tree.children else None
    rows += checks.loo_checks(log_likelihood, limits.loo_khat, efficiency(table, num_chains * num_draws))
    return Diagnosis(tuple(rows), table, method)


# -- what was given ------------------------------------------------------------------------------------------


def _posterior(tree: xr.DataTree) -> xr.Dataset:
    if not isinstance(tree, xr.DataTree):
        raise TypeError(f"`tree` is a {type(tree).__name__}, expected an `xarray.DataTree`: see `arviz_base.from_dict`")
    groups = ", ".join(tree.children) or "nothing"
    if "posterior" not in tree.children or not tree["posterior"].data_vars:
        raise ValueError(f"`tree` has {groups}, expected a group `posterior` with variables: put the draws there")
    posterior = tree["posterior"].to_dataset()
    for name, array in posterior.data_vars.items():
        if not {"chain", "draw"} <= set(array.dims) or array.dtype.kind not in "fiub":
            raise ValueError(
                f"`tree` has `{name}` of dimensions {array.dims} and type {array.dtype}, expected numbers by `chain` "
                "and `draw`: convert it, or put what is no draw into `constant_data`"
            )
    if not posterior.sizes["chain"] * posterior.sizes["draw"]:
        raise ValueError(
            f"`tree` has {posterior.sizes['chain']} chains of {posterior.sizes['draw']} draws, expected at least one "
            "draw: sample first"
        )
    return posterior


def _statistics(tree: xr.DataTree, posterior: xr.Dataset) -> xr.Dataset:
    """What the sampler noted at every draw; empty where it did not."""
    stats = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else xr.Dataset()
    for name in {"energy", "diverging", "acceptance_rate"} & set(stats.data_vars):
        array = stats[name]
        if not {"chain", "draw"} <= set(array.dims) or not np.array_equal(array["chain"], posterior["chain"]):
            raise ValueError(
                f"`tree` has `{name}` of sizes {dict(array.sizes)} in `sample_stats`, expected the "
                f"{posterior.sizes['chain']} chains of the posterior, and `draw`: keep it for every draw"
            )
    return stats


def _selected(posterior: xr.Dataset, var_names: str | Sequence[str] | None) -> xr.Dataset:
    if var_names is None:
        return posterior
    wanted = [var_names] if isinstance(var_names, str) else list(dict.fromkeys(var_names))
    missing = [name for name in wanted if name not in posterior.data_vars]
    if missing or not wanted:
        there = ", ".join(map(str, posterior.data_vars))
        raise ValueError(f"`var_names` has {missing or 'nothing'}, expected some of {there}: name these, or none")
    return posterior[wanted]


def _method(tree: xr.DataTree) -> str:
    method = _attribute(tree, "inference_method") or "MCMC"
    if method not in ("MCMC", "VI", "IS"):
        raise ValueError(f"`tree` has `inference_method` {method!r}, expected MCMC, VI or IS: correct the attribute")
    return str(method)


def _attribute(tree: xr.DataTree, name: str) -> Any:
    return tree.attrs.get(name, tree["posterior"].attrs.get(name))


def _limits(method: str, chains: _Given, weights: _Given, others: _Given) -> Limits:
    """The thresholds, those not given being the usual ones; refuse what says nothing of such draws."""
    for refused in [name for name, value in (weights if method == "MCMC" else chains).items() if value is not None]:
        why = "there are no weights" if method == "MCMC" else "they are independent, and agree whatever they are"
        raise ValueError(f"`{refused}` was given, but the draws are of {method}: {why}; leave it out")
    given = {name: value for name, value in {**chains, **weights, **others}.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value >= 0:
            raise ValueError(f"`{name}` is {value!r}, expected a number, at least 0: see `diagnose` for the usual one")
    return Limits(**{name: float(value) for name, value in given.items()})


def _khat(tree: xr.DataTree, stats: xr.Dataset) -> xr.DataArray | None:
    if "khat" in stats:
        return stats["khat"]
    kept = _attribute(tree, "khat")
    return None if kept is None else xr.DataArray(np.asarray(kept), dims=("data",)[: np.ndim(kept)])
