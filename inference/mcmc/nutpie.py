"""nutpie's No-U-Turn sampler on a flat density: quick for few chains on a CPU; an optional library.

Its samplers call back for every gradient, one vector at a time; the metric is the diagonal one of least Fisher
divergence, adapted from the first draws on.

References:
    Seyboldt, Carlson and Carpenter, *Preconditioning Hamiltonian Monte Carlo by minimizing Fisher divergence*, 2026,
    arXiv 2603.18845.
"""

from __future__ import annotations

import itertools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from inference.density import Batched
from inference.flags import validating
from inference.mcmc.draws import Draws
from inference.mcmc.nuts import Gradient
from inference.mcmc.settings import Settings
from inference.mcmc.starting import start
from inference.seeds import seeded, stream

__all__ = ["run_nutpie"]

NAMES = {
    "lp": "logp",
    "energy": "energy",
    "acceptance_rate": "mean_tree_accept",
    "diverging": "diverging",
    "n_steps": "n_steps",
    "step_size": "step_size",
    "tree_depth": "depth",
}
"""What nutpie calls the statistics of a draw."""


def run_nutpie(batched: Batched, data: Sequence[Tensor], settings: Settings) -> Draws:
    """Draws of C chains, one after another.

    Raises:
        ImportError: if nutpie is not installed.
        ValueError: if a checkpoint is asked for, or chains on a GPU.
    """
    nutpie = _library()
    density = batched.density
    if settings.checkpoint is not None:
        raise ValueError('`checkpoint` is given, but backend "nutpie" saves nothing: use "chees" or "nuts"')
    if density.device.type != "cpu":
        raise ValueError(f'`device` is {density.device}, but backend "nutpie" runs on a CPU: use "chees"')
    gradient = Gradient(batched, data, settings)
    seed = stream(settings.seed, "nutpie")
    with seeded(seed), torch.no_grad(), validating(enabled=False):
        starts = start(batched, data, settings.num_chains, radius=2.0, init=settings.init)
        begun = time.perf_counter()
        gradient(starts[0])
        build = time.perf_counter() - begun
        places = itertools.cycle(starts.double().numpy())
        model = nutpie.compiled_pyfunc.from_pyfunc(
            ndim=density.dim,
            make_logp_fn=lambda: _callback(gradient, density.dtype),
            make_expand_fn=lambda *_: lambda q, **__: {"q": np.asarray(q, dtype=np.float64)},
            expanded_dtypes=[np.dtype("float64")],
            expanded_shapes=[(density.dim,)],
            expanded_names=["q"],
            make_initial_point_fn=lambda _: next(places).copy(),
        )
        begun = time.perf_counter()
        trace = nutpie.sample(
            model,
            draws=settings.num_samples,
            tune=settings.num_warmup,
            chains=settings.num_chains,
            cores=1,
            seed=seed % 2**32,
            save_warmup=False,
            progress_bar=bool(settings.progress),
            target_accept=settings.target_acceptance or 0.8,
            maxdepth=max(1, int(math.log2(settings.max_leapfrogs + 1))),
            low_rank_modified_mass_matrix=settings.metric == "dense",
        )
        seconds = time.perf_counter() - begun
    stats = trace["sample_stats"]
    return Draws(
        q=torch.as_tensor(trace["posterior"]["q"].to_numpy()).to(density.dtype),
        stats={name: torch.as_tensor(stats[theirs].to_numpy()) for name, theirs in NAMES.items() if theirs in stats},
        attrs={
            "backend": "nutpie",
            "metric": "low rank" if settings.metric == "dense" else "diag",
            "mode": gradient.mode,
            "seconds_build": build,
            "seconds_warmup": math.nan,  # nutpie tells the two together
            "seconds_sampling": seconds,
            "gradient_calls": gradient.calls,
            "restarts": 0,
        },
    )


def _library() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # an old ArviZ that it may bring speaks of its future
            import nutpie
            import nutpie.compiled_pyfunc
    except ImportError as error:
        raise ImportError(
            '`backend` is "nutpie", which is not installed: `pip install ppmodels[nutpie]`, or use "chees"'
        ) from error
    return nutpie


def _callback(gradient: Gradient, dtype: torch.dtype) -> Callable[..., tuple[float, Any]]:
    def log_p(q: Any) -> tuple[float, Any]:
        with torch.no_grad():  # called from a thread of its own
            value, grad = gradient(torch.as_tensor(np.asarray(q), dtype=dtype))
        return float(value), grad.double().numpy().copy()

    return log_p
