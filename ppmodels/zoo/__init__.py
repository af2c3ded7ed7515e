"""The models by name, and how a recipe becomes a model/guide pair.

A new family enters by a table in `ppmodels.recipes.models`, a builder in `families` and an `Entry` here.

>>> from ppmodels.data import digits
>>> from ppmodels.recipes import load_recipe
>>> model, guide = build(load_recipe("digits-vae"), digits())
>>> model(n=5).shape
torch.Size([5, 64])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ppmodels.data import Dataset
from ppmodels.labels import PartlyLabelled
from ppmodels.recipes import Recipe, nearest
from ppmodels.zoo import families
from ppmodels.zoo.parts import ModelAndGuide

__all__ = ["ZOO", "Entry", "ModelAndGuide", "build", "table"]


@dataclass(frozen=True)
class Entry:
    """A family of models.

    Attributes:
        paper: where it was proposed.
        status: how far it is: "ready", or what is missing.
        build: makes a pair of a recipe for a dataset, drawing its first parameters from torch's generator.
    """

    paper: str
    status: str
    build: Callable[[Recipe, Dataset], ModelAndGuide]


def build(recipe: Recipe, dataset: Dataset | PartlyLabelled) -> ModelAndGuide:
    """Make the pair of a recipe for a dataset, on the dataset's device.

    The first parameters depend on the recipe's seed alone; the caller's random state is left as it is.

    Args:
        recipe: what to build.
        dataset: the training data: their size, the bias of a Bernoulli's logits, and the inputs of a VampPrior.

    Raises:
        ValueError: if the model is not in the zoo, or its parts do not fit together.
        ImportError: if a flow is asked for without zuko.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(recipe.seed)
        plain = dataset.dataset if isinstance(dataset, PartlyLabelled) else dataset
        model, guide = entry(recipe.model.name).build(recipe, plain)
    device = dataset.values.device
    return ModelAndGuide(model.to(device), guide.to(device))


def entry(name: str) -> Entry:
    """The entry of that name."""
    if name not in ZOO:
        raise ValueError(f"`{name}` is not in the zoo; nearest is `{nearest(name, ZOO)}`")
    return ZOO[name]


def table() -> list[dict[str, str]]:
    """One row per model: its name, its paper, its status."""
    return [{"model": name, "paper": found.paper, "status": found.status} for name, found in ZOO.items()]


ZOO: Mapping[str, Entry] = {
    "vae": Entry("Kingma and Welling 2014, arXiv 1312.6114", "ready", families.vae),
    "sbvae": Entry("Nalisnick and Smyth 2017, arXiv 1605.06197", "ready", families.sbvae),
    "m2": Entry("Kingma, Rezende, Mohamed and Welling 2014, arXiv 1406.5298", "ready", families.m2),
    "gmvae": Entry("Shu 2016, ruishu.io/2016/12/25/gmvae", "ready", families.gmvae),
    "style_gmvae": Entry("Dilokthanakul et al. 2016, arXiv 1611.02648", "ready", families.style_gmvae),
    "vade": Entry("Jiang et al. 2017, arXiv 1611.05148", "ready", families.vade),
    "dlgmm": Entry("Nalisnick, Hertel and Smyth 2016, Bayesian Deep Learning workshop", "ready", families.dlgmm),
    "helmholtz": Entry("Bornschein and Bengio 2015, arXiv 1406.2751", "ready", families.helmholtz),
}
