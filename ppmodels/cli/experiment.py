"""Recipes put to work: what the commands do, as functions that return what the commands print.

>>> import tempfile
>>> from ppmodels.recipes import load_recipe
>>> recipe = load_recipe("digits-vae", {"training.steps": 2, "model.hidden": [8], "model.z_dim": 2})
>>> with tempfile.TemporaryDirectory() as folder:
...     steps = fit_recipe(recipe, folder).steps
...     fitted = open_run(folder)
>>> steps, sample(fitted, n=3).shape
(2, torch.Size([3, 64]))
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn

from inference.assignments import assign
from inference.clusters import ClusterScores, cluster_scores
from inference.diagnostics import Collapse, find_collapse
from inference.likelihood import log_likelihood
from inference.pair import Pair
from inference.runs import Run, RunError
from inference.seeds import seeded
from ppmodels.data import Dataset
from ppmodels.recipes import Recipe, load_recipe
from ppmodels.sticks import stick_weights
from ppmodels.zoo import build

from . import pictures
from .fitting import dataset, fit_recipe
from .show import to_json

__all__ = [
    "FittedRun",
    "begun",
    "dataset",
    "evaluate",
    "fit_recipe",
    "open_run",
    "parse_device",
    "reconstruct",
    "run_recipe",
    "sample",
    "stick_shares",
    "write_samples",
]


def parse_device(text: str) -> torch.device:
    """Read `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:1`; refuse what is not there."""
    gpus = torch.cuda.device_count()
    kind, _, index = text.partition(":")
    if text == "auto":
        return torch.device("cuda" if gpus else "cpu")
    if text == "cpu" or (kind == "cuda" and (index.isdecimal() or text == "cuda")):
        if kind == "cuda" and int(index or 0) >= gpus:
            raise ValueError(f"`device` is {text}, but {gpus} CUDA devices are found here: use cpu, or auto")
        return torch.device(text)
    raise ValueError(f"`device` must be auto, cpu, cuda or cuda:INDEX, got {text!r}")


# -- what a run says -----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class FittedRun:
    """A run folder opened: its recipe, and its pair with the parameters of the best or last checkpoint."""

    run: Run
    recipe: Recipe
    model: nn.Module
    guide: nn.Module
    step: int
    device: torch.device

    def data(self, split: str = "test", num_data: int | None = None) -> Dataset:
        """The first data of a split, dynamic ones drawn once, so that all runs are judged on the same."""
        table = self.recipe.evaluation
        n = table.num_data if num_data is None else num_data
        data = dataset(self.recipe.data, split, device=self.device)
        return (data.head(n) if n else data).realise(table.seed)

    def describe(self, data: Dataset) -> dict[str, Any]:
        """What data a number was computed on, under the recipe's protocol."""
        return data.describe() | {"protocol": self.recipe.data.protocol}


def begun(folder: Path) -> Run:
    """The run in a folder; one that was stopped before it came to its bound is found by its pretraining."""
    before = folder / "pretraining"
    return Run(before if not (folder / "manifest.json").exists() and before.is_dir() else folder)


def run_recipe(run: Run) -> Recipe:
    """The recipe a run was begun with."""
    path = run.folder / "recipe.toml"
    if not path.is_file():
        raise RunError(f"`{run.folder}` has no recipe.toml: expected a run that was begun by a recipe")
    return load_recipe(path)


def open_run(folder: str | Path, *, device: torch.device | str = "cpu") -> FittedRun:
    """Build the pair of a run again and give it the parameters that training left."""
    run = Run(folder)
    recipe, checkpoint = run_recipe(run), run.result()
    data = dataset(recipe.data, device=device)
    model, guide = build(recipe, data)
    Pair(model, guide).load(checkpoint.parameters, data.batch(torch.arange(1)))
    return FittedRun(run, recipe, model, guide, checkpoint.step, torch.device(device))


def evaluate(
    fitted: FittedRun, *, split: str = "test", num_particles: int | None = None, num_data: int | None = None
) -> dict[str, Any]:
    """Estimate log p(x), judge the guide, count active units; writes `evaluation.json` and `per_datum.csv`."""
    table, start = fitted.recipe.evaluation, time.monotonic()
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
    table = fitted.recipe.evaluation
    how: Any = {"batch_size": table.batch_size, "seed": table.seed}
    return find_collapse(fitted.model, fitted.guide, data, shares=stick_shares(fitted), **how)


def stick_shares(fitted: FittedRun) -> dict[str, Callable[[Tensor], Tensor]]:
    """The latent sites that are sticks once broken, as `find_collapse` takes them."""
    of = fitted.recipe.model
    has_sticks = of.name in ("sbvae", "dlgmm") or getattr(of, "sticks", None) is not None
    return {"logit_v": stick_weights} if has_sticks else {}


def _clusters(fitted: FittedRun, data: Dataset) -> ClusterScores:
    """How well clusters are classes, on the split that was asked for, training data or not."""
    table = fitted.recipe.evaluation
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


def write_samples(fitted: FittedRun, n: int, out: Path | None = None, *, seed: int = 0) -> dict[str, Path]:
    """Write samples, and test data over their reconstructions: pictures, or a .csv of numbers; say where."""
    data = fitted.data("test", n)
    is_image = len(data.shape) == 2
    folder, suffix = fitted.run.folder, ".png" if is_image else ".csv"
    path = folder / f"samples{suffix}" if out is None else out
    beside = folder / f"reconstructions{suffix}" if out is None else out.with_stem(f"{out.stem}-reconstructions")
    if not is_image and path.suffix != ".csv":
        raise ValueError(f"`out` must end in .csv for data of shape {data.shape}, which are no images, got {path}")
    x, drawn = data.all(), sample(fitted, n, seed=seed)
    means = reconstruct(fitted, x, seed=seed)
    if path.suffix == ".csv":
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(drawn.cpu().numpy()).to_csv(path, index=False)
        pd.DataFrame(means.cpu().numpy()).to_csv(beside, index=False)
    else:
        title = f"{fitted.recipe.name}, step {fitted.step}"
        pictures.save(pictures.grid(drawn, data.shape, title=f"{title}: samples"), path)
        pictures.save(pictures.reconstructions(x, means, data.shape, title=f"{title}: data, reconstructions"), beside)
    return {"samples": path, "reconstructions": beside}


def _mean_of_data(trace: Trace) -> Tensor:
    likelihood: Any = trace.nodes["x"]["fn"]
    return cast(Tensor, likelihood.mean)
