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

import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from pyro import poutine
from pyro.poutine import Trace
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, ReduceLROnPlateau

from inference.bounds import CIWAE, ELBO, IWAE, MIWAE, PIWAE, TVO, Bound, Renyi, VRMax, parse_bound
from inference.diagnostics import active_units
from inference.estimators import parse_estimator
from inference.fit import Fitted, fit
from inference.likelihood import log_likelihood
from inference.objectives import Variational
from inference.optim import OptimizerFactory, ScheduleFactory, adam, burda_schedule
from inference.pair import Pair
from inference.runs import Run, RunError
from inference.seeds import seeded
from ppmodels.data import Dataset, load
from ppmodels.recipes import Recipe, load_recipe, schema
from ppmodels.zoo import build

from . import pictures
from .show import to_json

__all__ = [
    "FittedRun",
    "dataset",
    "evaluate",
    "fit_recipe",
    "open_run",
    "parse_device",
    "reconstruct",
    "run_recipe",
    "sample",
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


def dataset(table: schema.Data, split: str = "train", *, device: torch.device | str = "cpu") -> Dataset:
    """The data of a recipe: "train" (less what is held out), "valid" (held out), "test", or "all"."""
    if split == "valid" and not table.validation:
        raise ValueError("`split` is 'valid', but the recipe holds no data out: set `data.validation`")
    part = "train" if split == "valid" else split
    data = load(table.name, table.protocol, split=part, seed=table.seed, folder=table.folder, device=device)
    if part == "train" and table.validation:
        rest, held_out = data.hold_out(table.validation, seed=table.seed)
        return held_out if split == "valid" else rest
    return data


# -- fit -----------------------------------------------------------------------------------------------------


def fit_recipe(
    recipe: Recipe,
    out: str | Path | None = None,
    *,
    device: torch.device | str = "cpu",
    resume: bool = False,
    progress: bool | None = None,
) -> Fitted:
    """Fit the pair of a recipe to its data, into a run folder where one is named."""
    for text in recipe.evaluation.bounds:
        parse_bound(text)  # a wrong one is better known now than when all is fitted
    training = recipe.training
    data = dataset(recipe.data, device=device)
    model, guide = build(recipe, data)
    return fit(
        model,
        guide,
        data,
        _objective(recipe.bound),
        epochs=training.epochs,
        steps=training.steps,
        batch_size=training.batch_size,
        optimizer=_optimizer(training.optimizer, training.learning_rate),
        schedule=_schedule(training, len(data)),
        clip_norm=training.clip_norm,
        validation=dataset(recipe.data, "valid", device=device) if recipe.data.validation else None,
        patience=training.patience,
        seed=recipe.seed,
        out=out,
        recipe=recipe.to_dict(),
        resume=resume,
        mode=training.mode,
        report_every=training.report_every,
        checkpoint_seconds=training.checkpoint_seconds,
        progress=progress,
    )


def _objective(table: schema.Bound) -> Variational:
    estimator = parse_estimator(table.estimator)
    return Variational(_bound(table), table.num_particles, kl_warmup=table.kl_warmup, estimator=estimator)


def _bound(table: schema.Bound) -> Bound:
    match table:
        case schema.ELBO():
            return ELBO(table.kl)
        case schema.IWAE():
            return IWAE()
        case schema.Renyi():
            return Renyi(table.alpha)
        case schema.VRMax():
            return VRMax()
        case schema.MIWAE():
            return MIWAE(table.groups)
        case schema.PIWAE():
            return PIWAE(table.groups)
        case schema.CIWAE():
            return CIWAE(table.beta)
        case schema.TVO():
            return TVO(table.partitions)


def _optimizer(table: schema.Optimizer, lr: float) -> OptimizerFactory:
    match table:
        case schema.Adam():
            return adam(lr, betas=table.betas, eps=table.eps)
        case schema.AdamW():
            return partial(torch.optim.AdamW, lr=lr, betas=table.betas, weight_decay=table.weight_decay)
        case schema.Adamax():
            return partial(torch.optim.Adamax, lr=lr, betas=table.betas)
        case schema.SGD():
            return partial(torch.optim.SGD, lr=lr, momentum=table.momentum)


def _schedule(training: schema.Training, num_data: int) -> ScheduleFactory | None:
    epochs = training.epochs or math.ceil((training.steps or 1) / math.ceil(num_data / training.batch_size))
    schedules: dict[str, ScheduleFactory] = {
        "burda": burda_schedule(epochs),
        "cosine": partial(CosineAnnealingLR, T_max=epochs),
        "plateau": ReduceLROnPlateau,
    }
    return schedules.get(training.schedule)


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
    units = active_units(*pair, data.head(500), batch_size=table.batch_size, seed=table.seed)
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
        "seconds": round(time.monotonic() - start, 3),
    }
    fitted.run.write("per_datum.csv", found.to_frame().to_csv(index_label="datum"))
    fitted.run.write("evaluation.json", to_json(result) + "\n")
    return result


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
