"""The parts of pairs: nets, priors, likelihoods and guides, made of the tables of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import nn
from torch.distributions import constraints

from guides import Amortized
from ppmodels import priors
from ppmodels.conditionals import ConditionalBernoulli, ConditionalContinuousBernoulli, HomoscedasticNormal
from ppmodels.data import Dataset
from ppmodels.nets import MLP
from ppmodels.recipes import schema

__all__ = [
    "ACTIVATIONS",
    "ModelAndGuide",
    "bits_prior",
    "likelihood",
    "mlp",
    "noise_prior",
    "per_layer",
    "prior",
    "sticks_prior",
]


class ModelAndGuide(NamedTuple):
    """What `fit` takes: a model, and its guide, for a game the discriminator, for others nothing."""

    model: nn.Module
    guide: nn.Module | None


ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}


def mlp(
    in_features: int, hidden: tuple[int, ...], table: schema.ModelTable | schema.Amortized, *, gain: float = 1.0
) -> MLP:
    """A net with the activation of a table."""
    return MLP(in_features, hidden, ACTIVATIONS[table.activation], gain=gain)


def per_layer(hidden: tuple[tuple[int, ...], ...], layers: int) -> tuple[tuple[int, ...], ...]:
    """The widths of each layer's net; one list counts for all."""
    return hidden * layers if len(hidden) == 1 else hidden


def likelihood(table: schema.ModelTable, trunk: MLP, data: Dataset) -> nn.Module:
    """The conditional of a datum on top of a net."""
    match table.likelihood:
        case "bernoulli":
            return ConditionalBernoulli(trunk, data.x_dim, logits=data.logits() if table.start_at_mean else None)
        case "continuous_bernoulli":
            return ConditionalContinuousBernoulli(trunk, data.x_dim)
        case "normal":
            return HomoscedasticNormal(trunk, data.x_dim)


def sticks_prior(table: schema.SticksPrior, components: int) -> priors.StickBreaking | priors.DirichletSticks:
    """The prior of the breaks that make so many shares."""
    match table:
        case schema.StickBreaking():
            return priors.StickBreaking(components, table.concentration, learned=table.learned)
        case schema.DirichletSticks():
            return priors.DirichletSticks(components, table.concentration)


def bits_prior(table: schema.BitsPrior, bits: int) -> priors.BernoulliPrior | priors.NADEPrior:
    """The prior of so many bits."""
    match table:
        case schema.BernoulliPrior():
            return priors.BernoulliPrior(bits, logits=torch.full((bits,), table.logit))
        case schema.NADEPrior():
            return priors.NADEPrior(bits, table.features)


def prior(table: schema.Prior, z_dim: int, guide: nn.Module, data: Dataset) -> nn.Module:
    """The prior of a vector; `guide` is whose encoder a VampPrior averages."""
    match table:
        case schema.StandardNormal():
            return priors.StandardNormal(z_dim)
        case schema.Normal():
            return priors.Normal(torch.full((z_dim,), table.loc), table.scale, learned=table.learned)
        case schema.GaussianMixture():
            mixture = priors.GaussianMixture(z_dim, table.components, covariance=table.covariance, spread=table.spread)
            mixture.logits.requires_grad_(table.weights == "learned")
            return mixture
        case schema.StickBreakingMixture():
            return priors.StickBreakingMixture(z_dim, table.components, concentration=table.concentration)
        case schema.Autoregressive():
            return priors.Autoregressive(z_dim, table.hidden, components=table.components)
        case schema.StudentT():
            return priors.StudentT(z_dim, table.df, learned=table.learned)
        case schema.Horseshoe():
            return priors.Horseshoe(z_dim, scale=table.scale, learned=table.learned)
        case schema.SpikeAndSlab():
            return priors.SpikeAndSlab(
                z_dim, probs=table.probs, spike=table.spike, slab=table.slab, learned=table.learned
            )
        case schema.FlowPrior():
            return priors.FlowPrior(z_dim, transforms=table.transforms, hidden=table.hidden, bins=table.bins)
        case schema.VampPrior():
            return _vamp_prior(table.components, guide, data)


def noise_prior(table: schema.NoisePrior, z_dim: int, data: Dataset) -> nn.Module:
    """The prior of what is only drawn from."""
    if isinstance(table, schema.UniformPrior):
        return priors.UniformPrior(z_dim)
    return prior(table, z_dim, nn.Identity(), data)


def _vamp_prior(components: int, guide: nn.Module, data: Dataset) -> priors.VampPrior:
    """Inputs that start at data; between latents, where there are none, at noise."""
    if not isinstance(guide, Amortized):
        raise ValueError("`model.prior` is 'vamp_prior', which averages the encoder of a guide of the VAE's")
    if len(guide.layers) > 1:
        return priors.VampPrior(guide.layers[-1], components)
    if components > len(data):
        raise ValueError(f"`model.prior.components` must be at most {len(data)}, the data, got {components}")
    inputs = data.subset(torch.randperm(len(data))[:components]).to("cpu").all()
    support = constraints.real if data.protocol == "real" else constraints.unit_interval
    return priors.VampPrior(guide.layers[0], inputs=inputs, support=support)
