"""How a recipe becomes a model without a guide: energies, games, chains that are walked back."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ppmodels import rates
from ppmodels.boltzmann import BoltzmannMachine
from ppmodels.clocks import GatedMLP, TimeMLP, bumps, sinusoids
from ppmodels.data import Dataset
from ppmodels.diffusion import Diffusion
from ppmodels.gan import GAN, ConvDiscriminator, ConvGenerator, Discriminator
from ppmodels.kernels import BinomialKernel, GaussianKernel
from ppmodels.maxout import MaxoutNet
from ppmodels.nets import MLP
from ppmodels.rbm import RBM
from ppmodels.recipes import schema
from ppmodels.reverses import Discretised, Drift, Epsilon, FirstFixed, Flip, Reverse
from ppmodels.units import BernoulliUnits, GaussianUnits, Units
from ppmodels.zoo.parts import ACTIVATIONS, ModelAndGuide, noise_prior

__all__ = ["boltzmann", "diffusion", "gan", "rbm"]

LEAST_RATE = 1e-3
"""Of harmonic rates on real numbers, where the first step of many would be worth no end of bits."""


# -- energies ------------------------------------------------------------------------------------------------


def rbm(recipe: schema.EnergyRecipe, data: Dataset) -> ModelAndGuide:
    """`RBM`, its biases at the data's means, and where it is to be centred its offsets too."""
    table, objective = cast(schema.RBM, recipe.model), recipe.objective
    mean = _mean(data)
    units: Units
    if table.units == "gaussian":
        units = GaussianUnits(data.x_dim, loc=mean if table.start_at_mean else None)
    else:
        units = BernoulliUnits(data.x_dim, logits=data.logits().cpu() if table.start_at_mean else None)
    machine = RBM(units, table.num_hidden, scale=table.scale)
    if getattr(objective, "centre", 0.0):
        with torch.no_grad():
            machine.move_offsets(units.statistic(mean), torch.full((table.num_hidden,), 0.5))
    return ModelAndGuide(machine, None)


def _mean(data: Dataset) -> Tensor:
    """Of each number of a datum as the model sees it, `(x_dim,)`, where models are built."""
    grey = data.pixel_mean().to("cpu", torch.get_default_dtype())
    return 2 * grey - 1 if data.protocol == "signed" else grey


def boltzmann(recipe: schema.EnergyRecipe, data: Dataset) -> ModelAndGuide:
    """`BoltzmannMachine`, whose hidden bits are few enough to be summed over."""
    table = cast(schema.Boltzmann, recipe.model)
    return ModelAndGuide(BoltzmannMachine(data.x_dim, table.num_hidden, scale=table.scale), None)


# -- games ---------------------------------------------------------------------------------------------------


def gan(recipe: schema.ImplicitRecipe, data: Dataset) -> ModelAndGuide:
    """`GAN`, with its discriminator where a guide would be."""
    table = recipe.model
    net: nn.Sequential
    if table.net == "conv":
        net = ConvGenerator(table.z_dim, _side(data, "model.net"), table.channels, batch_norm=table.batch_norm)
    else:
        net = _dense_generator(table, data)
    return ModelAndGuide(GAN(noise_prior(table.prior, table.z_dim, data), net), _discriminator(recipe, data))


def _dense_generator(table: schema.GAN, data: Dataset) -> nn.Sequential:
    """Dense layers up to grey levels; before training it draws images of about the data's mean."""
    trunk = MLP(table.z_dim, table.hidden, ACTIVATIONS[table.activation], batch_norm=table.batch_norm)
    last = nn.Linear(trunk.out_features, data.x_dim)
    nn.init.normal_(last.weight, std=0.02)
    with torch.no_grad():
        last.bias.copy_(data.logits() if table.start_at_mean else torch.zeros(data.x_dim))
    return nn.Sequential(trunk, last, nn.Sigmoid())


def _discriminator(recipe: schema.ImplicitRecipe, data: Dataset) -> nn.Module:
    """What tells draws from data."""
    match recipe.discriminator:
        case schema.MaxoutCritic() as table:
            hidden = [(units, table.pieces) for units in table.units]
            dropout = (table.dropout_input, table.dropout)
            return Discriminator(MaxoutNet(data.x_dim, hidden, dropout=dropout, init_range=table.init_range))
        case schema.MLPCritic() as table:
            return Discriminator(MLP(data.x_dim, table.hidden, ACTIVATIONS[table.activation], dropout=table.dropout))
        case schema.ConvCritic() as table:
            return ConvDiscriminator(_side(data, "discriminator.name"), table.channels)


def _side(data: Dataset, key: str) -> int:
    """Height and width of square images."""
    if len(data.shape) != 2 or data.shape[0] != data.shape[1]:
        raise ValueError(f"`{key}` is 'conv', which is for square images, but data have the shape {data.shape}")
    return data.shape[0]


# -- chains --------------------------------------------------------------------------------------------------


def diffusion(recipe: schema.TransitionRecipe, data: Dataset) -> ModelAndGuide:
    """`Diffusion`, of normal or binomial steps, by DDPM's parts or those of 2015."""
    table = recipe.model
    T, normal = table.num_steps, table.kernel == "gaussian"
    kernel = GaussianKernel(_betas(table)) if normal else BinomialKernel(_betas(table))
    reverse = _reverse(table, data)
    times = bumps(T) if table.clock == "bumps" else sinusoids(T)
    net = (GatedMLP if table.gated else TimeMLP)(
        data.x_dim, table.hidden, times=times, outputs=reverse.outputs, activation=ACTIVATIONS[table.activation]
    )
    return ModelAndGuide(Diffusion(kernel, net, reverse), None)


def _betas(table: schema.Diffusion) -> Tensor:
    """How much each step forgets, `(T,)`."""
    T, first = table.num_steps, table.first
    match table.rates:
        case "linear":
            return rates.linear(T)
        case "geometric":
            return rates.geometric(T) if first is None else rates.geometric(T, first=first)
        case "harmonic":
            least = LEAST_RATE if table.kernel == "gaussian" else 0.0
            return rates.harmonic(T, least=least if first is None else first)


def _reverse(table: schema.Diffusion, data: Dataset) -> Reverse:
    """What the net's output means, and whether the last step makes levels of grey."""
    low = -1.0 if data.protocol == "signed" else 0.0
    if table.reverse == "flip":
        return FirstFixed(Flip()) if table.first_fixed else Flip()
    reverse = Epsilon() if table.reverse == "epsilon" else Drift()
    if table.levels:
        _check_levels(data, table.levels)
        return Discretised(reverse, table.levels, low=low)
    return FirstFixed(reverse) if table.first_fixed and isinstance(reverse, Drift) else reverse


def _check_levels(data: Dataset, levels: int) -> None:
    """Refuse a grid on which data do not lie, each level of theirs on one of its own, but for the 255ths of storage."""
    place = data.values.unique().double() / 255 * (levels - 1)
    on = place.round()
    if len(on.unique()) < len(place) or bool(((place - on).abs() > (levels - 1) / 510 + 1e-9).any()):
        raise ValueError(
            f"`model.levels` is {levels}, on which the {len(place)} levels of grey of `{data.name}` do not lie: "
            "expected as many as the data can have, 17 for digits, 256 for photographs"
        )
