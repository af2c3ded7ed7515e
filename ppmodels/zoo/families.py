"""How a recipe becomes a pair, family by family. Nets mirror each other unless the recipe says otherwise."""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from guides import (
    Amortized,
    AmortizedFlow,
    AmortizedNormal,
    AutoregressiveBernoulli,
    BetaSticks,
    ClusterGuide,
    ConditionalKumaraswamy,
    GammaSticks,
    HierarchicalNormal,
    KumaraswamySticks,
    LogitNormalSticks,
    MeanFieldBernoulli,
    MeanFieldStyle,
    MixtureGuide,
    VaDEGuide,
)
from ppmodels.bits import ConditionalNADE
from ppmodels.components import ConditionalNormals
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.data import Dataset
from ppmodels.dlgmm import DLGMM, NormalComponents
from ppmodels.gmvae import GMVAE, StyleGMVAE
from ppmodels.helmholtz import SigmoidBeliefNetwork
from ppmodels.m2 import M2
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.recipes import schema
from ppmodels.recipes.schema import PairRecipe
from ppmodels.sbvae import SBVAE
from ppmodels.sticks import stick_weights
from ppmodels.vade import VaDE
from ppmodels.vae import VAE
from ppmodels.zoo.parts import ACTIVATIONS, ModelAndGuide, bits_prior, likelihood, mlp, per_layer, prior, sticks_prior

__all__ = ["dlgmm", "gmvae", "helmholtz", "m2", "sbvae", "style_gmvae", "vade", "vae"]


def vae(recipe: PairRecipe, data: Dataset) -> ModelAndGuide:
    """`VAE`, with one layer or several."""
    table = cast(schema.VAE, recipe.model)
    guide = _amortized(recipe.guide, (data.x_dim, *table.z_dim))
    widths = per_layer(table.hidden, table.layers)
    below, *above = [mlp(z_dim, w[::-1], table) for z_dim, w in zip(table.z_dim, widths, strict=True)]
    top = prior(table.prior, table.z_dim[-1], guide, data)
    layers = [ConditionalNormal(trunk, size) for trunk, size in zip(above, table.z_dim[:-1], strict=True)]
    return ModelAndGuide(VAE(top, likelihood(table, below, data), layers=layers[::-1]), guide)


def _amortized(table: schema.Guide, sizes: tuple[int, ...]) -> Amortized:
    """The guide over layers of these sizes, from the data up."""
    assert isinstance(table, schema.Amortized)
    widths = per_layer(table.hidden, len(sizes) - 1)
    trunks = [mlp(size, w, table) for size, w in zip(sizes[:-1], widths, strict=True)]  # above x, z1, ...
    match table:
        case schema.AmortizedFlow():
            return AmortizedFlow(trunks[0], sizes[1], transforms=table.transforms, hidden=table.flow_hidden)
        case schema.HierarchicalNormal():
            return HierarchicalNormal([ConditionalNormal(t, z) for t, z in zip(trunks, sizes[1:], strict=True)])
        case _:
            return AmortizedNormal(ConditionalNormal(trunks[0], sizes[1]))


def sbvae(recipe: PairRecipe, data: Dataset) -> ModelAndGuide:
    """`SBVAE`, with a guide of one of four families of breaks."""
    table = cast(schema.SBVAE, recipe.model)
    families = {
        "kumaraswamy_sticks": KumaraswamySticks,
        "logit_normal_sticks": LogitNormalSticks,
        "gamma_sticks": GammaSticks,
        "beta_sticks": BetaSticks,
    }
    trunk = mlp(data.x_dim, recipe.guide.hidden[0], recipe.guide)
    guide = families[recipe.guide.name](trunk, table.components, concentration=table.prior.concentration)
    breaks = sticks_prior(table.prior, table.components)
    decoder = mlp(table.components, table.hidden[0][::-1], table, gain=breaks.gain)
    return ModelAndGuide(SBVAE(breaks, likelihood(table, decoder, data)), guide)


def m2(recipe: PairRecipe, data: Dataset) -> ModelAndGuide:
    """`M2`, over a vector or over the shares of a stick."""
    table, x_dim = cast(schema.M2, recipe.model), data.x_dim
    trunk = _decoder(table, table.z_dim + table.classes)
    decoder = likelihood(table, trunk, data)
    classifier, encoder = (mlp(size, recipe.guide.hidden[0], recipe.guide) for size in (x_dim, x_dim + table.classes))
    conditional: nn.Module
    if table.sticks is None:
        conditional, site = ConditionalNormal(encoder, table.z_dim), "z"
        guide = ClusterGuide(classifier, conditional, table.classes, site=site)
        return ModelAndGuide(M2(prior(table.prior, table.z_dim, guide, data), decoder, table.classes), guide)
    conditional = ConditionalKumaraswamy(encoder, table.z_dim - 1, concentration=table.sticks.concentration)
    guide = ClusterGuide(classifier, conditional, table.classes, site="logit_v")
    breaks = sticks_prior(table.sticks, table.z_dim)
    with torch.no_grad():  # shares beside a class, which is of size one
        trunk.get_parameter("0.weight")[:, : table.z_dim].mul_(breaks.gain)
    return ModelAndGuide(M2(breaks, decoder, table.classes, site="logit_v", link=stick_weights), guide)


def gmvae(recipe: PairRecipe, data: Dataset) -> ModelAndGuide:
    """`GMVAE`, whose guide tells clusters apart or leaves them to the model."""
    table = cast(schema.GMVAE, recipe.model)
    C, x_dim = table.prior.components, data.x_dim
    guide: nn.Module
    if recipe.guide.name == "clusters":
        classifier, encoder = (mlp(size, recipe.guide.hidden[0], recipe.guide) for size in (x_dim, x_dim + C))
        guide = ClusterGuide(classifier, ConditionalNormal(encoder, table.z_dim), C)
    else:
        guide = _amortized(recipe.guide, (x_dim, table.z_dim))
    mixture = prior(table.prior, table.z_dim, guide, data)
    return ModelAndGuide(GMVAE(mixture, likelihood(table, _decoder(table, table.z_dim), data)), guide)


def style_gmvae(recipe: PairRecipe, data: Dataset) -> ModelAndGuide:
    """`StyleGMVAE`, its cluster summed out in the model."""
    table = cast(schema.StyleGMVAE, recipe.model)
    style = MLP(table.w_dim, table.style_hidden, ACTIVATIONS[table.activation])
    components = ConditionalNormals(style, table.z_dim, components=table.components, spread=table.spread)
    features = mlp(data.x_dim, recipe.guide.hidden[0], recipe.guide)
    heads = [ConditionalNormal(MLP(features.out_features, ()), size) for size in (table.w_dim, table.z_dim)]
    decoder = likelihood(table, _decoder(table, table.z_dim), data)
    return ModelAndGuide(
        StyleGMVAE(StandardNormal(table.w_dim), components, decoder), MeanFieldStyle(*heads, features=features)
    )


def vade(recipe: PairRecipe, data: Dataset) -> ModelAndGuide:
    """`VaDE`, with the exact bound or the paper's."""
    table = cast(schema.VaDE, recipe.model)
    encoder = ConditionalNormal(mlp(data.x_dim, recipe.guide.hidden[0], recipe.guide), table.z_dim)
    guide = AmortizedNormal(encoder)
    mixture = prior(table.prior, table.z_dim, guide, data)
    model = VaDE(mixture, likelihood(table, _decoder(table, table.z_dim), data))
    return ModelAndGuide(model, VaDEGuide(encoder, mixture) if recipe.guide.name == "vade" else guide)


def dlgmm(recipe: PairRecipe, data: Dataset) -> ModelAndGuide:
    """`DLGMM`, with a mixture for a guide."""
    table = cast(schema.DLGMM, recipe.model)
    K, z_dim = table.components, table.z_dim
    loc = torch.linspace(-table.spread, table.spread, K).unsqueeze(-1).expand(K, z_dim)
    features = mlp(data.x_dim, recipe.guide.hidden[0], recipe.guide)
    width = features.out_features
    guide = MixtureGuide(
        ConditionalKumaraswamy(MLP(width, ()), K - 1, concentration=table.prior.concentration),
        ConditionalNormals(MLP(width, ()), z_dim, components=K),
        features=features,
    )
    model = DLGMM(sticks_prior(table.prior, K), NormalComponents(loc), likelihood(table, _decoder(table, z_dim), data))
    return ModelAndGuide(model, guide)


def helmholtz(recipe: PairRecipe, data: Dataset) -> ModelAndGuide:
    """`SigmoidBeliefNetwork`, with a guide of bits that are independent within a layer or not."""
    table = cast(schema.Helmholtz, recipe.model)
    model = SigmoidBeliefNetwork(
        data.x_dim,
        table.widths,
        prior=bits_prior(table.prior, table.widths[-1]),
        likelihood=likelihood(table, mlp(table.widths[0], table.hidden[0], table), data),
        layer=ConditionalNADE if table.layer == "nade" else ConditionalBernoulli,
        hidden=table.hidden[0],
        activation=ACTIVATIONS[table.activation],
    )
    hidden, activation = recipe.guide.hidden[0], ACTIVATIONS[recipe.guide.activation]
    guide: Amortized
    if isinstance(recipe.guide, schema.AutoregressiveBernoulli):
        features = recipe.guide.features
        guide = AutoregressiveBernoulli(
            data.x_dim, table.widths, features=features, hidden=hidden, activation=activation
        )
    else:
        guide = MeanFieldBernoulli(data.x_dim, table.widths, hidden=hidden, activation=activation)
    return ModelAndGuide(model, guide)


def _decoder(table: schema.ModelTable, size: int) -> MLP:
    """The net from latents to data: the encoder's widths the other way round."""
    return mlp(size, table.hidden[0][::-1], table)
