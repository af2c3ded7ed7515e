"""Posteriors put to work: recipes of them sampled, judged and kept, as functions that return what is printed.

A folder holds `recipe.toml` (resolved), `manifest.json`, `posterior.nc`, `diagnosis.json`, and `checkpoint/`, from
which an interrupted run goes on; where a pair had to be fitted first, its run is in `pair/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from inference.diagnostics import Diagnosis, diagnose, load_tree, save_tree
from inference.mcmc import sample, sample_latents
from inference.report.reading import identified
from inference.runs import Run, RunError
from ppmodels import studies
from ppmodels.programs import program
from ppmodels.recipes import RecipeError, load_recipe, recipe_names
from ppmodels.recipes.posterior import FittedPair, Posterior, load_posterior, posterior_names
from ppmodels.studies import Study

from . import experiment
from .show import to_json

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Sampled",
    "document",
    "is_posterior",
    "judge",
    "plan",
    "printed",
    "resume_posterior",
    "rows",
    "run_posterior",
    "study_of",
]

LATENTS = {"num_chains": 16, "num_samples": 1000, "num_warmup": 200}
"""How the latents of a run are sampled where nothing is said of it."""

TOP = 20
"""Parameters that are printed."""


@dataclass(frozen=True, eq=False)
class Sampled:
    """A posterior in its folder, and what is thought of it."""

    run: Run
    tree: xr.DataTree
    diagnosis: Diagnosis

    @property
    def partial(self) -> bool:
        """Whether it was interrupted, and holds what was drawn until then."""
        return bool(self.tree.attrs.get("partial", False))


# -- what is wanted ------------------------------------------------------------------------------------------


def plan(
    target: str, changes: Iterable[str] = (), *, seed: int | None = None, num_data: int | None = None
) -> Posterior:
    """The recipe that a command line asks for: one by name or file, or the latents of a run that was fitted.

    >>> plan("eight-schools", ["sampler.num_samples=50"], seed=3).sampler.seed
    3
    """
    overrides = [*changes, *([] if seed is None else [f"sampler.seed={seed}"])]
    if Path(target).is_dir():
        run = experiment.begun(Path(target))
        if is_posterior(run):
            raise RunError(f"`{target}` holds a posterior already: look at it with `ppmodels diagnose {target}`")
        pair = {"run": str(run.folder.resolve())}
        tables = {"name": f"{experiment.run_recipe(run).name}-latents", "pair": pair, "sampler": LATENTS}
        recipe = load_posterior(tables, overrides)
    elif target in recipe_names():
        raise RecipeError(
            f"`{target}` is a recipe of a fit, expected one of a posterior: the latents of a run of it can be sampled, "
            f"which `ppmodels fit {target}` writes"
        )
    else:
        recipe = load_posterior(target, overrides)
    if num_data is None:
        return recipe
    if recipe.pair is None:
        raise ValueError(
            f"`num_data` is {num_data}, but {recipe.name} has no latents of data: expected a run, or a pair"
        )
    return recipe.model_copy(update={"pair": recipe.pair.model_copy(update={"num_data": num_data})})


def is_posterior(run: Run) -> bool:
    """Whether a run is one of these, and not a fit."""
    return run.manifest.get("kind") == "posterior"


# -- what is done --------------------------------------------------------------------------------------------


def run_posterior(recipe: Posterior, folder: Path, *, device: torch.device) -> Sampled:
    """Sample the posterior of a recipe into a new folder.

    Raises:
        KeyboardInterrupt: if interrupted before the first draw; later, what was drawn is kept, and marked partial.
    """
    _check(recipe)
    manifest = {"kind": "posterior", "seed": recipe.sampler.seed, "device": str(device)}
    return _go_on(recipe, Run.create(folder, manifest=manifest, recipe=recipe.to_dict()), device)


def resume_posterior(run: Run, *, device: torch.device) -> Sampled:
    """Go on with a posterior to the end its recipe asks for; one that is there already is read."""
    recipe, path = load_posterior(run.folder / "recipe.toml"), run.folder / "posterior.nc"
    if run.manifest["status"] == "finished" and path.exists():
        tree = load_tree(path)
        return Sampled(run, tree, diagnose(tree, var_names=identified(tree)))
    return _go_on(recipe, run, device)


def _go_on(recipe: Posterior, run: Run, device: torch.device) -> Sampled:
    if recipe.pair is not None:
        tree = _sample_latents(recipe.pair, recipe, run.folder, device)
    else:
        tree = _sample_program(recipe, run, device)
    diagnosis = diagnose(tree, var_names=identified(tree))
    save_tree(tree, run.folder / "posterior.nc")
    run.write("diagnosis.json", to_json(diagnosis.to_dict()) + "\n")
    sampled = Sampled(run, tree, diagnosis)
    costs = {name: tree.attrs[name] for name in ("backend", "mode", "seconds_sampling") if name in tree.attrs}
    run.update(status="interrupted" if sampled.partial else "finished", passed=diagnosis.passed, **costs)
    return sampled


def _sample_program(recipe: Posterior, run: Run, device: torch.device) -> xr.DataTree:
    assert recipe.program is not None
    found, data, sampler = program(recipe.program.name), study_of(recipe).to(device), recipe.sampler
    run.update(data=data.describe())
    tree = sample(
        found.call,
        model_kwargs={**data.values, **recipe.program.model_dump(exclude={"name"})},
        **sampler.model_dump(),
        device=device,
        checkpoint=None if sampler.backend == "nutpie" else run.folder / "checkpoint",
        dims=data.dims,
        coords=data.coords,
    )
    if found.identified is not None:
        tree.attrs["identified"] = json.dumps([name for name in found.identified if name in tree["posterior"]])
    return tree


def _sample_latents(pair: FittedPair, recipe: Posterior, folder: Path, device: torch.device) -> xr.DataTree:
    if pair.recipe is not None:
        inside = folder / "pair"
        begun = (inside / "manifest.json").exists()
        experiment.fit_recipe(load_recipe(pair.recipe, pair.changes), inside, device=device, resume=begun)
    fitted = experiment.open_run(folder / "pair" if pair.run is None else pair.run, device=device)
    data = fitted.data(pair.split, pair.num_data)
    Run(folder).update(data=fitted.describe(data))
    given = recipe.sampler.model_dump(exclude={"backend", "metric"}, exclude_none=True)
    given |= {
        "checkpoint": folder / "checkpoint",
        "log_likelihood": False,
    }  # a datum left out leaves its latents the prior
    return sample_latents(fitted.model, fitted.guide, data, **given)


def study_of(recipe: Posterior) -> Study:
    """The data of a recipe of a program."""
    assert recipe.data is not None
    study: Study = getattr(studies, recipe.data.name)(**recipe.data.model_dump(exclude={"name"}))
    return study


def _check(recipe: Posterior) -> None:
    """What is wrong with it is better known before there is a folder."""
    if recipe.sampler.backend == "nutpie" and not find_spec("nutpie"):
        raise ImportError("`sampler.backend` is 'nutpie', which is not installed: `pip install nutpie`, or use 'chees'")
    if recipe.pair is None:
        study_of(recipe)
    elif recipe.pair.recipe is not None:
        load_recipe(recipe.pair.recipe, recipe.pair.changes)
    elif recipe.pair.run is not None:
        experiment.run_recipe(Run(recipe.pair.run))


# -- what is thought of it -----------------------------------------------------------------------------------


def judge(path: Path, *, var_names: Sequence[str] | None = None, **thresholds: float | None) -> Diagnosis:
    """The verdict on a posterior in a file or a folder; on what is identified, where it says so and no more."""
    if path.is_dir() and path.suffix != ".zarr":
        path, folder = path / "posterior.nc", path
        if not path.exists():
            raise ValueError(f"`path` {folder} has no posterior.nc, expected a folder that `ppmodels mcmc` wrote")
    tree = load_tree(path)
    return diagnose(tree, var_names=var_names or identified(tree), **thresholds)


def printed(sampled: Sampled) -> str:
    """The verdict, the first parameters, and where everything is."""
    table = sampled.diagnosis.parameters
    columns = [name for name in ("mean", "sd", "mcse_mean", "ess_bulk", "ess_tail", "r_hat") if name in table]
    rows = table[columns].head(TOP).to_string(float_format="{:.4g}".format)
    more = len(table) - TOP
    rest = f"\n... and {more} more in {sampled.run.folder / 'diagnosis.json'}" if more > 0 else ""
    only = identified(sampled.tree)
    of = f" (judged by what is identified: {', '.join(only)})" if only else ""
    return f"{sampled.diagnosis}\n\n{rows}{rest}\n\n{sampled.run.folder / 'posterior.nc'}{of}"


def document(sampled: Sampled) -> dict[str, Any]:
    """Everything, for a script."""
    told = {str(name): value for name, value in sampled.tree.attrs.items()}
    about = {name: value for name, value in told.items() if name in ("backend", "mode") or name.startswith("seconds")}
    where = {"run": str(sampled.run.folder), "posterior": str(sampled.run.folder / "posterior.nc")}
    return {**where, "partial": sampled.partial, **about, "diagnosis": sampled.diagnosis.to_dict()}


def rows() -> list[dict[str, Any]]:
    """One row per recipe of a posterior."""
    found = []
    for recipe in map(load_posterior, posterior_names()):
        of = recipe.program.name if recipe.program is not None else f"latents of {recipe.pair and recipe.pair.recipe}"
        data = recipe.data.name if recipe.data is not None else (recipe.pair and recipe.pair.split)
        found.append({"posterior": recipe.name, "of": of, "data": data, "paper": recipe.paper})
    return found
