"""`to_datatree`: trees from samplers of others and from guides, in the form that `inference.mcmc.sample` gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from pyro.infer import MCMC
from torch import Tensor

from inference.density import FlatDensity
from inference.diagnostics.datatree import assemble
from inference.diagnostics.khat import pareto_khat
from inference.draws import default_chunk
from inference.flags import validating
from inference.pair import Pair, first_tensor
from inference.particles import inspect_pair, run_guide, run_particles
from inference.seeds import seeded, stream
from inference.sites import sample_sites
from inference.weights import weigh_traces
from ppmodels.contracts import Batch, Program

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["to_datatree"]


def to_datatree(
    source: MCMC | Program,
    guide: Program | None = None,
    x: Batch | None = None,
    *,
    num_samples: int = 1000,
    num_particles: int | None = None,
    seed: int = 0,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
    log_likelihood: bool = True,
    predictive: bool = True,
) -> xr.DataTree:
    r"""Draws of others as a tree for ArviZ: of a run of Pyro's MCMC, or of a guide.

    A guide's draws are marked `inference_method="VI"`. With `num_particles`, as many are drawn of each datum's latents
    and :math:`S` of them kept, with the probabilities :math:`w_k / \sum_j w_j` of importance resampling: marked "IS".
    Either way `sample_stats` has the k-hat of the weights, which says whether they can be believed: of every datum
    where the latents stand in a plate over the data, else of all latents together.

    Args:
        source: a `pyro.infer.MCMC` that has run, or a model.
        guide: of that model; a Pyro callable, an auto guide too.
        x: what model and guide are called with: a tensor, a tuple or a mapping.
        num_samples: draws S of the guide; those of MCMC are all kept.
        num_particles: draws of each datum to resample from.
        seed: seeds the draws.
        dims: see `inference.mcmc.sample`.
        coords: see `inference.mcmc.sample`.
        log_likelihood: see `inference.mcmc.sample`.
        predictive: see `inference.mcmc.sample`.

    Raises:
        ValueError: if there is nothing to read draws off, or naming the site, as `inspect_pair` does.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(0.0, 1.0))
    ...         pyro.sample("x", dist.Normal(z, 1.0), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.8))
    >>> tree = to_datatree(model, guide, torch.tensor([0.0, 2.0]), num_particles=4000)
    >>> tree["posterior"]["z"].sizes, tree.attrs["inference_method"]
    (Frozen({'chain': 1, 'draw': 1000, 'data': 2}), 'IS')
    >>> bool((tree["sample_stats"]["khat"] < 0.7).all())
    True
    """
    how: dict[str, Any] = {"dims": dims, "coords": coords, "log_likelihood": log_likelihood, "predictive": predictive}
    if isinstance(source, MCMC):
        if guide is not None or x is not None:
            raise ValueError("`guide` and `x` are given with a run of MCMC, which knows its model and its data")
        return _of_mcmc(source, seed, how)
    if guide is None or x is None:
        missing = "guide" if guide is None else "x"
        raise ValueError(
            f"`{missing}` is missing: expected a `pyro.infer.MCMC` that has run, or a model, its guide and data"
        )
    for name, count in (("num_samples", num_samples), ("num_particles", num_particles)):
        if count is not None and count < 1:
            raise ValueError(f"`{name}` is {count}, expected at least 1")
    return _of_guide(Pair(source, guide), x, num_samples, num_particles, seed, how)


def _of_mcmc(mcmc: MCMC, seed: int, how: Mapping[str, Any]) -> xr.DataTree:
    kernel, run = mcmc.kernel, cast("Any", mcmc)
    if getattr(mcmc, "_samples", None) is None:
        raise ValueError("`source` has no draws: call its `run` first")
    if kernel.model is None:
        raise ValueError(
            "`source` was run on a potential function, which names no sites: expected a kernel made with a model"
        )
    values = {name: value.detach() for name, value in run.get_samples(group_by_chain=True).items()}
    dtype = next(value.dtype for value in values.values() if value.is_floating_point())
    density = FlatDensity.of(kernel.model, *run._args, kwargs=run._kwargs, dtype=dtype)
    if missing := [name for name in density.names if name not in values]:
        raise ValueError(f"`source` has no draws of site `{missing[0]}`: run it without `save_params`")
    C, N = next(iter(values.values())).shape[:2]
    diverging = torch.zeros(C, N, dtype=torch.bool)
    for chain, found in enumerate(run._diagnostics):  # `diagnostics()` fails on fewer than four draws
        diverging[chain, list((found or {}).get("divergences", ()))] = True
    attrs = {
        "inference_method": "MCMC",
        "backend": f"pyro {type(kernel).__name__}",
        "num_warmup": run.warmup_steps,
        "num_samples": N,
    }
    return assemble(
        density, values, density.data, attrs=attrs, stats={"diverging": diverging}, seed=stream(seed, "tree"), **how
    )


def _of_guide(
    pair: Pair, x: Batch, num_samples: int, num_particles: int | None, seed: int, how: Mapping[str, Any]
) -> xr.DataTree:
    args, kwargs = ((), dict(x)) if isinstance(x, Mapping) else (x if isinstance(x, tuple) else (x,), {})
    K = num_particles or num_samples
    drawn = _draw(pair, x, K, seed)
    values = drawn.values
    if num_particles is not None:
        with seeded(stream(seed, "resampling"), drawn.log_w.device):
            shares = drawn.log_w.softmax(0).T.contiguous()  # (n, K)
            index = torch.multinomial(shares, num_samples, replacement=True).T  # (S, n)
        values = {name: _pick(value, index, drawn.axes[name]) for name, value in values.items()}
    dtype = next((v.dtype for v in values.values() if v.is_floating_point()), torch.get_default_dtype())
    with pair.mode(training=False):
        density = FlatDensity.of(pair.model, *args, kwargs=kwargs, dtype=dtype)
        khat = pareto_khat(drawn.log_w)  # (n,)
        attrs = {
            "inference_method": "VI" if num_particles is None else "IS",
            "backend": getattr(pair.guide, "__name__", type(pair.guide).__name__),
            "seed": seed,
            "num_samples": num_samples,
            "num_particles": K,
        }
        stats = {"khat": ((), khat[0]) if drawn.data is None else ((drawn.data,), khat)}
        kept = {name: value.unsqueeze(0) for name, value in values.items() if name in density.names}
        return assemble(density, kept, density.data, attrs=attrs, stats=stats, seed=stream(seed, "tree"), **how)


class _Drawn(NamedTuple):
    """Particles of a guide: values `(K, ...)` by site, log weights `(K, n)`, the data's axis of each and its name."""

    values: dict[str, Tensor]
    log_w: Tensor
    axes: dict[str, int | None]
    data: str | None


def _draw(pair: Pair, x: Batch, K: int, seed: int) -> _Drawn:
    with seeded(stream(seed, "guide"), first_tensor(x).device), pair.mode(training=False), torch.no_grad():
        try:
            layout = inspect_pair(pair, x)
        except ValueError:  # some latent is of no single datum
            layout = inspect_pair(pair, x, joint=True)
        layout = layout.without_strata()
        alone = sample_sites(run_guide(pair, x, 1, layout))
        most = default_chunk(x) if layout.vectorized else 1
        values: dict[str, list[Tensor]] = {name: [] for name in layout.latents}
        log_w = []
        with validating(enabled=False):
            for k in range(0, K, most):
                size = min(most, K - k)
                traces = run_particles(pair, x, size, layout)
                log_w.append(weigh_traces(*traces, size, layout, frozenset(), keep_scale=False).log_w)
                sites = sample_sites(traces[0])
                for name, parts in values.items():
                    parts.append(sites[name]["value"].reshape(size, *alone[name]["value"].shape))
    axes: dict[str, int | None] = dict.fromkeys(values)
    if layout.data is not None:
        axes = {n: 1 + alone[n]["value"].dim() - alone[n]["fn"].event_dim + layout.data_dim for n in values}
    return _Drawn({n: torch.cat(parts) for n, parts in values.items()}, torch.cat(log_w), axes, layout.data)


def _pick(value: Tensor, index: Tensor, axis: int | None) -> Tensor:
    """The draws at `index`, `(S, n)`, each datum its own."""
    if axis is None:
        return value[index[:, 0]]
    by_datum = value.movedim(axis, 1)  # (K, n, ...)
    return by_datum[index, torch.arange(index.shape[1], device=index.device)].movedim(1, axis)
