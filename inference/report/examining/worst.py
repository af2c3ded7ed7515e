"""The posterior of the latents of those data that a guide does worst on, by MCMC, beside the guide's own draws."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inference.batches import TensorData
from inference.diagnostics import save_tree
from inference.mcmc import sample_latents
from inference.particles import draw_latents
from inference.report.examining.view import View
from ppmodels.contracts import Batch, Data, Program

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["examine_worst"]

GUIDE_DRAWS = 1000


def examine_worst(
    model: Program,
    guide: Program,
    data: Data | Batch,
    index: Sequence[int],
    *,
    num_chains: int = 16,
    num_samples: int = 1000,
    num_warmup: int = 200,
    seed: int = 0,
    out: Path | str | None = None,
    **how: Any,
) -> xr.DataTree:
    """Draw the latents of some data by `sample_latents`, and by the guide, under the numbers the data have.

    Args:
        model: any Pyro callable with continuous latents in a plate over the data.
        guide: any Pyro callable over the same latents.
        data: the data that were examined, under the same `seed`.
        index: which of them, such as `Examination.worst.index`.
        num_chains: of each datum.
        num_samples: draws of each chain.
        num_warmup: temperatures on the way to the posterior.
        seed: seeds the chains, and the data's own noise.
        out: a run folder to keep it in, as `worst.nc`, where `report` finds it.
        **how: the rest of what `sample_latents` takes.

    Returns:
        The tree of `sample_latents` with the numbers of the data for coordinates and, as JSON, in the attribute
        `examined`, and a group `guide`: draws of the same variables by the guide, as one chain.

    Raises:
        ValueError: naming the site, if a latent is discrete; see `sample_latents`.
    """
    import xarray as xr

    view = View.of(model, guide, data, seed)
    rows = TensorData(view.data.batch(torch.as_tensor(index, dtype=torch.long)))
    plate = str(view.layout.data)
    tree = sample_latents(
        model,
        guide,
        rows,
        num_chains=num_chains,
        num_samples=num_samples,
        num_warmup=num_warmup,
        seed=seed,
        coords={plate: [int(i) for i in index]},
        log_likelihood=False,
        **how,
    )
    with view.running("worst"):
        drawn = draw_latents(view.pair, rows.rows, GUIDE_DRAWS, view.layout)  # (S, n, *event)
    posterior = tree["posterior"].to_dataset()
    latents = [name for name in drawn if name in posterior]
    group = {
        name: (posterior[name].dims, drawn[name].detach().cpu().numpy()[None])
        for name in latents
        if drawn[name].dim() + 1 == posterior[name].ndim
    }
    coords = {dim: posterior[dim] for name in group for dim in posterior[name].dims[2:]}
    tree["guide"] = xr.DataTree(xr.Dataset(group, coords=coords))
    tree.attrs |= {"identified": json.dumps(latents), "examined": json.dumps([int(i) for i in index])}
    if out is not None:
        save_tree(tree, Path(out) / "worst.nc")
    return tree
