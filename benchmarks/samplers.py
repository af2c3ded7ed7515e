"""Samplers as workloads: our `chees` and `sbc`, and Pyro's own NUTS; `peer_blackjax` has the others.

Call i of each is a whole run under seed i, which writes its draws and what they cost to `i.npz` in a folder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import MCMC, NUTS, Predictive
from torch import Tensor
from torch.distributions import biject_to

from benchmarks.ours import no_other_mode
from benchmarks.posteriors import Posterior, eight_schools, load
from benchmarks.workload import Workload
from inference.graph import Mode
from inference.mcmc import sample, sbc


def chees(name: str, out: str, *, mode: Mode, chains: int = 64, warmup: int = 500, draws: int = 500) -> Workload:
    """Our `sample`; a unit is a transition of all chains."""
    no_other_mode()
    posterior = load(name)

    def call(i: int) -> None:
        begun = time.perf_counter()
        tree = sample(
            posterior.model,
            *posterior.args,
            backend="chees",
            num_chains=chains,
            num_warmup=warmup,
            num_samples=draws,
            seed=i,
            mode=mode,
            log_likelihood=False,
            predictive=False,
            progress=False,
        )
        seconds = tree.attrs["seconds_warmup"] + tree.attrs["seconds_sampling"]
        drawn = {site: tree["posterior"][site].values for site in posterior.labels}
        divergences = int(tree["sample_stats"]["diverging"].sum())
        record(out, i, drawn, seconds, time.perf_counter() - begun - seconds, divergences)

    return Workload(call, units=warmup + draws)


class TimedNUTS(NUTS):
    """Knows the seconds of its setup, where the program is inspected and, with `jit_compile`, traced."""

    seconds = 0.0

    def setup(self, warmup_steps: int, *args: Any, **kwargs: Any) -> None:
        begun = time.perf_counter()
        super().setup(warmup_steps, *args, **kwargs)  # type: ignore[no-untyped-call]
        self.seconds = time.perf_counter() - begun


def uniform_start(site: Mapping[str, Any]) -> Tensor:
    """Pyro's `init_to_uniform` without the draw it takes the shape from, which an improper prior has not."""
    bijection = biject_to(site["fn"].support)
    start: Tensor = bijection(torch.empty(bijection.inverse_shape(site["fn"].shape())).uniform_(-2, 2))
    return start


def pyro_nuts(name: str, out: str, *, jit: bool, chains: int = 2, warmup: int = 300, draws: int = 300) -> Workload:
    """Pyro's `MCMC` as it comes, one chain after the other; call 0 is a short one."""
    torch.set_default_dtype(torch.float64)
    posterior = load(name)

    def chain(seed: int, warmup: int, draws: int) -> tuple[MCMC, float, float]:
        pyro.set_rng_seed(seed)
        kernel = TimedNUTS(  # type: ignore[no-untyped-call]
            posterior.model,
            jit_compile=jit,
            ignore_jit_warnings=True,
            max_plate_nesting=1,
            init_strategy=uniform_start,
        )
        mcmc = MCMC(kernel, num_samples=draws, warmup_steps=warmup, disable_progbar=True)
        begun = time.perf_counter()
        mcmc.run(*posterior.args)
        return mcmc, time.perf_counter() - begun - kernel.seconds, kernel.seconds

    def call(i: int) -> None:
        sizes = (warmup, draws) if i else (10, 10)
        runs, seconds, builds = zip(*(chain(chains * i + c, *sizes) for c in range(chains)), strict=True)
        each = [with_computed(posterior, run.get_samples()) for run in runs]
        drawn = {site: np.stack([one[site].numpy() for one in each]) for site in posterior.labels}
        divergences = sum(len(run.diagnostics()["divergences"]["chain 0"]) for run in runs)
        record(out, i, drawn, sum(seconds), sum(builds), divergences)

    return Workload(call, units=warmup + draws)


def with_computed(posterior: Posterior, samples: dict[str, Tensor]) -> dict[str, Tensor]:
    """Samples with the sites that the program computes of them, which `MCMC` leaves out."""
    missing = [site for site in posterior.labels if site not in samples]
    if not missing:
        return samples
    computed = Predictive(posterior.model, samples, return_sites=missing)(*posterior.args)
    return samples | {site: computed[site] for site in missing}


def calibration(out: str, *, datasets: int) -> Workload:
    """Our `sbc` on eight schools; tau is half normal, as a Cauchy's tail makes data that nobody has. No draws."""
    no_other_mode()
    sigma, y = load("eight_schools").args
    model = partial(eight_schools, tau_prior=dist.HalfNormal)

    def call(i: int) -> None:
        found = sbc(model, sigma, y, num_datasets=datasets, num_chains=4, num_samples=250, num_warmup=300, seed=i)
        record(out, i, {}, found.seconds, found.seconds, 0)

    return Workload(call, units=datasets)


def record(out: str, call: int, drawn: Mapping[str, Any], seconds: float, build: float, divergences: int) -> None:
    """Draws `(chain, draw, ...)` by site and what they cost, as `peer_blackjax` writes them too."""
    costs: dict[str, Any] = {"seconds": seconds, "build": build, "divergences": divergences}
    np.savez(Path(out) / f"{call}.npz", **costs, **drawn)
