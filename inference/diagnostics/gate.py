r"""May these draws be used? One verdict on a posterior, with a row for each check and what to do where it fails."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from html import escape
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from inference.diagnostics import checks
from inference.diagnostics.checks import MIN_DRAWS, Array, Check, Draws, Verdict
from inference.diagnostics.khat import khat_threshold

__all__ = ["Check", "Diagnosis", "Verdict", "diagnose"]

MANY_CHAINS = 16
"""Chains from which on nested R-hat is computed."""

REFUSED = ("stuck chains", "R-hat", "nested R-hat", "bulk ESS", "tail ESS", "BFMI", "divergences", "restarts")
"""Checks of Markov chains that say nothing of independent draws."""

NESTED = "groups of chains disagree: warm up for longer, so that none remembers where it began"

_Given: TypeAlias = Mapping[str, float | None]


@dataclass(frozen=True)
class _Limits:
    rhat: float = 1.01
    nested_rhat: float = 1.01
    ess_bulk: float = 400
    ess_tail: float = 400
    mcse: float = 0.1
    bfmi: float = 0.3
    divergences: float = 0
    restarts: float = 0
    khat: float = math.nan
    loo_khat: float = 0.7


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """The verdict on a posterior.

    Attributes:
        rows: the checks.
        parameters: a row for every scalar parameter: `mean`, `sd`, `mcse_mean`, `mcse_sd` and, of Markov chains,
            `ess_bulk`, `ess_tail`, `r_hat` and, of 16 or more, `r_hat_nested`; NaN where it is undefined.
        method: "MCMC", "VI" or "IS".
    """

    rows: tuple[Check, ...]
    parameters: pd.DataFrame
    method: str

    @property
    def passed(self) -> bool:
        """Whether no check fails and none is unknown."""
        return all(row.verdict in ("pass", "not applicable") for row in self.rows)

    @property
    def frame(self) -> pd.DataFrame:
        """The rows; for the columns see `Check`."""
        return pd.DataFrame([asdict(row) for row in self.rows])

    def row(self, check: str) -> Check:
        """The first row of a name, such as `R-hat`."""
        for row in self.rows:
            if row.check == check:
                return row
        raise KeyError(f"`check` is {check!r}, expected one of {', '.join(row.check for row in self.rows)}")

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it: NaN is `None`, infinities are strings."""
        rows, table = self.frame.to_dict("records"), self.parameters.reset_index(names="name").to_dict("records")
        numbers = {"rows": [_plain(row) for row in rows], "parameters": [_plain(row) for row in table]}
        return {"method": self.method, "passed": self.passed, **numbers}

    def __str__(self) -> str:
        table = self.frame.drop(columns="advice").to_string(index=False, float_format=_short, na_rep="")
        return "\n".join([self._headline(), table, *self._advice()])

    def _repr_html_(self) -> str:
        with pd.option_context("display.max_colwidth", None):
            table = self.frame.drop(columns="advice").to_html(index=False, float_format=_short, na_rep="")
        items = "".join(f"<li>{escape(line)}</li>" for line in self._advice())
        return f"<p><b>{escape(self._headline())}</b></p>{table}<ul>{items}</ul>"

    def _headline(self) -> str:
        named = {v: ", ".join(dict.fromkeys(r.check for r in self.rows if r.verdict == v)) for v in ("fail", "unknown")}
        if self.passed:
            return f"passed ({self.method}): {sum(row.verdict == 'pass' for row in self.rows)} checks"
        said = (f"{verdict}: {which}" for verdict, which in named.items() if which)
        return f"not passed ({self.method}): {'; '.join(said)}"

    def _advice(self) -> Iterator[str]:
        by_advice: dict[str, list[str]] = {}
        for row in self.rows:
            if row.advice:
                by_advice.setdefault(row.advice, []).append(row.check)
        yield from (f"{', '.join(dict.fromkeys(names))}: {advice}" for advice, names in by_advice.items())


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
    table = _parameters(draws, markov=method == "MCMC")
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
            *_mixing(draws, table, limits),
            _precision(draws, table, limits),
            checks.bfmi_check(stats.get("energy"), limits.bfmi),
            checks.divergence_check(stats.get("diverging"), limits.divergences),
            checks.restart_check(_attribute(tree, "restarts"), limits.restarts),
        ]
    else:
        why = "independent draws of a guide agree with each other whether or not they are the posterior"
        particles = int(_attribute(tree, "num_particles") or num_chains * num_draws)
        limit = khat_threshold(particles) if math.isnan(limits.khat) else limits.khat
        rows += [checks.khat_check(_khat(tree, stats), limit), _precision(draws, table, limits)]
        rows += [checks.absent(check, why) for check in REFUSED]
    log_likelihood = tree["log_likelihood"].to_dataset() if "log_likelihood" in tree.children else None
    rows += checks.loo_checks(log_likelihood, limits.loo_khat, _efficiency(table, num_chains * num_draws))
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


def _limits(method: str, chains: _Given, weights: _Given, others: _Given) -> _Limits:
    """The thresholds, those not given being the usual ones; refuse what says nothing of such draws."""
    for refused in [name for name, value in (weights if method == "MCMC" else chains).items() if value is not None]:
        why = "there are no weights" if method == "MCMC" else "they are independent, and agree whatever they are"
        raise ValueError(f"`{refused}` was given, but the draws are of {method}: {why}; leave it out")
    given = {name: value for name, value in {**chains, **weights, **others}.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not value >= 0:
            raise ValueError(f"`{name}` is {value!r}, expected a number, at least 0: see `diagnose` for the usual one")
    return _Limits(**{name: float(value) for name, value in given.items()})


def _khat(tree: xr.DataTree, stats: xr.Dataset) -> xr.DataArray | None:
    if "khat" in stats:
        return stats["khat"]
    kept = _attribute(tree, "khat")
    return None if kept is None else xr.DataArray(np.asarray(kept), dims=("data",)[: np.ndim(kept)])


# -- numbers of each parameter -------------------------------------------------------------------------------


def _parameters(draws: Draws, *, markov: bool) -> pd.DataFrame:
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


def _efficiency(table: pd.DataFrame, num_draws: int) -> float:
    """Effective draws of a mean per draw, averaged over parameters, as `arviz_stats.loo` takes it."""
    ess = (table["sd"] / table["mcse_mean"]) ** 2
    return float(ess.mean()) / num_draws if ess.notna().any() else 1.0


# -- rows of them --------------------------------------------------------------------------------------------


def _mixing(draws: Draws, table: pd.DataFrame, limits: _Limits) -> list[Check]:
    """R-hat, nested R-hat, and effective sample sizes."""
    more = "run more draws or chains, or reparametrise so that chains move faster"
    return [
        _r_hat(draws, table, limits),
        _worst("nested R-hat", table["r_hat_nested"], limits.nested_rhat, draws, worse="above", fail=NESTED)
        if "r_hat_nested" in table
        else checks.absent("nested R-hat", f"it is for {MANY_CHAINS} chains or more"),
        _worst("bulk ESS", table["ess_bulk"], limits.ess_bulk, draws, worse="below", fail=more),
        _worst("tail ESS", table["ess_tail"], limits.ess_tail, draws, worse="below", fail=f"{more} in the tails"),
    ]


def _r_hat(draws: Draws, table: pd.DataFrame, limits: _Limits) -> Check:
    row = _worst("R-hat", table["r_hat"], limits.rhat, draws, worse="above", fail="run longer")
    if row.verdict == "fail":
        at = int(table["r_hat"].to_numpy(na_value=-np.inf).argmax())
        return replace(row, advice=_disagreement(draws.array[at], row.value))
    if row.verdict == "pass" and draws.array.shape[1] == 1:
        advice = "one chain cannot see another mode: run four or more, started apart"
        return replace(row, verdict="unknown", count=row.of, advice=advice)
    return row


def _precision(draws: Draws, table: pd.DataFrame, limits: _Limits) -> Check:
    """The error of the mean as a part of the sd."""
    part = table["mcse_mean"] / table["sd"]
    return _worst("MCSE of the mean / sd", part, limits.mcse, draws, worse="above", fail="run more draws or chains")


def _worst(
    check: str, values: pd.Series[float], threshold: float, draws: Draws, *, worse: Literal["above", "below"], fail: str
) -> Check:
    """The worst parameter, those left out that belong to the form of a variable."""
    few = draws.array.shape[2] < MIN_DRAWS
    why = "it is undefined where draws are constant or not finite: see the rows of that name"
    unknown = checks.too_few(draws.array.shape[2]) if few else why
    kept = values[~draws.structural]
    numbers, names = np.asarray(kept, dtype=np.float64), list(kept.index)
    return checks.judged(check, threshold, numbers, names, worse=worse, fail=fail, unknown=unknown)


def _disagreement(x: Array, r_hat: float) -> str:
    """Why chains `(chain, draw)` disagree: by more than each one's own slowness explains, or not."""
    from arviz_stats.base.array import array_stats

    moving = x[x.max(axis=1) > x.min(axis=1)][:, None]
    each = [array_stats.ess(v, method="bulk") for v in (moving, abs(moving - np.median(x)))] if len(moving) else [1.0]
    explained = 2 / min(np.median(ess) for ess in each)  # of chains that agree R-hat^2 is about 1 + 2 / (ESS of one)
    if r_hat**2 - 1 > 3 * explained:
        return (
            "each chain mixes but they disagree, as with several modes or a chain that is stuck: look at the chains of "
            "this element, start elsewhere, or temper"
        )
    return (
        "chains have not mixed, or are too short: warm up for longer and draw more in each (more chains do not help), "
        "or reparametrise"
    )


# -- texts ---------------------------------------------------------------------------------------------------


def _short(value: float) -> str:
    return f"{value:,.0f}" if 1000 <= abs(value) < math.inf else f"{value:.4g}"


def _plain(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    """A row as JSON can hold it."""
    return {str(name): _finite(value) for name, value in row.items()}


def _finite(value: Any) -> Any:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return None if math.isnan(value) else str(float(value))
