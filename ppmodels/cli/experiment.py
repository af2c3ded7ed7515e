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

from typing import Any

from . import outcomes
from .drawing import draws, write_samples
from .fitting import dataset, fit_recipe
from .opening import FittedRun, begun, open_run, parse_device, run_recipe
from .pairs import evaluate_pair, reconstruct, sample, stick_shares
from .show import to_json

__all__ = [
    "FittedRun",
    "begun",
    "dataset",
    "draws",
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


def evaluate(
    fitted: FittedRun,
    *,
    split: str = "test",
    num_particles: int | None = None,
    num_data: int | None = None,
    samples: bool = False,
) -> dict[str, Any]:
    """Judge a run by what its kind of model allows, and write it into the folder as `evaluation.json`.

    Args:
        fitted: the run.
        split: of the data.
        num_particles: K, draws per datum of a directed model; else the recipe's.
        num_data: the first of them, 0 for all; else the recipe's.
        samples: judge the draws of the model too, which is all there is of an implicit model.
    """
    if fitted.recipe.kind == "directed":
        found = evaluate_pair(fitted, split=split, num_particles=num_particles, num_data=num_data)
        return _with_samples(fitted, found, split, num_data) if samples else found
    if num_particles is not None:
        raise ValueError(
            f"`num_particles` is {num_particles}, but the model {fitted.recipe.model_name!r} has no guide: leave it out"
        )
    outcome = outcomes.evaluate_outcome(fitted, split=split, num_data=num_data, samples=samples)
    return outcomes.document(fitted, outcome)


def _with_samples(fitted: FittedRun, found: dict[str, Any], split: str, num_data: int | None) -> dict[str, Any]:
    """What was found of a pair, and what its draws say."""
    report, notes = outcomes.judge_draws(fitted, fitted.data(split, num_data))
    found |= {"samples": report.to_frame().to_dict("records"), "notes": [*report.parzen.notes(), *notes]}
    fitted.run.write("evaluation.json", to_json(found) + "\n")
    return found
