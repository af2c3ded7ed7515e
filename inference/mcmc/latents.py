"""`sample_latents`: the posterior of the latents of every datum, under a pair that has been fitted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from inference.annealing.chains import Chains
from inference.annealing.running import How, Run
from inference.annealing.target import Target
from inference.batches import TensorData, as_data, read_once
from inference.density import FlatDensity
from inference.diagnostics.datatree import assemble, reader_of
from inference.evaluation import inspect_for_evaluation
from inference.graph import Mode
from inference.journal import State
from inference.latents import Placing
from inference.pair import Pair
from inference.particles import run_particles
from inference.schedule import Annealing
from inference.seeds import stream
from inference.sites import Site, plates_of, sample_sites
from ppmodels.contracts import Batch, Data, Program

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["sample_latents"]

STATS = ("acceptance_rate", "energy", "diverging")


def sample_latents(
    model: Program,
    guide: Program,
    data: Data | Batch,
    *,
    num_chains: int = 16,
    num_samples: int = 500,
    num_warmup: int = 200,
    num_leapfrogs: int = 10,
    target_acceptance: float = 0.8,
    seed: int = 0,
    mode: Mode = "auto",
    batch_size: int | None = None,
    checkpoint: Path | str | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
    log_likelihood: bool = True,
    predictive: bool = False,
) -> xr.DataTree:
    """Draw from every datum's posterior of its latents, the parameters of the pair staying as they are.

    Chains of all data move at once. Each begins at a draw of the guide and is annealed to the posterior while the steps
    of its datum adapt; a datum's chains share a step, and each of its latents is scaled by its spread under the guide.
    R-hat is a matter of each datum: the variables keep the data's axis, and `diagnose` reports the worst of them.

    Args:
        model: any Pyro callable with continuous latents in a plate over the data.
        guide: any Pyro callable over the same latents.
        data: a dataset, or a tensor, tuple or mapping of tensors; each datum is read once.
        num_chains: of each datum.
        num_samples: draws of each chain.
        num_warmup: temperatures on the way to the posterior, where steps adapt; a quarter as many transitions follow
            there before draws are kept.
        num_leapfrogs: the most in one trajectory, whose number of them is drawn from 1 to this.
        target_acceptance: the mean chance of acceptance that a datum's step adapts to.
        seed: seeds the chains, and the data's own noise.
        mode: how the programs are run, see `inference.graph`.
        batch_size: data at a time, at most; by default as many as fit.
        checkpoint: a folder to save to, and to go on from with the same bits.
        checkpoint_seconds: least time between two saves.
        progress: show a bar; by default where there is a terminal.
        dims: see `inference.mcmc.sample`.
        coords: see `inference.mcmc.sample`.
        log_likelihood: see `inference.mcmc.sample`.
        predictive: draw data from the posterior and the prior; chains times draws times data of them.

    Raises:
        ValueError: naming the site, if a latent is discrete, or outside the plate over the data; see
            `inference.annealing.target.Target.of`.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(torch.zeros_like(x), 1.0))
    >>> tree = sample_latents(model, guide, torch.tensor([0.0, 2.0]), num_chains=8, num_samples=200)
    >>> bool((tree["posterior"]["z"].mean(["chain", "draw"]) - [0.0, 1.0] < 0.15).all())
    True
    """
    begun = time.perf_counter()
    for name, count in (("num_samples", num_samples), ("num_warmup", num_warmup)):
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f"`{name}` is {count!r}, expected a whole number, at least 1")
    pair, read = Pair(model, guide), read_once(as_data(data), seed)
    assert isinstance(read, TensorData)
    annealing = Annealing(
        num_chains=num_chains,
        num_leapfrogs=num_leapfrogs,
        num_pilot=num_warmup,
        num_warmup=max(1, num_warmup // 4),
        target_acceptance=target_acceptance,
    )
    how: How = {"seed": seed, "mode": mode, "progress": progress, "checkpoint_seconds": checkpoint_seconds}
    how["batch_size"] = batch_size
    how["checkpoint"] = None if checkpoint is None else Path(checkpoint)
    transitions = annealing.num_pilot + annealing.num_warmup + num_samples
    modes: set[str] = set()

    def work(chains: Sequence[Chains], index: Tensor) -> State:
        parts = [some.draws(*some.pilot(), num_samples, keep_latents=True) for some in chains]
        kinetics = chains[0].kinetics
        modes.update(kinetics.graph.modes.values())
        whole = {name: torch.cat([part[name] for part in parts])[:num_chains] for name in parts[0]}
        values = _values(kinetics.target, chains[0].batch, whole["z"])
        lp = whole["log_p"] + whole["log_det"]  # as chains see it, on the unconstrained scale
        return {"lp": lp, **{name: whole[name] for name in STATS}, **values}  # names of sites begin with a blank

    extra = {"draws": num_samples, "latents": True}
    run = Run(pair, read, annealing, "posterior", transitions, extra, how)
    data_name = inspect_for_evaluation(pair, read.batch(torch.arange(run.rows) % len(read))).data
    assert data_name is not None
    batch = read.batch(torch.arange(len(read)))
    args, kwargs = (
        ((), dict(batch)) if isinstance(batch, Mapping) else (batch if isinstance(batch, tuple) else (batch,), {})
    )
    if dims or coords:  # mistakes in names are found before hours of draws
        with pair.mode(training=False):
            reader_of(FlatDensity.of(model, *args, kwargs=kwargs, dtype=_dtype(batch)), dims, coords)
    found: list[State] = []
    with closing(run.results(work)) as results:
        found.extend(results)
    joined = {name: torch.cat([part[name] for part in found], -1) for name in found[0] if name != "seconds"}
    stats = {name: joined.pop(name) for name in ("lp", *STATS)}
    stats["diverging"] = stats["diverging"].bool()
    with pair.mode(training=False):
        density = FlatDensity.of(model, *args, kwargs=kwargs, dtype=stats["lp"].dtype)
        values = {name: _in_shape(joined[f" {name}"], density.sites()[name], data_name) for name in density.names}
        return assemble(
            density,
            values,
            density.data,
            attrs={
                "inference_method": "MCMC",
                "backend": "hmc",
                "mode": " and ".join(sorted(modes)) or "eager",
                "seed": seed,
                "device": str(density.device),
                "num_warmup": num_warmup,
                "num_samples": num_samples,
                "restarts": 0,
                "seconds_sampling": time.perf_counter() - begun,
            },
            stats={name: (("chain", "draw", data_name), value) for name, value in stats.items()},
            dims=dims,
            coords=coords,
            log_likelihood=log_likelihood,
            predictive=predictive,
            seed=stream(seed, "predictions"),
        )


def _values(target: Target, batch: Batch, z: Tensor) -> State:
    """The values of the latent sites of draws `(C, S, D, n)`, the data's axis last."""
    C, S = z.shape[:2]
    rows = z.flatten(0, 1).movedim(-1, 1)  # (C * S, n, D)
    parts: dict[str, list[Tensor]] = {name: [] for name in target.space.places}
    for some in rows.split(max(2, S)):
        base = Placing(target.space, some)(target.base)
        trace, _ = run_particles(Pair(target.pair.model, base), batch, len(some), target.layout)
        sites = sample_sites(trace)
        for name, place in target.space.places.items():
            value = sites[name]["value"]
            event = value.shape[value.dim() - sites[name]["fn"].event_dim :]
            value = value.reshape(
                len(some), *place.batch[: place.data_axis], rows.shape[1], *place.batch[place.data_axis + 1 :], *event
            )
            parts[name].append(value.movedim(1 + place.data_axis, -1))
    return {f" {name}": torch.cat(values).unflatten(0, (C, S)) for name, values in parts.items()}


def _dtype(batch: Batch) -> torch.dtype:
    """Of the first floats among the data."""
    parts = [batch] if isinstance(batch, Tensor) else batch.values() if isinstance(batch, Mapping) else batch
    floats = (part.dtype for part in parts if isinstance(part, Tensor) and part.is_floating_point())
    return next(floats, torch.get_default_dtype())


def _in_shape(value: Tensor, site: Site, data_name: str) -> Tensor:
    """From `(C, S, ..., n)` to the shape of the site."""
    axis = next(plate.dim for plate in plates_of(site) if plate.name == data_name) - site["fn"].event_dim
    return value.movedim(-1, value.dim() + axis)
