"""`sample`: a posterior of any Pyro program with continuous latents, as a tree for ArviZ."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from inference.density import Batched, FlatDensity
from inference.diagnostics.datatree import assemble, constrained, reader_of
from inference.graph import GraphWarning, Mode
from inference.mcmc.draws import Draws
from inference.mcmc.metric import MetricName
from inference.mcmc.nutpie import run_nutpie
from inference.mcmc.nuts import run_nuts
from inference.mcmc.run_chees import run_chees
from inference.mcmc.settings import Settings
from inference.seeds import seeded, stream

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Backend", "sample"]

Backend: TypeAlias = Literal["auto", "chees", "nuts", "nutpie"]


def sample(
    model: Callable[..., Any],
    *args: Any,
    model_kwargs: Mapping[str, Any] | None = None,
    backend: Backend = "auto",
    num_chains: int | None = None,
    num_samples: int = 500,
    num_warmup: int = 500,
    seed: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float64,
    mode: Mode = "auto",
    metric: MetricName = "auto",
    target_acceptance: float | None = None,
    max_leapfrogs: int | None = None,
    init: Mapping[str, Tensor] | None = None,
    checkpoint: Path | str | None = None,
    checkpoint_every: int = 100,
    progress: bool | None = None,
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Any] | None = None,
    log_likelihood: bool = True,
    predictive: bool = True,
) -> xr.DataTree:
    r"""Draw from the posterior of a program's latents given what it observes.

    Chains are rows of one tensor: with `chees`, every leapfrog of every chain is one run of a compiled graph.

    Args:
        model: any Pyro callable with continuous latents; discrete ones of finite support are summed out.
        args: what it is called with.
        model_kwargs: what it is called with by name.
        backend: "chees", many chains that adapt together; "nuts", Pyro's No-U-Turn sampler, chain after chain, the
            reference; "nutpie", the same by another library, if installed; "auto", `chees` where the program can be
            mapped over, else `nuts`.
        num_chains: 64 for `chees`, 4 for the others.
        num_samples: draws of each chain that are kept.
        num_warmup: transitions before them, in which step, length and metric adapt.
        seed: seeds starts, transitions and predictions; the caller's random state is left as it is.
        device: where to compute; where the data are by default.
        dtype: of the chains; data that are floats are cast to it.
        mode: how the density is run, see `inference.graph`; what was used is noted in the tree.
        metric: "diag", "dense", or "auto": dense up to 200 dimensions, given half as many chains.
        target_acceptance: what the step adapts to; 0.651 for `chees`, the harmonic mean over chains, and 0.8 for the
            others.
        max_leapfrogs: the most in one trajectory: 512 for `chees`, 1,023 for the others.
        init: values to begin at, by site, one for all chains or one for each.
        checkpoint: a folder to save to, and to go on from with the same bits; for `chees`.
        checkpoint_every: transitions between two saves.
        progress: show a bar; by default where there is a terminal.
        dims: names of a site's axes, in the place of those of its plates.
        coords: labels along an axis, by its name.
        log_likelihood: keep every datum's, which LOO needs.
        predictive: draw data from the posterior and from the prior, too.

    Returns:
        A tree of the groups named in `inference.diagnostics.datatree`. Its attributes say what was run (`backend`,
        `mode`, `seed`, `device`, `versions`) and what it cost (`seconds_build`, `seconds_warmup`,
        `seconds_sampling`, `gradient_calls`, `restarts`). Interrupted, it holds what was drawn, and is marked
        `partial`.

    Warns:
        GraphWarning: if a mode cannot be had, or the program cannot be mapped over.

    Raises:
        ValueError: naming the site, if the density would be wrong or is nowhere finite; see `FlatDensity.of`.
        KeyboardInterrupt: if interrupted before the first draw.

    >>> import pyro, pyro.distributions as dist
    >>> def coin(tosses):
    ...     fairness = pyro.sample("fairness", dist.Beta(10.0, 10.0))
    ...     with pyro.plate("toss", len(tosses)):
    ...         pyro.sample("heads", dist.Bernoulli(fairness), obs=tosses)
    >>> tree = sample(coin, torch.tensor([1.0] * 6 + [0.0] * 4), num_chains=16, num_samples=200, num_warmup=200)
    >>> bool(abs(tree["posterior"]["fairness"].mean() - 16 / 30) < 0.01)
    True
    >>> tree["log_likelihood"]["heads"].dims
    ('chain', 'draw', 'toss')
    """
    if backend not in get_args(Backend):
        expected = ", ".join(f'"{name}"' for name in get_args(Backend))
        raise ValueError(f"`backend` is {backend!r}, expected one of {expected}")
    density = FlatDensity.of(model, *args, kwargs=model_kwargs, dtype=dtype, device=device)
    reader_of(density, dims, coords)  # mistakes in names are found before hours of draws
    batched = Batched(density)
    with seeded(stream(seed, "check"), density.device), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batched.check(torch.randn(2, density.dim, dtype=dtype, device=density.device), *density.data)
    chosen, reason = _choose(backend, batched, [str(w.message) for w in caught if w.category is GraphWarning])
    for warning in caught:
        if not (issubclass(warning.category, GraphWarning) and chosen == "nuts"):
            warnings.warn(warning.message, warning.category, stacklevel=2)
    settings = Settings(
        num_chains=num_chains if num_chains is not None else {"chees": 64}.get(chosen, 4),
        num_samples=num_samples,
        num_warmup=num_warmup,
        seed=seed,
        mode=mode,
        metric=metric,
        target_acceptance=target_acceptance,
        max_leapfrogs=max_leapfrogs if max_leapfrogs is not None else {"chees": 512}.get(chosen, 1023),
        init=init,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    draws = _run(chosen, batched, settings)
    values = constrained(density, draws.q, density.data)
    attrs = {
        "inference_method": "MCMC",
        "seed": seed,
        "device": str(density.device),
        "dtype": str(dtype).removeprefix("torch."),
        "num_warmup": num_warmup,
        "num_samples": num_samples,
        **draws.attrs,
        **({"backend_reason": reason} if reason else {}),
    }
    return assemble(
        density,
        values,
        density.data,
        attrs=attrs,
        stats=draws.stats,
        dims=dims,
        coords=coords,
        log_likelihood=log_likelihood,
        predictive=predictive,
        seed=stream(seed, "predictions"),
    )


def _choose(backend: Backend, batched: Batched, reasons: Sequence[str]) -> tuple[str, str | None]:
    """The sampler, and why it is not the one that `auto` would rather have."""
    if backend != "auto":
        return backend, None
    if batched.mapped:
        return "chees", None
    reason = reasons[0] if reasons else "the program cannot be mapped over"
    warnings.warn(f'backend "nuts" in the place of "chees": {reason}', GraphWarning, stacklevel=3)
    return "nuts", reason


def _run(backend: str, batched: Batched, settings: Settings) -> Draws:
    if backend == "chees":
        return run_chees(batched, batched.density.data, settings)
    if backend == "nuts":
        return run_nuts(batched, batched.density.data, settings)
    return run_nutpie(batched, batched.density.data, settings)
