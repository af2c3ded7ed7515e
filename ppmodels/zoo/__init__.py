"""The models by name, and how a recipe becomes what `fit` takes.

A new family enters by a table in `ppmodels.recipes`, a builder in `families` or `kinds`, and an `Entry` here.

>>> from ppmodels.data import digits
>>> from ppmodels.recipes import load_recipe
>>> model, guide = build(load_recipe("digits-vae"), digits())
>>> model(n=5).shape
torch.Size([5, 64])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ppmodels.data import Dataset
from ppmodels.labels import PartlyLabelled
from ppmodels.recipes import Recipe, nearest
from ppmodels.recipes.schema import Kind
from ppmodels.zoo import families, kinds
from ppmodels.zoo.parts import ModelAndGuide

__all__ = ["ZOO", "Entry", "ModelAndGuide", "build", "table"]


@dataclass(frozen=True)
class Entry:
    """A family of models.

    Attributes:
        paper: where it was proposed.
        kind: which of the four kinds of `ppmodels.contracts` it is.
        build: makes what `fit` takes of a recipe of this kind for a dataset, drawing its first parameters from torch's
            generator.
        status: how far it is: "ready", or what is missing.
    """

    paper: str
    kind: Kind
    build: Callable[[Any, Dataset], ModelAndGuide]
    status: str = "ready"


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
        model, guide = entry(recipe.model_name).build(recipe, plain)
    device = dataset.values.device
    return ModelAndGuide(model.to(device), None if guide is None else guide.to(device))


def entry(name: str) -> Entry:
    """The entry of that name."""
    if name not in ZOO:
        raise ValueError(f"`{name}` is not in the zoo; nearest is `{nearest(name, ZOO)}`")
    return ZOO[name]


def table() -> list[dict[str, str]]:
    """One row per model: its name, its kind, its paper, its status."""
    return [
        {"model": name, "kind": found.kind, "paper": found.paper, "status": found.status} for name, found in ZOO.items()
    ]


ZOO: Mapping[str, Entry] = {
    "vae": Entry("Kingma and Welling 2014, arXiv 1312.6114", "directed", families.vae),
    "sbvae": Entry("Nalisnick and Smyth 2017, arXiv 1605.06197", "directed", families.sbvae),
    "m2": Entry("Kingma, Rezende, Mohamed and Welling 2014, arXiv 1406.5298", "directed", families.m2),
    "gmvae": Entry("Shu 2016, ruishu.io/2016/12/25/gmvae", "directed", families.gmvae),
    "style_gmvae": Entry("Dilokthanakul et al. 2016, arXiv 1611.02648", "directed", families.style_gmvae),
    "vade": Entry("Jiang et al. 2017, arXiv 1611.05148", "directed", families.vade),
    "dlgmm": Entry("Nalisnick, Hertel and Smyth 2016, Bayesian Deep Learning workshop", "directed", families.dlgmm),
    "helmholtz": Entry("Bornschein and Bengio 2015, arXiv 1406.2751", "directed", families.helmholtz),
    "rbm": Entry("Hinton 2002, Neural Computation 14", "energy", kinds.rbm),
    "boltzmann": Entry(
        "Ackley, Hinton and Sejnowski 1985, Cognitive Science 9",
        "energy",
        kinds.boltzmann,
        "ready: up to 20 hidden bits",
    ),
    "gan": Entry("Goodfellow et al. 2014, arXiv 1406.2661", "implicit", kinds.gan),
    "diffusion": Entry("Sohl-Dickstein et al. 2015, arXiv 1503.03585", "transition", kinds.diffusion),
}
