"""What a recipe may say: one table per part of an experiment, one sentence per field.

A part that comes in variants (a prior, a guide, a bound, an optimiser) is a table with a `name` and the arguments of
that variant; the name alone stands for the variant with its defaults.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .bounds import CIWAE, ELBO, IWAE, MIWAE, PIWAE, TVO, Bound, Maximised, Renyi, VRMax, WakeSleep
from .chains import Denoising, Diffusion, TransitionEvaluation, TransitionModel, TransitionRecipe
from .energies import (
    RBM,
    Boltzmann,
    BoltzmannLearning,
    ContrastiveDivergence,
    EnergyEvaluation,
    EnergyModel,
    EnergyObjective,
    EnergyRecipe,
    ExactLikelihood,
    PersistentContrastiveDivergence,
)
from .experiment import Data, Kind, Recipe
from .games import (
    GAN,
    Adversarial,
    ConvCritic,
    Critic,
    ImplicitEvaluation,
    ImplicitModel,
    ImplicitRecipe,
    MaxoutCritic,
    MLPCritic,
)
from .messages import RecipeError, nearest
from .models import (
    DLGMM,
    GMVAE,
    GUIDES,
    M2,
    SBVAE,
    VAE,
    Amortized,
    AmortizedFlow,
    AmortizedNormal,
    AutoregressiveBernoulli,
    BetaSticks,
    Clusters,
    GammaSticks,
    Guide,
    Helmholtz,
    HierarchicalNormal,
    KumaraswamySticks,
    LogitNormalSticks,
    MeanFieldBernoulli,
    MeanFieldStyle,
    Mixture,
    Model,
    ModelTable,
    StyleGMVAE,
    VaDE,
    VaDEGuide,
)
from .pairs import PairRecipe
from .priors import (
    Autoregressive,
    BernoulliPrior,
    BitsPrior,
    DirichletSticks,
    FlowPrior,
    GaussianMixture,
    Horseshoe,
    NADEPrior,
    NoisePrior,
    Normal,
    Prior,
    SpikeAndSlab,
    StandardNormal,
    StickBreaking,
    StickBreakingMixture,
    SticksPrior,
    StudentT,
    UniformPrior,
    VampPrior,
)
from .tables import Table, tables_in, variants
from .training import SGD, Adam, Adamax, AdamW, Evaluation, Judging, Optimizer, Pretraining, Training

__all__ = [
    "CIWAE",
    "DLGMM",
    "ELBO",
    "GAN",
    "GMVAE",
    "GUIDES",
    "IWAE",
    "M2",
    "MIWAE",
    "PIWAE",
    "RBM",
    "RECIPES",
    "SBVAE",
    "SGD",
    "TVO",
    "VAE",
    "VARIANTS",
    "Adam",
    "AdamW",
    "Adamax",
    "Adversarial",
    "Amortized",
    "AmortizedFlow",
    "AmortizedNormal",
    "Autoregressive",
    "AutoregressiveBernoulli",
    "BernoulliPrior",
    "BetaSticks",
    "BitsPrior",
    "Boltzmann",
    "BoltzmannLearning",
    "Bound",
    "Clusters",
    "ContrastiveDivergence",
    "ConvCritic",
    "Critic",
    "Data",
    "Denoising",
    "Diffusion",
    "DirichletSticks",
    "EnergyEvaluation",
    "EnergyModel",
    "EnergyObjective",
    "EnergyRecipe",
    "Evaluation",
    "ExactLikelihood",
    "FlowPrior",
    "GammaSticks",
    "GaussianMixture",
    "Guide",
    "Helmholtz",
    "HierarchicalNormal",
    "Horseshoe",
    "ImplicitEvaluation",
    "ImplicitModel",
    "ImplicitRecipe",
    "Judging",
    "Kind",
    "KumaraswamySticks",
    "LogitNormalSticks",
    "MLPCritic",
    "Maximised",
    "MaxoutCritic",
    "MeanFieldBernoulli",
    "MeanFieldStyle",
    "Mixture",
    "Model",
    "ModelTable",
    "NADEPrior",
    "NoisePrior",
    "Normal",
    "Optimizer",
    "PairRecipe",
    "PersistentContrastiveDivergence",
    "Pretraining",
    "Prior",
    "Recipe",
    "Renyi",
    "SpikeAndSlab",
    "StandardNormal",
    "StickBreaking",
    "StickBreakingMixture",
    "SticksPrior",
    "StudentT",
    "StyleGMVAE",
    "Table",
    "Training",
    "TransitionEvaluation",
    "TransitionModel",
    "TransitionRecipe",
    "UniformPrior",
    "VRMax",
    "VaDE",
    "VaDEGuide",
    "VampPrior",
    "WakeSleep",
    "kind_of",
]

RECIPES: tuple[type[Recipe], ...] = (PairRecipe, EnergyRecipe, ImplicitRecipe, TransitionRecipe)
"""A kind for each kind of model."""


def kind_of(tables: Mapping[str, Any]) -> type[Recipe]:
    """The kind of recipe that goes with the model some tables name; of pairs where they name none.

    Raises:
        RecipeError: if there is no model of that name.
    """
    model = tables.get("model")
    name = model.get("name") if isinstance(model, Mapping) else model
    if not isinstance(name, str):
        return PairRecipe
    models = {model: kind for kind in RECIPES for model in _models(kind)}
    if name not in models:
        near = nearest(name, models)
        raise RecipeError(f"`model.name` must be one of {', '.join(models)}, got {name!r}; nearest is {near!r}")
    return models[name]


def _models(kind: type[Recipe]) -> list[str]:
    """The names of the models of one kind of recipe."""
    return [one.model_fields["name"].default for one in tables_in(kind.model_fields["model"].annotation)]


VARIANTS: Mapping[str, frozenset[str]] = variants()
"""By the name of a variant, of whatever part, the keys it takes."""
