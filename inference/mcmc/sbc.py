r"""`sbc`: is a sampler, or a guide, right about the posteriors of a program? Asked on data that the program makes.

Every data set and chain is a row of one tensor: hundreds of posteriors are sampled in one run, with one step, one
length and one metric for all.
"""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.annealing.mixing import rhat
from inference.density import Batched, FlatDensity, map_rows
from inference.diagnostics.calibration import Calibration
from inference.diagnostics.reading import Reader
from inference.dreaming import Place, filled, own, places_of
from inference.graph import GraphWarning, Mode
from inference.mcmc.metric import MetricName
from inference.mcmc.run_chees import run_chees
from inference.mcmc.settings import Settings
from inference.pair import Pair
from inference.particles import draw_latents, inspect_pair, run_guide
from inference.seeds import seeded, stream
from inference.simulate import simulate
from inference.sites import first_line, sample_sites
from ppmodels.contracts import Batch, Program

__all__ = ["sbc"]


def sbc(
    model: Callable[..., Any],
    *args: Any,
    model_kwargs: Mapping[str, Any] | None = None,
    guide: Program | None = None,
    num_datasets: int = 256,
    num_chains: int = 4,
    num_samples: int = 250,
    num_warmup: int = 300,
    num_draws: int = 100,
    alpha: float = 0.01,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
    mode: Mode = "auto",
    metric: MetricName = "auto",
    target_acceptance: float | None = None,
    progress: bool | None = None,
) -> Calibration:
    """Simulation-based calibration of `chees` on a program, or of a guide.

    Parameters are drawn from the prior and data given them, S times; chains on each data set give draws that the true
    parameters are ranked among. The log likelihood of the data is ranked too, where nothing is summed out: it notices
    a sampler that forgets the data. Ranks that are not uniform mean that sampler and program disagree.

    All data sets share a step, a length and a metric. Where they differ by orders of magnitude, as under priors with
    very heavy tails, no one step serves: chains then diverge or do not mix, and the verdict says so.

    With a guide, S data are drawn from the model, each with latents of its own, and these are ranked among draws of the
    guide; chains and their settings have no part in it.

    Args:
        model: any Pyro callable with proper priors, that observes its arguments or parts of them.
        args: what it is called with; what it observes is replaced by what it draws, everything else stays.
        model_kwargs: what it is called with by name.
        guide: a guide of that model, in the place of a sampler; latents stand in a plate over the data.
        num_datasets: S.
        num_chains: for each data set.
        num_samples: draws of each chain.
        num_warmup: transitions before them.
        num_draws: how many of a data set's draws to rank among, evenly spaced: few enough to be independent.
        alpha: false-alarm rate of the verdict.
        seed: seeds data and chains.
        device: see `sample`.
        dtype: see `sample`.
        mode: see `sample`.
        metric: see `sample`.
        target_acceptance: see `sample`.
        progress: see `sample`.

    Raises:
        ValueError: naming the site, if its draws cannot be put where it observes, or its prior is improper; or if the
            program cannot be mapped over.
    """
    begun = time.perf_counter()
    if num_datasets < 2:
        raise ValueError(f"`num_datasets` is {num_datasets}, expected at least 2")
    if guide is not None:
        batch: Batch = dict(model_kwargs) if model_kwargs else args[0] if len(args) == 1 else args
        ranks = _of_guide(Pair(model, guide), batch, num_datasets, num_draws, seed)
        return Calibration(ranks, num_draws, alpha, time.perf_counter() - begun)
    if not num_chains <= num_draws <= num_chains * num_samples:
        raise ValueError(
            f"`num_draws` is {num_draws}, expected from {num_chains}, one of each chain, to "
            f"{num_chains * num_samples}, all there are"
        )
    density = FlatDensity.of(model, *args, kwargs=model_kwargs, dtype=dtype, device=device)
    truth, data, dims = _simulated(density, num_datasets, stream(seed, "sbc data"))
    rows = [
        value if dim is None else value.repeat_interleave(num_chains, 0) for value, dim in zip(data, dims, strict=True)
    ]
    batched = Batched(density, dims)
    with seeded(stream(seed, "check"), density.device):
        q = torch.randn(2, density.dim, dtype=dtype, device=density.device)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GraphWarning)
            batched.check(q, *(value if dim is None else value[:2] for value, dim in zip(data, dims, strict=True)))
    if not batched.mapped:
        raise ValueError("`model` cannot be mapped over data sets: its control flow follows a latent; write it without")
    settings = Settings(
        num_chains=num_datasets * num_chains,
        num_samples=num_samples,
        num_warmup=num_warmup,
        seed=seed,
        mode=mode,
        metric=metric,
        target_acceptance=target_acceptance,
        progress=progress,
    )
    draws = run_chees(batched, rows, settings, restarting=False)  # another data set's place is no place to begin anew
    per_chain = num_draws // num_chains
    places = torch.linspace(num_samples / per_chain, num_samples, per_chain).long() - 1
    kept = draws.q[:, places].reshape(num_datasets, num_chains * per_chain, density.dim)
    of_set = torch.arange(num_datasets).repeat_interleave(kept.shape[1])
    found = _quantities(density, {"q": kept.flatten(0, 1)}, data, dims, of_set)
    about = {
        "max_rhat": float(rhat(draws.q.unflatten(0, (num_datasets, num_chains)).movedim(0, -1).flatten(2)).max()),
        "divergences": int(draws.stats["diverging"].sum()),
        "restarts": draws.attrs["restarts"],
        "mode": draws.attrs["mode"],
        "seconds_build": draws.attrs["seconds_build"],
    }
    return Calibration(_ranks(truth, found), num_chains * per_chain, alpha, time.perf_counter() - begun, about)


def _simulated(
    density: FlatDensity, num_datasets: int, seed: int
) -> tuple[dict[str, Tensor], list[Tensor], list[int | None]]:
    """True values `(S, ...)` by name, the program's data with S sets in the place of what it observes, and which."""
    data = own(density.data)
    assert isinstance(data, tuple)
    values = {name: density.sites()[name]["value"] for name in density.names}
    with torch.no_grad():
        places = places_of(sample_sites(density.trace(values, *data)), data)
    if not places:
        raise ValueError("`model` observes nothing: expected a site with `obs=x`; is its argument passed on to it?")
    try:
        drawn = Reader(density, {}).prior(num_datasets, data, seed)
    except NotImplementedError as error:
        improper = [n for n in density.names if type(density.sites()[n]["fn"]).__name__ == "ImproperUniform"]
        raise ValueError(f"site `{(improper or density.names)[0]}` cannot be drawn ({first_line(error)})") from error
    data = tuple(_wide(value, i, places, drawn, density.dtype) for i, value in enumerate(data))
    _check_places(density, places, data)
    sets: list[Any] = [filled(data, places, {n: drawn[n][s] for n in places}) for s in range(num_datasets)]
    keys = {place.key for place in places.values()}
    whole = [torch.stack([one[i] for one in sets]) if i in keys else value for i, value in enumerate(data)]
    dims = [0 if i in keys else None for i in range(len(data))]
    latents = {name: value for name, value in drawn.items() if name not in places}
    return _quantities(density, latents, whole, dims, torch.arange(num_datasets)), whole, dims


def _wide(
    value: Tensor, key: int, places: Mapping[str, Place], drawn: Mapping[str, Tensor], dtype: torch.dtype
) -> Tensor:
    """Data that were given as integers, as floats where draws are none."""
    of_it = [drawn[name] for name, place in places.items() if place.key == key]
    whole = all(bool((some == some.round()).all()) for some in of_it)
    return value if value.is_floating_point() or whole else value.to(dtype)


def _check_places(density: FlatDensity, places: Mapping[str, Place], data: tuple[Tensor, ...]) -> None:
    """Refuse data that are observed twice, and a program that reads what it observes."""
    for (a, one), (b, other) in itertools.combinations(places.items(), 2):
        if one.key == other.key and set(_elements(one, data)) & set(_elements(other, data)):
            raise ValueError(f"sites `{a}` and `{b}` observe the same data, which can be drawn for one of them only")
    with torch.no_grad(), seeded(0, density.device):
        drawn = sample_sites(density.trace({}, *data, observed=False))
        values = {name: site["value"] for name, site in drawn.items()}
        given: Any = filled(data, places, {name: values[name] for name in places})
        again = sample_sites(density.trace({n: v for n, v in values.items() if n not in places}, *given))
    for name, site in drawn.items():
        if not torch.allclose(site["log_prob_sum"], again[name]["log_prob_sum"], rtol=1e-4, atol=1e-4, equal_nan=True):
            raise ValueError(
                f"site `{name}` has another density once the simulated data are given to the model: it reads what it "
                "observes, and cannot be simulated by running it once"
            )


def _elements(place: Place, data: tuple[Tensor, ...]) -> list[int]:
    """The elements of an argument that a place is made of."""
    assert isinstance(place.key, int)
    numbers = torch.arange(data[place.key].numel())
    return torch.as_strided(numbers, place.size, place.stride, place.offset).flatten().tolist()


def _quantities(
    density: FlatDensity,
    rows: Mapping[str, Tensor],
    data: Sequence[Tensor],
    dims: Sequence[int | None],
    of_set: Tensor,
) -> dict[str, Tensor]:
    """What is ranked, of rows that give the latents by site, or as vectors in `q`; each belongs to a data set."""
    names = (*density.names, *density.found.deterministic)

    def of_row(row: dict[str, Tensor]) -> dict[str, Tensor]:
        mine = [value if dim is None else value[row["set"]] for value, dim in zip(data, dims, strict=True)]
        values = density.constrain(row["q"], *mine) if "q" in row else {name: row[name] for name in density.names}
        trace = density.trace(values, *mine)
        found: dict[str, Any] = {name: trace.nodes[name]["value"] for name in names}
        if not density.found.summed:
            parts: list[Any] = [trace.nodes[name]["log_prob_sum"] for name in density.found.observed]
            found["log_likelihood"] = torch.stack(parts).sum()
        return found

    return map_rows(density, of_row, {**rows, "set": of_set.to(density.device)})


def _of_guide(pair: Pair, like: Batch, num_data: int, num_draws: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    simulated = simulate(pair, like, num_data, seed=stream(seed, "sbc data"))
    device = next(iter(simulated.latents.values())).device
    with seeded(stream(seed, "guide"), device), pair.mode(training=False), torch.no_grad():
        layout = inspect_pair(pair, simulated.data).without_strata()
        found = draw_latents(pair, simulated.data, num_draws, layout)  # (K, n, *event)
        sites = sample_sites(run_guide(pair, simulated.data, 1, layout))
    truth = {}
    for name, value in found.items():
        drawn = simulated.latents[name]
        axis = drawn.dim() - sites[name]["fn"].event_dim + layout.data_dim
        truth[name] = drawn.movedim(axis, 0).reshape(value.shape[1:])
    return _ranks(truth, {name: value.movedim(0, 1).flatten(0, 1) for name, value in found.items()})


def _ranks(truth: Mapping[str, Tensor], draws: Mapping[str, Tensor]) -> dict[str, np.ndarray[Any, Any]]:
    """Ranks `(S,)` of each scalar among its L draws; ties are broken at random, what is constant is left out."""
    rng = np.random.default_rng(0)
    found = {}
    for name, value in truth.items():
        S = len(value)
        true = value.reshape(S, 1, -1).double()
        drawn = draws[name].reshape(S, -1, true.shape[-1]).double()
        below = (drawn < true).sum(1).cpu().numpy()  # (S, elements)
        ties = (drawn == true).sum(1).cpu().numpy()
        ranks = below + rng.integers(0, ties + 1)
        for j, index in enumerate(np.ndindex(*value.shape[1:])):
            if ties[:, j].min() < drawn.shape[1]:
                found[f"{name}[{', '.join(map(str, index))}]" if index else name] = ranks[:, j]
    return found
