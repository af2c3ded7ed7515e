"""Run folders opened: the model of a recipe again, with the parameters that training left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from inference.pair import Pair, no_guide
from inference.runs import Run, RunError
from ppmodels.data import Dataset
from ppmodels.recipes import Recipe, load_recipe
from ppmodels.recipes.schema import PairRecipe
from ppmodels.zoo import build

from .fitting import dataset

__all__ = ["FittedRun", "begun", "open_run", "parse_device", "run_recipe"]


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


@dataclass(frozen=True, eq=False)
class FittedRun:
    """A run folder opened: its recipe, and its model with the parameters of the best or last checkpoint.

    Attributes:
        run: the folder.
        recipe: what it was begun with.
        model: with what was learned.
        partner: its guide, the discriminator of a game, or nothing.
        step: of the training.
        device: where it is.
    """

    run: Run
    recipe: Recipe
    model: nn.Module
    partner: nn.Module | None
    step: int
    device: torch.device

    @property
    def pair_recipe(self) -> PairRecipe:
        """The recipe of a directed model; others have no guide, and nothing that needs one."""
        if not isinstance(self.recipe, PairRecipe):
            raise RunError(
                f"`{self.run.folder}` is a run of {self.recipe.model_name!r}, which has no guide and so no such bounds "
                f"or posterior: judge it by `ppmodels evaluate {self.run.folder}`"
            )
        return self.recipe

    @property
    def guide(self) -> nn.Module:
        """The guide of a directed model; others are refused by name."""
        recipe, guide = self.pair_recipe, self.partner
        if guide is None:
            raise RunError(f"`{self.run.folder}` has a recipe of {recipe.model_name!r} without a guide: fit it again")
        return guide

    def data(self, split: str = "test", num_data: int | None = None) -> Dataset:
        """The first data of a split, dynamic ones drawn once, so that all runs are judged on the same."""
        table = self.recipe.judging
        n = table.num_data if num_data is None else num_data
        data = dataset(self.recipe.data, split, device=self.device, kind=self.recipe.kind)
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
    """Build the model of a run again and give it the parameters that training left."""
    run = Run(folder)
    recipe, checkpoint = run_recipe(run), run.result()
    data = dataset(recipe.data, device=device, kind=recipe.kind)
    model, partner = build(recipe, data)
    pair = Pair(model, partner or no_guide, modules_only=recipe.kind != "directed")
    pair.load(checkpoint.parameters, data.batch(torch.arange(1)))
    return FittedRun(run, recipe, model, partner, checkpoint.step, torch.device(device))
