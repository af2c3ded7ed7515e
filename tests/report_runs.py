"""Seven runs whose faults are known, as evidence for a report: no model is run, all numbers are drawn with seeds.

Each fault is in one place. A pair is a mixture of Gaussians' VAE on 8x8 digits, a posterior that of eight groups,

.. math:: \\mu \\sim N(0, s^2), \\quad \\theta_j \\sim N(\\mu, 0.2^2), \\quad y_{ij} \\sim N(\\theta_j, 1),

whose exact posterior is a Gaussian, so that its draws are right unless they are made wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import Tensor

from inference.bracket import Row
from inference.diagnostics import Calibration, diagnose, ppc
from inference.ladder import Ladder
from inference.report.evidence import Evidence
from inference.report.examination import Components, Examination, LatentUse, Pictures, Worst

__all__ = [
    "RUNS",
    "all_well",
    "all_well_posterior",
    "bad_guide",
    "collapsed_clusters",
    "overfitting",
    "prior_posterior_conflict",
    "too_small_k",
    "unconverged_chains",
]

Array = NDArray[np.float64]

REPORTS, UNITS, CLUSTERS, GROUP_SD = 40, 8, 10, 0.2

RECIPE = """\
name = "digits-gmvae"
paper = "Shu 2016, ruishu.io/2016/12/25/gmvae"

[data]
name = "digits"
protocol = "dynamic"

[model]
name = "gmvae"
z_dim = 8
prior = { name = "gaussian_mixture", components = 10, spread = 0.5, weights = "equal" }

[training]
epochs = 400
learning_rate = 1e-3
"""

DATA = {"name": "digits", "split": "train", "protocol": "dynamic", "n": 1438, "x_dim": 64, "shape": [8, 8]}

MANIFEST: Mapping[str, Any] = {
    "versions": {"python": "3.11.9", "ppmodels": "0.1.0", "torch": "2.6.0", "pyro-ppl": "1.9.1", "numpy": "2.1.3"},
    "machine": {"system": "Linux", "processor": "x86_64", "threads": 2, "gpu": None},
    "command": ["ppmodels", "fit", "digits-gmvae"],
    "status": "finished",
    "stopped": "finished",
    "steps": 50 * REPORTS,
    "seconds": 61.2,
    "seed": 0,
    "device": "cpu",
    "data": {**DATA, "sha256": "0f" * 32},
    "validation": {**DATA, "split": "validation", "n": 359, "sha256": "1e" * 32},
    "modes": {"bound": {"100": "replay", "38": "replay"}, "score": {"100": "replay"}},
}


# -- a pair --------------------------------------------------------------------------------------------------


def metrics(score: Callable[[Array], Array] = lambda t: -20 - 60 * np.exp(-t / 4)) -> pd.DataFrame:
    """Forty reports of a loss that comes to rest, with a validation score of the course asked for."""
    rng, t = np.random.default_rng(0), np.arange(REPORTS, dtype=float)
    fallen = np.exp(-t / 4)
    likelihood, kl = -12.1 - 80 * fallen + rng.normal(0, 0.1, REPORTS), 9 - 8 * fallen + rng.normal(0, 0.1, REPORTS)
    columns = {"step": 50 * (t + 1).astype(int), "epoch": (t + 1) * 50 / 15, "seconds": 1.53 * (t + 1)}
    columns |= {"lr": np.full(REPORTS, 1e-3), "loss": kl - likelihood, "log_likelihood": likelihood, "kl_z": 0.8 * kl}
    columns |= {"kl_y": 0.2 * kl, "grad_norm": 3 + 40 * fallen, "validation": score(t) + rng.normal(0, 0.02, REPORTS)}
    return pd.DataFrame(columns)


def per_datum(n: int = 500, *, mean: float = -18.3, khat: float = 0.2, seed: int = 0) -> pd.DataFrame:
    """Estimates of log p(x) from a thousand draws each, with k-hat around the one asked for."""
    rng = np.random.default_rng(seed)
    k = rng.normal(khat, 0.12, n)
    ess = 1000 * np.clip(0.9 - k, 0.01, 1) * rng.uniform(0.8, 1.0, n)
    return pd.DataFrame({"value": rng.normal(mean, 4, n), "standard_error": 1 / np.sqrt(ess), "khat": k, "ess": ess})


def row(label: str, K: int, value: Tensor, error: float = 0.02, **how: Any) -> Row:
    """A row of a ladder; lower and certain unless told otherwise."""
    errors = torch.full_like(value, error)
    how = {"direction": "lower", "guarantee": "expectation", "source": "guide", **how}
    family = label if label == "ELBO" else label.partition("x")[0] if "AIS" in label else label.partition("-")[0]
    low, high = value - 2 * errors, value + 2 * errors
    return Row(
        label, family, num_particles=K, value=value, standard_error=errors, low=low, high=high, seconds=0.4, **how
    )


def rows(n: int, loose: Mapping[str, float], seed: int) -> list[Row]:
    """Lower bounds that lie so far below log p(x) of n data on average."""
    noise = torch.Generator().manual_seed(seed)
    truth = -18.3 + 4 * torch.randn(n, generator=noise, dtype=torch.float64)
    found = []
    for label, gap in loose.items():
        K = 1 if label == "ELBO" else int(label.replace("x", "-").split("-")[-1])
        value = truth - gap * (0.5 + torch.rand(n, generator=noise, dtype=torch.float64))
        source = "annealing" if "AIS" in label else "guide"
        found.append(row(label, K, value, math.nan if K == 1 else 0.02, source=source))
    return found


TIGHT = {"ELBO": 0.9, "IWAE-50": 0.12, "IWAE-500": 0.05, "IWAE-5000": 0.02, "AIS-100x8": 0.02}


def ladder(loose: Mapping[str, float] = TIGHT, *, khat: Array | None = None) -> Ladder:
    """Bounds on 200 data, and on 100 that are simulated, where reverse AIS closes the bracket from above."""
    drawn = np.random.default_rng(3).normal(0.2, 0.12, 200) if khat is None else khat
    beside = rows(100, TIGHT, seed=2)
    how: dict[str, Any] = {"direction": "upper", "source": "reverse annealing"}
    beside.append(row("reverse AIS-100x8", 8, beside[-1].value + 0.05, **how))
    simulated = Ladder(tuple(beside), torch.from_numpy(drawn[:100]))
    return Ladder(tuple(rows(200, loose, seed=1)), torch.from_numpy(drawn), simulated)


def components(share: Array, *, agreement: float = 0.9) -> Components:
    """Clusters of such shares that are sure of most data and agree with the classes that often."""
    C, share = len(share), share / share.sum()
    entropy = float(-(share * np.log(share)).sum())
    confusion = np.full((C, 10), (1 - agreement) / 9)
    confusion[np.arange(C), np.arange(C) % 10] = agreement
    return Components(
        site="y",
        share=share,
        entropy=entropy,
        entropy_se=0.01,
        conditional_entropy=0.1 * entropy,
        conditional_entropy_se=0.005,
        dead_below=0.1 / C,
        confusion=np.round(500 * share[:, None] * confusion),
        scores={"accuracy": agreement, "nmi": agreement**2, "ari": agreement**2},
        scores_se={"accuracy": 0.013, "nmi": 0.02, "ari": 0.02},
    )


def examination() -> Examination:
    """What there is to see of a pair that is well: 500 data, 8 units that are used, 10 clusters, pictures."""
    rng, images = np.random.default_rng(4), load_digits().data[:60] / 16
    blurred = np.clip(0.85 * images + 0.15 * images.mean(0), 0, 1)
    steps = np.linspace(0, 1, 7)[:, None]
    lines = np.stack([(1 - steps) * blurred[i] + steps * blurred[i + 6] for i in range(6)])
    variance = rng.uniform(0.4, 0.95, UNITS)
    use = LatentUse(
        site="z",
        codes=rng.normal(size=(500, UNITS)),
        prior=rng.normal(size=(500, UNITS)),
        variance=variance,
        threshold=0.01,
        kl=-0.5 * np.log(1 - variance),
        kl_se=np.full(UNITS, 0.03),
        total_kl_se=0.07,
        told_apart=0.56,
        told_apart_se=0.016,
    )
    held_out = per_datum()
    worst = np.argsort(-held_out["khat"].to_numpy())[:6]
    return Examination(
        per_datum=held_out,
        num_particles=1000,
        data={**DATA, "split": "test", "n": 500, "sha256": "2d" * 32},
        train=per_datum(seed=1),
        latents=(use,),
        components=(components(rng.dirichlet(np.full(CLUSTERS, 30.0))),),
        pictures=Pictures((8, 8), images[:20], blurred[:20], blurred[20:40], lines),
        worst=Worst(worst.astype(np.int64), images[40:46], blurred[40:46]),
        seconds=8.4,
    )


def worst_chains(index: NDArray[np.int64]) -> xr.DataTree:
    """Chains on the latents of the data of these numbers, and the guide's draws."""
    rng = np.random.default_rng(5)
    coords = {"data": index}
    posterior = xr.Dataset({"z": (("chain", "draw", "data", "z_dim"), rng.normal(size=(4, 1000, 6, UNITS)))}, coords)
    draws = xr.Dataset({"z": (("chain", "draw", "data", "z_dim"), rng.normal(0, 0.7, (1, 1000, 6, UNITS)))}, coords)
    tree = xr.DataTree.from_dict({"posterior": posterior, "sample_stats": statistics(4, 1000), "guide": draws})
    tree.attrs |= {"inference_method": "MCMC", "sampler": "latents"}
    return tree


def statistics(C: int, N: int) -> xr.Dataset:
    """What a healthy sampler notes."""
    energy, still = np.random.default_rng(6).normal(80, 3, (C, N)), np.zeros((C, N), dtype=bool)
    return xr.Dataset({"energy": (("chain", "draw"), energy), "diverging": (("chain", "draw"), still)})


def all_well() -> Evidence:
    """A pair without a fault."""
    found = examination()
    assert found.worst is not None
    chains = worst_chains(found.worst.index)
    beside: dict[str, Any] = {"worst": chains, "worst_diagnosis": diagnose(chains)}
    return Evidence("digits-gmvae", dict(MANIFEST), RECIPE, metrics(), ladder(), examination=found, **beside)


def _with(**parts: Any) -> Evidence:
    """The pair that is well, with other parts of its examination."""
    well = all_well()
    assert well.examination is not None
    return replace(well, examination=replace(well.examination, **parts))


def bad_guide() -> Evidence:
    """K-hat is above 0.7 for most data; annealing does not need the guide, so the bracket is closed all the same."""
    poor = np.random.default_rng(3).normal(0.8, 0.12, 200)
    return replace(_with(per_datum=per_datum(khat=0.8)), name="bad-guide", ladder=ladder(khat=poor))


def too_small_k() -> Evidence:
    """The IWAE gains 1.5 nats from 5 draws to 50, and would gain more."""
    return replace(all_well(), name="too-small-k", ladder=ladder({"ELBO": 4.0, "IWAE-5": 2.5, "IWAE-50": 1.0}))


def collapsed_clusters() -> Evidence:
    """Nearly all data are in one of ten clusters."""
    share = np.full(CLUSTERS, 0.001)
    share[3] = 0.991
    return replace(_with(components=(components(share, agreement=0.12),)), name="collapsed-clusters")


def overfitting() -> Evidence:
    """Training data are 6 nats better explained than others; the validation score has lost most of what it gained."""
    course = metrics(lambda t: -20 - 60 * np.exp(-t / 3) - 45 / (1 + np.exp(-(t - 22) / 3)))
    return replace(_with(train=per_datum(mean=-12.3, seed=1)), name="overfitting", metrics=course)


# -- a posterior ---------------------------------------------------------------------------------------------


def posterior(*, prior_sd: float = 5.0, truth: float = 0.8, rho: float = 0.0) -> xr.DataTree:
    """Four chains of a thousand draws; `rho` is how much of one draw is in the next."""
    J, N, C, S = 8, 10, 4, 1000
    rng = np.random.default_rng(7)
    y = rng.normal(truth, GROUP_SD, J)[:, None] + rng.normal(size=(J, N))
    given = GROUP_SD**-2  # the precision of theta given mu
    precision = np.diag([prior_sd**-2 + given * J, *np.full(J, given + N)])  # of (mu, theta)
    precision[0, 1:] = precision[1:, 0] = -given
    covariance = np.linalg.inv(precision)
    mean = covariance @ np.r_[0, y.sum(1)]
    noise = rng.normal(size=(C, S, J + 1))
    for t in range(1, S):
        noise[:, t] = rho * noise[:, t - 1] + math.sqrt(1 - rho**2) * noise[:, t]
    drawn = mean + noise @ np.linalg.cholesky(covariance).T
    mu, theta = drawn[..., 0], drawn[..., 1:]
    axes, data = ("chain", "draw"), ("chain", "draw", "group", "unit")
    log_prior = {
        "mu": (axes, _normal(mu, 0, prior_sd)),
        "theta": ((*axes, "group"), _normal(theta, mu[..., None], GROUP_SD)),
    }
    replicated = theta[..., None] + rng.normal(size=(C, S, J, N))
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"mu": (axes, mu), "theta": ((*axes, "group"), theta)}),
            "sample_stats": statistics(C, S),
            "log_prior": xr.Dataset(log_prior),
            "log_likelihood": xr.Dataset({"y": (data, _normal(y, theta[..., None], 1.0))}),
            "posterior_predictive": xr.Dataset({"y": (data, replicated)}),
            "observed_data": xr.Dataset({"y": (data[2:], y)}),
        }
    )
    tree.attrs |= {"inference_method": "MCMC", "sampler": "nuts", "num_samples": S, "num_warmup": 500, "restarts": 0}
    return tree


def _normal(x: Array, loc: Any, scale: float) -> Array:
    return np.asarray(-0.5 * ((x - loc) / scale) ** 2 - math.log(scale) - 0.5 * math.log(2 * math.pi))


def sensitivity(tree: xr.DataTree) -> pd.DataFrame:
    """Of mu and theta to scaling the prior of mu, and the likelihood, by ArviZ."""
    from arviz_stats import psense

    columns: dict[str, dict[str, float]] = {}
    for group, scaled in (("prior", ["mu"]), ("likelihood", ["y"])):
        found = psense(tree, group=group, group_var_names=scaled)
        each = {"mu": float(found["mu"])} | {f"theta[{j}]": float(v) for j, v in enumerate(found["theta"].to_numpy())}
        columns[group] = each
    frame = pd.DataFrame(columns)
    moved, informed = frame["prior"] >= 0.05, frame["likelihood"] >= 0.05
    frame["diagnosis"] = "not sensitive to the prior"
    frame.loc[moved & informed, "diagnosis"] = "prior-data conflict"
    frame.loc[moved & ~informed, "diagnosis"] = "strong prior or weak likelihood"
    return frame


def _of_posterior(name: str, tree: xr.DataTree) -> Evidence:
    ranks = np.random.default_rng(8).integers(0, 100, (9, 200))
    names = ["mu", *(f"theta[{j}]" for j in range(8))]
    about = {"max_rhat": 1.04, "min_ess": 96.0, "divergences": 0}
    manifest = {key: MANIFEST[key] for key in ("versions", "machine", "status", "seed", "device")} | {
        "kind": "posterior"
    }
    return Evidence(
        name,
        manifest | {"command": ["ppmodels", "mcmc", "groups"], "seconds": 14.8},
        recipe='name = "groups"\n\n[sampler]\nname = "nuts"\nchains = 4\n',
        posterior=tree,
        diagnosis=diagnose(tree),
        predictive=ppc(tree),
        sensitivity=sensitivity(tree),
        calibration=Calibration(dict(zip(names, ranks, strict=True)), 99, seconds=31.0, about=about),
    )


def all_well_posterior() -> Evidence:
    """A posterior without a fault."""
    return _of_posterior("groups", posterior())


def unconverged_chains() -> Evidence:
    """Chains that move so slowly that a thousand draws are worth a few."""
    return _of_posterior("unconverged-chains", posterior(rho=0.97))


def prior_posterior_conflict() -> Evidence:
    """The prior has mu near 0, with a standard deviation of 0.5, and the data have it at 2.5."""
    return _of_posterior("prior-posterior-conflict", posterior(prior_sd=0.5, truth=2.5))


RUNS: Mapping[str, Callable[[], Evidence]] = {
    run.__name__: run
    for run in (
        all_well,
        all_well_posterior,
        bad_guide,
        collapsed_clusters,
        overfitting,
        prior_posterior_conflict,
        too_small_k,
        unconverged_chains,
    )
}
"""All of them by name."""
