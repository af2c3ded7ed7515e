"""The models by name, and how a recipe becomes a model/guide pair.

A new family enters by one table in `ppmodels.recipes.schema` and one `Entry` here.

>>> from ppmodels.data import digits
>>> from ppmodels.recipes import load_recipe
>>> model, guide = build(load_recipe("digits-vae"), digits())
>>> model(n=5).shape
torch.Size([5, 64])
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn
from torch.distributions import constraints

from guides import Amortized, AmortizedFlow, AmortizedNormal, HierarchicalNormal
from ppmodels import priors
from ppmodels.conditionals import (
    ConditionalBernoulli,
    ConditionalContinuousBernoulli,
    ConditionalNormal,
    HomoscedasticNormal,
)
from ppmodels.data import Dataset
from ppmodels.nets import MLP
from ppmodels.recipes import Recipe, nearest, schema
from ppmodels.vae import VAE

__all__ = ["ZOO", "Entry", "ModelAndGuide", "build", "table"]


class ModelAndGuide(NamedTuple):
    """A pair, ready to be fitted."""

    model: nn.Module
    guide: nn.Module


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


def build(recipe: Recipe, dataset: Dataset) -> ModelAndGuide:
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
        model, guide = entry(recipe.model.name).build(recipe, dataset)
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


# -- the variational autoencoder -----------------------------------------------------------------------------

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


def _vae(recipe: Recipe, data: Dataset) -> ModelAndGuide:
    model = recipe.model
    guide = _guide(recipe.guide, (data.x_dim, *model.z_dim))
    widths = _per_layer(model.hidden, len(model.z_dim))
    trunks = [_mlp(z_dim, w[::-1], model) for z_dim, w in zip(model.z_dim, widths, strict=True)]  # below z1, z2, ...
    prior = _prior(model.prior, model.z_dim[-1], guide, data)
    below, *above = trunks
    layers = [ConditionalNormal(trunk, size) for trunk, size in zip(above, model.z_dim[:-1], strict=True)]
    return ModelAndGuide(VAE(prior, _likelihood(model, below, data), layers=layers[::-1]), guide)


def _guide(table: schema.Guide, sizes: tuple[int, ...]) -> Amortized:
    """The guide over layers of these sizes, from the data up."""
    widths = _per_layer(table.hidden, len(sizes) - 1)
    trunks = [_mlp(size, w, table) for size, w in zip(sizes[:-1], widths, strict=True)]  # above x, z1, ...
    match table:
        case schema.AmortizedFlow():
            return AmortizedFlow(trunks[0], sizes[1], transforms=table.transforms, hidden=table.flow_hidden)
        case schema.AmortizedNormal():
            return AmortizedNormal(ConditionalNormal(trunks[0], sizes[1]))
        case schema.HierarchicalNormal():
            return HierarchicalNormal([ConditionalNormal(t, z) for t, z in zip(trunks, sizes[1:], strict=True)])


def _prior(table: schema.Prior, z_dim: int, guide: Amortized, data: Dataset) -> nn.Module:
    match table:
        case schema.StandardNormal():
            return priors.StandardNormal(z_dim)
        case schema.Normal():
            return priors.Normal(torch.full((z_dim,), table.loc), table.scale, learned=table.learned)
        case schema.GaussianMixture():
            return priors.GaussianMixture(z_dim, table.components, spread=table.spread)
        case schema.FlowPrior():
            return priors.FlowPrior(z_dim, transforms=table.transforms, hidden=table.hidden, bins=table.bins)
        case schema.VampPrior():
            return _vamp_prior(table.components, guide, data)


def _vamp_prior(components: int, guide: Amortized, data: Dataset) -> priors.VampPrior:
    """Inputs that start at data; between latents, where there are none, at noise."""
    if len(guide.layers) > 1:
        return priors.VampPrior(guide.layers[-1], components)
    if components > len(data):
        raise ValueError(f"`model.prior.components` must be at most {len(data)}, the data, got {components}")
    inputs = data.subset(torch.randperm(len(data))[:components]).to("cpu").all()
    support = constraints.real if data.protocol == "real" else constraints.unit_interval
    return priors.VampPrior(guide.layers[0], inputs=inputs, support=support)


def _likelihood(table: schema.VAE, trunk: MLP, data: Dataset) -> nn.Module:
    match table.likelihood:
        case "bernoulli":
            return ConditionalBernoulli(trunk, data.x_dim, logits=data.logits())
        case "continuous_bernoulli":
            return ConditionalContinuousBernoulli(trunk, data.x_dim)
        case "normal":
            return HomoscedasticNormal(trunk, data.x_dim)


def _mlp(in_features: int, hidden: tuple[int, ...], table: schema.VAE | schema.Amortized) -> MLP:
    return MLP(in_features, hidden, ACTIVATIONS[table.activation])


def _per_layer(hidden: tuple[tuple[int, ...], ...], layers: int) -> tuple[tuple[int, ...], ...]:
    return hidden * layers if len(hidden) == 1 else hidden


ZOO: Mapping[str, Entry] = {
    "vae": Entry("Kingma and Welling 2014, arXiv 1312.6114", "ready", _vae),
}
