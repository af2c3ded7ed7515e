"""What a recipe may say: one table per part of an experiment, one sentence per field.

A part that comes in variants (a prior, a guide, a bound, an optimiser) is a table with a `name` and the arguments of
that variant; the name alone stands for the variant with its defaults.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field, NonNegativeInt, model_validator

from .bounds import CIWAE, ELBO, IWAE, MIWAE, PIWAE, TVO, Bound, Maximised, Renyi, VRMax, WakeSleep
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
from .priors import (
    Autoregressive,
    BernoulliPrior,
    BitsPrior,
    DirichletSticks,
    FlowPrior,
    GaussianMixture,
    Horseshoe,
    NADEPrior,
    Normal,
    Prior,
    SpikeAndSlab,
    StandardNormal,
    StickBreaking,
    StickBreakingMixture,
    SticksPrior,
    StudentT,
    VampPrior,
)
from .tables import Table, named, variants
from .training import SGD, Adam, Adamax, AdamW, Evaluation, Optimizer, Pretraining, Training

__all__ = [
    "CIWAE",
    "DLGMM",
    "ELBO",
    "GMVAE",
    "GUIDES",
    "IWAE",
    "M2",
    "MIWAE",
    "PIWAE",
    "SBVAE",
    "SGD",
    "TVO",
    "VAE",
    "VARIANTS",
    "Adam",
    "AdamW",
    "Adamax",
    "Amortized",
    "AmortizedFlow",
    "AmortizedNormal",
    "Autoregressive",
    "AutoregressiveBernoulli",
    "BernoulliPrior",
    "BetaSticks",
    "BitsPrior",
    "Bound",
    "Clusters",
    "Data",
    "DirichletSticks",
    "Evaluation",
    "FlowPrior",
    "GammaSticks",
    "GaussianMixture",
    "Guide",
    "Helmholtz",
    "HierarchicalNormal",
    "Horseshoe",
    "KumaraswamySticks",
    "LogitNormalSticks",
    "Maximised",
    "MeanFieldBernoulli",
    "MeanFieldStyle",
    "Mixture",
    "Model",
    "ModelTable",
    "NADEPrior",
    "Normal",
    "Optimizer",
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
    "VRMax",
    "VaDE",
    "VaDEGuide",
    "VampPrior",
    "WakeSleep",
]


class Data(Table):
    """The data, and how the model sees them."""

    name: str
    """A dataset `ppmodels.data.load` knows: digits, mnist or omniglot."""
    protocol: Literal["dynamic", "static", "threshold", "grey"] = "dynamic"
    """How grey pixels become what the model sees; every number depends on it."""
    validation: NonNegativeInt = 0
    """How many of the training data are held out to score by, 0 for none."""
    seed: NonNegativeInt = 0
    """Seeds the choice of the held-out data, and the one draw of the static protocol."""
    folder: str | None = None
    """Where to look for the files before anywhere else."""
    labels: NonNegativeInt = 0
    """How many of the training data tell the programs their class, as many of each; 0 for none."""


class Recipe(Table):
    """An experiment as data."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """What runs are called."""
    paper: str = ""
    """Whose experiment it is."""
    seed: NonNegativeInt = 0
    """Seeds the first parameters, the order of the data, and all noise."""
    data: Data
    """What is fitted."""
    model: Model
    """What it is taken to be drawn from."""
    guide: Guide = AmortizedNormal()
    """How latents are inferred; by default as suits the model."""
    bound: Bound = ELBO()
    """What is maximised."""
    pretraining: Pretraining = Pretraining()
    """What comes before, for models that begin at an autoencoder's codes."""
    training: Training
    """How it is maximised."""
    evaluation: Evaluation = Evaluation()
    """What the result is judged by."""

    @model_validator(mode="before")
    @classmethod
    def _mirror(cls, tables: Any) -> Any:
        """The nets of the guide are the model's unless it says otherwise."""
        model = tables.get("model") if isinstance(tables, dict) else None
        if not isinstance(model, dict):
            return tables
        guides = GUIDES.get(model.get("name", "vae"), ("amortized_normal",))
        guide = named(guides[0])(tables.get("guide", {}))
        shared = {key: model[key] for key in ("hidden", "activation") if key in model}
        return {**tables, "guide": {**shared, **guide} if isinstance(guide, dict) else guide}

    @model_validator(mode="after")
    def _check_parts(self) -> Recipe:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        """What does not go together."""
        model, guide, layers, patience = self.model.name, self.guide.name, self.model.layers, self.training.patience
        if guide not in GUIDES[model]:
            known = ", ".join(GUIDES[model])
            yield f"`guide.name` must be one of {known} for the model {model!r}, got {guide!r}"
        if layers > 1 and guide != "hierarchical_normal":
            yield f"`guide.name` must be 'hierarchical_normal' for the {layers} layers of `model.z_dim`, got {guide!r}"
        for key, hidden in (("model.hidden", self.model.hidden), ("guide.hidden", self.guide.hidden)):
            if len(hidden) not in (1, layers):
                yield (
                    f"`{key}` must be one list of widths, or one for each of the layers of `model.z_dim`, {layers}, "
                    f"got {len(hidden)}"
                )
        if patience is not None and not self.data.validation:
            yield f"`data.validation` must be positive with `training.patience` = {patience}, got 0"
        if self.training.schedule == "plateau" and not self.data.validation:
            yield "`data.validation` must be positive with `training.schedule` = 'plateau', got 0"
        if self.data.labels and model != "m2":
            yield f"`data.labels` must be 0 for the model {model!r}, which takes none, got {self.data.labels}"
        if self.bound.label_weight and not self.data.labels:
            yield f"`data.labels` must be positive with `bound.label_weight` = {self.bound.label_weight:g}, got 0"
        if isinstance(self.model, GMVAE | VaDE) and self.model.prior.components < 2:
            components = self.model.prior.components
            yield f"`model.prior.components` must be at least 2 for the model {model!r}, got {components}"
        yield from self._problems_of_bound()
        if self.pretraining.epochs and model != "vade":
            yield f"`pretraining.epochs` must be 0 for the model {model!r}, got {self.pretraining.epochs}"

    def _problems_of_bound(self) -> Iterator[str]:
        """What does not go with a bound, or goes with no other."""
        bound = self.bound
        if isinstance(bound, WakeSleep):
            for key, plain in {"kl_warmup": 0, "label_weight": 0.0, "estimator": "pathwise"}.items():
                if (got := getattr(bound, key)) != plain:
                    yield f"`bound.{key}` must be left out with `bound.name` = 'wake_sleep', got {got!r}"
            if not (bound.wake or bound.sleep):
                yield "`bound.wake` and `bound.sleep` are both 0: one must be positive, or nothing trains the guide"
        elif isinstance(self.model, Helmholtz) and bound.estimator in ("pathwise", "stl", "dreg", "rws-dreg"):
            yield (
                f"`bound.estimator` must be one that needs no path through bits, such as 'vimco', for the model "
                f"'helmholtz', got {bound.estimator!r}; or take `bound.name` = 'wake_sleep'"
            )

    def to_dict(self) -> dict[str, Any]:
        """The recipe in full, every default written out, as TOML can hold it."""
        return self.model_dump(mode="json", exclude_none=True)

    def dumps(self) -> str:
        """The recipe in full as TOML; loading it gives an equal recipe."""
        return tomli_w.dumps(self.to_dict())


VARIANTS: Mapping[str, frozenset[str]] = variants()
"""By the name of a variant, of whatever part, the keys it takes."""
