"""What a run of a directed model is asked: log p(x) with its errors, use of the latents, samples, reconstructions."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor

from inference.assignments import assign
from inference.clusters import ClusterScores, cluster_scores
from inference.diagnostics import Collapse, find_collapse
from inference.likelihood import log_likelihood
from inference.pair import Pair
from inference.seeds import seeded
from ppmodels.data import Dataset
from ppmodels.sticks import stick_weights

from .opening import FittedRun
from .show import to_json

__all__ = ["evaluate_pair", "reconstruct", "sample", "stick_shares"]


def evaluate_pair(
    fitted: FittedRun, *, split: str = "test", num_particles: int | None = None, num_data: int | None = None
) -> dict[str, Any]:
    """Estimate log p(x), judge the guide, count active units; writes `evaluation.json` and `per_datum.csv`."""
    table, start = fitted.pair_recipe.evaluation, time.monotonic()
    data = fitted.data(split, num_data)
    pair = (fitted.model, fitted.guide)
    found = log_likelihood(
        *pair,
        data,
        num_particles=table.num_particles if num_particles is None else num_particles,
        batch_size=table.batch_size,
        seed=table.seed,
        mode=table.mode,
    )
    collapse = _collapse(fitted, data.head(500))
    units = collapse.units
    clusters = _clusters(fitted, data) if "y" in collapse.components and data.labels is not None else None
    result = {
        "run": str(fitted.run.folder),
        "recipe": fitted.recipe.name,
        "step": fitted.step,
        "data": fitted.describe(data),
        "num_particles": found.num_particles,
        "log_likelihood": {"value": found.mean, "se": found.mean_se, "mc_se": found.mean_mc_se},
        "khat": {"median": float(found.khat.median()), "share_too_high": found.unreliable},
        "ess": {"median": float(found.ess.median()), "least": float(found.ess.min())},
        "active_units": {k: {"active": units.count[k], "of": v.numel()} for k, v in units.variance.items()},
        "components": {k: str(usage) for k, usage in collapse.components.items()},
        "clusters": clusters and clusters.to_frame().set_index("score")["value"].to_dict(),
        "findings": list(collapse.findings()),
        "seconds": round(time.monotonic() - start, 3),
    }
    fitted.run.write("per_datum.csv", found.to_frame().to_csv(index_label="datum"))
    fitted.run.write("evaluation.json", to_json(result) + "\n")
    return result


def _collapse(fitted: FittedRun, data: Dataset) -> Collapse:
    """Which components and units the guide makes use of."""
    table = fitted.pair_recipe.evaluation
    how: Any = {"batch_size": table.batch_size, "seed": table.seed}
    return find_collapse(fitted.model, fitted.guide, data, shares=stick_shares(fitted), **how)


def stick_shares(fitted: FittedRun) -> dict[str, Callable[[Tensor], Tensor]]:
    """The latent sites that are sticks once broken, as `find_collapse` takes them."""
    of = fitted.pair_recipe.model
    has_sticks = of.name in ("sbvae", "dlgmm") or getattr(of, "sticks", None) is not None
    return {"logit_v": stick_weights} if has_sticks else {}


def _clusters(fitted: FittedRun, data: Dataset) -> ClusterScores:
    """How well clusters are classes, on the split that was asked for, training data or not."""
    table = fitted.pair_recipe.evaluation
    r = assign(fitted.model, fitted.guide, data, batch_size=table.batch_size, seed=table.seed)
    return cluster_scores(r, data, on_training_labels=True)


def sample(fitted: FittedRun, n: int, *, seed: int = 0) -> Tensor:
    """Means of the data given `n` draws of the latents from the model, `(n, x_dim)`."""
    if n < 1:
        raise ValueError(f"`n` must be at least 1, got {n}")
    with seeded(seed, fitted.device), Pair(fitted.model, fitted.guide).mode(training=False), torch.no_grad():
        trace = poutine.trace(fitted.model).get_trace(n=n)
    return _mean_of_data(trace)


def reconstruct(fitted: FittedRun, x: Tensor, *, seed: int = 0) -> Tensor:
    """Means of the data given one draw of the latents from the guide for each of `x`, `(n, x_dim)`."""
    pair = Pair(fitted.model, fitted.guide)
    with seeded(seed, fitted.device), pair.mode(training=False), torch.no_grad():
        _, trace = pair.traces(x)
    return _mean_of_data(trace)


def _mean_of_data(trace: Trace) -> Tensor:
    likelihood: Any = trace.nodes["x"]["fn"]
    return cast(Tensor, likelihood.mean)
