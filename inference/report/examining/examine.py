"""`examine`: run a pair on held-out data, and keep what a report shows of it."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference.batches import TensorData, as_data, read_once
from inference.diagnostics import active_units
from inference.graph import Mode
from inference.likelihood import FewParticlesWarning, log_likelihood
from inference.report.examination import Examination
from inference.report.examining.components import components_of
from inference.report.examining.latent_use import latent_uses
from inference.report.examining.picturing import pictures_of, worst_of
from inference.report.examining.view import View
from inference.report.keeping import save_examination
from inference.truth import without_labels
from ppmodels.contracts import Batch, Data, Program

__all__ = ["examine"]


def examine(
    model: Program,
    guide: Program,
    data: Data | Batch,
    *,
    train: Data | Batch | None = None,
    num_particles: int = 1000,
    num_worst: int = 10,
    shares: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    batch_size: int = 100,
    seed: int = 0,
    mode: Mode = "auto",
    out: Path | str | None = None,
    progress: bool | None = None,
) -> Examination:
    """Look at a pair on held-out data: log p(x) and k-hat of each, latents, clusters, pictures, and its worst data.

    What cannot be had of a pair (the mean of data whose law knows none) is named in `missing`, and the rest is there.

    Args:
        model: any Pyro callable.
        guide: any Pyro callable over the same latent sites.
        data: data that were not learned from; a dataset that knows `labels` and `shape` is judged by the one and
            pictured in the other.
        train: data that were, to see how much better it is on them: as many are read as there are in `data`.
        num_particles: K, draws per datum for log p(x) and k-hat.
        num_worst: data of highest k-hat to picture.
        shares: latent sites that are shares of components once a function is applied to their draws, see
            `find_collapse`.
        batch_size: data at a time.
        seed: seeds the draws.
        mode: how the programs are run, see `inference.graph`.
        out: a run folder to keep it in, as `examination.nc`, where `report` finds it.
        progress: show a bar; by default where there is a terminal.

    >>> import pyro, pyro.distributions as dist
    >>> def model(x):
    ...     with pyro.plate("data", len(x)):
    ...         z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    ...         pyro.sample("x", dist.Normal(z, 1.0).to_event(1), obs=x)
    >>> def guide(x):
    ...     with pyro.plate("data", len(x)):
    ...         pyro.sample("z", dist.Normal(x / 2, 0.5**0.5).to_event(1))
    >>> found = examine(model, guide, 2**0.5 * torch.randn(300, 2), num_particles=100)
    >>> bool(found.per_datum["khat"].max() < 0.1), found.latents[0].active
    (True, 2)
    """
    begun = time.monotonic()
    view = View.of(model, guide, data, seed)
    how: dict[str, Any] = {"num_particles": num_particles, "batch_size": batch_size, "seed": seed}
    how |= {"mode": mode, "progress": progress}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewParticlesWarning)  # the report says it of each datum
        per_datum = log_likelihood(model, guide, view.data, **how).to_frame()
        learned = None if train is None else log_likelihood(model, guide, _first(train, len(per_datum), seed), **how)
    few = {"num_particles": 100, "batch_size": batch_size, "seed": seed}
    units = active_units(model, guide, view.data, **few)
    found = Examination(
        per_datum=per_datum,
        num_particles=num_particles,
        data=view.described,
        train=None if learned is None else learned.to_frame(),
        latents=tuple(latent_uses(view, units)),
        components=tuple(components_of(view, shares or {}, batch_size)),
    )
    try:
        pictures, worst = pictures_of(view), worst_of(view, per_datum["khat"].to_numpy(), num_worst)
        found = replace(found, pictures=pictures, worst=worst)
    except (ValueError, RuntimeError, LookupError) as error:  # NotImplementedError is a RuntimeError
        found = replace(found, missing={"pictures": str(error) or type(error).__name__})
    found = replace(found, seconds=time.monotonic() - begun)
    if out is not None:
        save_examination(found, Path(out))
    return found


def _first(data: Data | Batch, n: int, seed: int) -> TensorData:
    """The first n of the data that were learned from, each read once."""
    read = read_once(without_labels(as_data(data)), seed)
    return TensorData(read.batch(torch.arange(min(n, len(read)))))
