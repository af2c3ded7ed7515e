"""What a run of a model without a guide is asked: both sides of log p, the bound of a chain, what its draws say."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from inference.diffusion_bound import DiffusionBound, diffusion_bound
from inference.energies import energy_likelihood
from inference.partition import REACH, LogZ, annealed_log_z, exact_log_z, smallest_side
from inference.report.outcome import Outcome, load_outcome, save_outcome
from inference.samples import SampleReport, judge_samples
from ppmodels.data import Dataset
from ppmodels.rbm import RBM
from ppmodels.recipes import schema
from ppmodels.units import BernoulliUnits, GaussianUnits

from .drawing import drawn_of, draws
from .opening import FittedRun
from .show import to_json

__all__ = ["document", "evaluate_outcome", "judge_draws", "log_z_of"]

SHOWN = 64
"""Samples in a report."""

MOST_ENERGIES = 1000
"""Data and draws whose free energies are kept."""


def evaluate_outcome(
    fitted: FittedRun, *, split: str = "test", num_data: int | None = None, samples: bool = False
) -> Outcome:
    """Judge a model without a guide by what its kind allows; writes `outcome.nc` and `evaluation.json`.

    Args:
        fitted: the run.
        split: of the data.
        num_data: the first of them, 0 for all; else the recipe's.
        samples: judge its draws too, which is all there is of an implicit model.
    """
    begun, data = time.monotonic(), fitted.data(split, num_data)
    found = Outcome(fitted.recipe.kind, fitted.describe(data), fitted.step)
    if isinstance(fitted.recipe, schema.EnergyRecipe):
        found = _energy(fitted, found, data)
    elif isinstance(fitted.recipe, schema.TransitionRecipe):
        found = _transition(fitted, found, data)
    if samples or fitted.recipe.kind == "implicit":
        found = _judged(found, *judge_draws(fitted, data))
    else:
        found = _with_kept(fitted, found)
    seed = fitted.recipe.judging.seed
    found = replace(found, drawn=drawn_of(fitted, data, SHOWN, seed=seed), seconds=time.monotonic() - begun)
    save_outcome(found, fitted.run.folder)
    fitted.run.update(examined=fitted.step)
    fitted.run.write("evaluation.json", to_json(document(fitted, found)) + "\n")
    return found


def document(fitted: FittedRun, found: Outcome) -> dict[str, Any]:
    """All numbers, for a script."""
    tables = {name: getattr(found, name) for name in ("likelihood", "train", "samples", "labels")}
    return {
        "run": str(fitted.run.folder),
        "recipe": fitted.recipe.name,
        "kind": found.kind,
        "step": found.step,
        "data": dict(found.data),
        "null": found.null,
        **{name: None if table is None else table.to_dict("records") for name, table in tables.items()},
        "notes": list(found.notes),
        "seconds": round(found.seconds, 3),
    }


# -- energies ------------------------------------------------------------------------------------------------


def _energy(fitted: FittedRun, found: Outcome, data: Dataset) -> Outcome:
    """log p from both sides, of as many training data too, and the free energies of single ones and of draws."""
    model: Any = fitted.model
    log_z, train = log_z_of(fitted), fitted.data("train", len(data))
    few = min(MOST_ENERGIES, len(data), len(train))
    sets = {"train": train.head(few).all(), "test": data.head(few).all()}
    sets["samples"] = draws(fitted, few, seed=fitted.recipe.judging.seed)
    with torch.no_grad():
        energies = pd.concat(
            pd.DataFrame({"set": name, "free_energy": model.free_energy(x).double().cpu().numpy()})
            for name, x in sets.items()
        )
    held_out, known = (energy_likelihood(model, one, log_z).to_frame() for one in (data, train))
    return replace(
        found, likelihood=held_out, train=known, energies=energies.reset_index(drop=True), notes=(str(log_z),)
    )


def log_z_of(fitted: FittedRun) -> LogZ:
    """Exactly where a layer is small enough; else annealed from units fitted to the data's means, and back.

    Chains come back from the forward chains' ends and from data, which find different modes; the higher end stands.
    """
    recipe = fitted.recipe
    assert isinstance(recipe, schema.EnergyRecipe)
    table, model = recipe.evaluation, fitted.model
    bits, _ = smallest_side(model)  # type: ignore[arg-type]  # the zoo's energy models are
    if bits <= table.most_bits:
        return exact_log_z(model, most_bits=table.most_bits)  # type: ignore[arg-type]
    how: Any = {"num_temperatures": table.num_temperatures, "num_chains": table.num_chains}
    how |= {"sweeps": table.sweeps, "seed": table.seed}
    path: Any = model
    if not isinstance(model, RBM):
        return annealed_log_z(path, **how)
    x = fitted.data("train", 0).all()
    path = model.path(_units_of(model, x))
    return annealed_log_z(path, also_from=x[: table.num_chains], **how)


def _units_of(model: RBM, x: Tensor) -> BernoulliUnits | GaussianUnits:
    """Independent units with the means of the data, and for real numbers as wide as they are."""
    mean = x.mean(0)
    if isinstance(model.visible_units, GaussianUnits):
        return GaussianUnits(x.shape[1], loc=mean, scale=float(x.std(0).mean().clamp_min(1e-3))).to(x.device)
    return BernoulliUnits(x.shape[1], logits=mean.clamp(0.001, 0.999).logit()).to(x.device)


# -- chains --------------------------------------------------------------------------------------------------


def _transition(fitted: FittedRun, found: Outcome, data: Dataset) -> Outcome:
    """The bound of held-out data and of as many that were learned from, and what each step takes of it."""
    recipe = fitted.recipe
    assert isinstance(recipe, schema.TransitionRecipe)
    table = recipe.evaluation
    how: Any = {"num_draws": table.num_draws, "batch_size": table.batch_size, "seed": table.seed}
    held_out = diffusion_bound(fitted.model, data, **how)
    known = diffusion_bound(fitted.model, fitted.data("train", len(data)), **how)
    levels, null = recipe.model.levels, float(held_out.null.mean())
    if levels:  # each as likely as the next, and not a density
        null = -data.x_dim * math.log(levels)
    return replace(found, likelihood=_of_bound(held_out), train=_of_bound(known), per_step=held_out.per_step, null=null)


def _of_bound(found: DiffusionBound) -> pd.DataFrame:
    """One row, as those of an energy's likelihood; the draws' error is in that over data, and not known of one draw."""
    error = found.monte_carlo_error
    reach = 0.0 if math.isnan(error) else REACH * error
    row = {"bound": "K", "direction": "lower", "value": found.mean, "se": found.standard_error, "mc_se": error}
    return pd.DataFrame([row | {"low": found.mean - reach, "high": found.mean + reach}])


# -- draws ---------------------------------------------------------------------------------------------------


def judge_draws(fitted: FittedRun, data: Dataset) -> tuple[SampleReport, tuple[str, ...]]:
    """What draws alone say of a model of any kind, and notes on how.

    Widths of windows are chosen on the data that were held out of training; where none were, on one half of the data.

    Raises:
        ValueError: if the data are those that were learned from, or too few.
    """
    if data.split == "train" or len(data) < 4:
        got = "those that were learned from" if data.split == "train" else f"{len(data)} of them"
        raise ValueError(f"draws are judged by held-out data, at least 4, got {got}: see `split` and `num_data`")
    table, half = fitted.recipe.judging, len(data) // 2
    notes: tuple[str, ...] = ()
    if fitted.recipe.data.validation and data.split != "valid":
        validation, test = fitted.data("valid", 0), data
    else:
        validation, test = data.head(half), data.subset(torch.arange(half, len(data)))
        notes = (f"no other data were held out: windows were chosen on {half} of these data, and judged on the rest",)
    train = fitted.data("train", 0)
    found = judge_samples(
        draws(fitted, table.num_samples, seed=table.seed),
        train=train.all(),
        validation=validation.all(),
        test=test.all(),
        labels=train.labels,
        seed=table.seed,
    )
    return found, notes


def _judged(found: Outcome, report: SampleReport, notes: tuple[str, ...]) -> Outcome:
    labels = None if report.labels is None else report.labels.to_histogram()
    told = (*found.notes, *report.parzen.notes(), *notes)
    return replace(found, samples=report.to_frame(), labels=labels, notes=told)


def _with_kept(fitted: FittedRun, found: Outcome) -> Outcome:
    """What was said of draws of the same parameters beside the same data, if anything was."""
    if not (fitted.run.folder / "outcome.nc").exists():
        return found
    try:
        kept = load_outcome(fitted.run.folder)
    except (ValueError, OSError):  # damaged, and about to be written anew
        return found
    if kept.samples is None or kept.step != found.step or kept.data.get("sha256") != found.data["sha256"]:
        return found
    beside = tuple(note for note in kept.notes if not note.startswith("log Z"))
    return replace(found, samples=kept.samples, labels=kept.labels, notes=(*found.notes, *beside))
