"""What a recipe may say: one table per part of an experiment, one sentence per field.

A part that comes in variants (a prior, a guide, a bound, an optimiser) is a table with a `name` and the arguments of
that variant; the name alone stands for the variant with its defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

import tomli_w
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

__all__ = ["Bound", "Data", "Evaluation", "Guide", "Model", "Optimizer", "Prior", "Recipe", "Table", "Training"]


class Table(BaseModel):
    """A table of a recipe: unknown keys, numbers written as text, and infinities are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def named(default: str) -> Callable[[Any], Any]:
    """Read `"gaussian_mixture"` as `{name = "gaussian_mixture"}`, and a table without a name as the default's."""

    def read(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        return {"name": default, **value} if isinstance(value, dict) else value

    return read


def listed(value: Any) -> Any:
    """Read one number as a list of one."""
    return [value] if isinstance(value, int) else value


def layered(value: Any) -> Any:
    """Read the widths of one net as those of a list of one."""
    widths = listed(value)
    return [widths] if isinstance(widths, list | tuple) and all(isinstance(w, int) for w in widths) else widths


Sizes: TypeAlias = Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]
Widths: TypeAlias = Annotated[tuple[PositiveInt, ...], Field(strict=False)]
Mode: TypeAlias = Literal["auto", "inductor", "replay", "eager"]
Hidden: TypeAlias = Annotated[tuple[Widths, ...], Field(strict=False, min_length=1), BeforeValidator(layered)]
Activation: TypeAlias = Literal["tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus"]


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


# -- priors --------------------------------------------------------------------------------------------------


class StandardNormal(Table):
    """N(0, I)."""

    name: Literal["standard_normal"] = "standard_normal"


class Normal(Table):
    """A diagonal normal."""

    name: Literal["normal"] = "normal"
    loc: float = 0.0
    """Its mean, in every dimension; where it starts if learned."""
    scale: PositiveFloat = 1.0
    """Its standard deviation, in every dimension; where it starts if learned."""
    learned: bool = False
    """Whether both are parameters."""


class GaussianMixture(Table):
    """A learned mixture of diagonal normals."""

    name: Literal["gaussian_mixture"] = "gaussian_mixture"
    components: PositiveInt = 10
    """How many normals."""
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """The share of the starting variance that lies between their locations."""


class VampPrior(Table):
    """The guide's average over learned inputs."""

    name: Literal["vamp_prior"] = "vamp_prior"
    components: PositiveInt = 50
    """How many inputs; they start at data."""


class FlowPrior(Table):
    """A neural spline flow; needs the extra `flows`."""

    name: Literal["flow_prior"] = "flow_prior"
    transforms: PositiveInt = 3
    """How many spline transforms."""
    hidden: Widths = (64, 64)
    """Widths of the net of each."""
    bins: Annotated[int, Field(ge=2)] = 8
    """Pieces of each spline."""


Prior: TypeAlias = Annotated[
    StandardNormal | Normal | GaussianMixture | VampPrior | FlowPrior,
    BeforeValidator(named("standard_normal")),
    Field(discriminator="name"),
]

# -- models and guides ---------------------------------------------------------------------------------------


class VAE(Table):
    """A variational autoencoder with one or more layers of latents."""

    name: Literal["vae"] = "vae"
    z_dim: Annotated[Sizes, BeforeValidator(listed)]
    """Sizes of the latents, from the data up."""
    hidden: Hidden = ((200, 200),)
    """Widths of the net below each latent, from the data up; one list counts for every layer."""
    activation: Activation = "tanh"
    """What stands between the layers of a net."""
    prior: Prior = StandardNormal()
    """The distribution of the topmost latent."""
    likelihood: Literal["bernoulli", "continuous_bernoulli", "normal"] = "bernoulli"
    """The distribution of a datum given the first latent."""


Model: TypeAlias = VAE


class Amortized(Table):
    """What guides that are made of nets have in common."""

    name: str
    hidden: Hidden = ((200, 200),)
    """Widths of the net that leads to each latent, from the data up; by default the model's."""
    activation: Activation = "tanh"
    """What stands between the layers of a net; by default the model's."""


class AmortizedNormal(Amortized):
    """A diagonal normal with mean and scale given by a net: one layer of latents."""

    name: Literal["amortized_normal"] = "amortized_normal"


class HierarchicalNormal(Amortized):
    """Diagonal normals, each given the layer below: any number of layers."""

    name: Literal["hierarchical_normal"] = "hierarchical_normal"


class AmortizedFlow(Amortized):
    """An inverse autoregressive flow given by a net: one layer of latents; needs the extra `flows`."""

    name: Literal["amortized_flow"] = "amortized_flow"
    transforms: PositiveInt = 3
    """How many transforms."""
    flow_hidden: Widths = (64, 64)
    """Widths of the net of each transform."""


Guide: TypeAlias = Annotated[
    AmortizedNormal | HierarchicalNormal | AmortizedFlow,
    BeforeValidator(named("amortized_normal")),
    Field(discriminator="name"),
]

# -- bounds --------------------------------------------------------------------------------------------------


class Maximised(Table):
    """What all bounds take."""

    name: str
    num_particles: PositiveInt = 1
    """K, the draws per datum."""
    kl_warmup: NonNegativeInt = 0
    """Steps over which the weight of the KL rises from 0 to 1, 0 for none."""
    estimator: str = "pathwise"
    """How the gradient is estimated: pathwise, stl, dreg, score, vimco, rws, rws-dreg, tvo-covariance, ..."""


class ELBO(Maximised):
    """The evidence lower bound."""

    name: Literal["elbo"] = "elbo"
    kl: Literal["monte_carlo", "analytic"] = "monte_carlo"
    """Whether the KL is drawn, or in closed form where there is one."""


class IWAE(Maximised):
    """The importance-weighted bound."""

    name: Literal["iwae"] = "iwae"


class Renyi(Maximised):
    """The variational Renyi bound."""

    name: Literal["renyi"] = "renyi"
    alpha: float
    """Its order: 1 is the ELBO, 0 the importance-weighted bound."""


class VRMax(Maximised):
    """The largest weight."""

    name: Literal["vrmax"] = "vrmax"


class MIWAE(Maximised):
    """The mean of importance-weighted bounds."""

    name: Literal["miwae"] = "miwae"
    groups: PositiveInt
    """How many; `num_particles` counts the draws of all."""


class PIWAE(Maximised):
    """The importance-weighted bound for the model, the mean of several for the guide."""

    name: Literal["piwae"] = "piwae"
    groups: PositiveInt
    """How many are the guide's; `num_particles` counts the draws of all."""


class CIWAE(Maximised):
    """A mixture of the evidence lower bound and the importance-weighted one."""

    name: Literal["ciwae"] = "ciwae"
    beta: Annotated[float, Field(ge=0, le=1)]
    """The share of the evidence lower bound."""


class TVO(Maximised):
    """The thermodynamic variational objective."""

    name: Literal["tvo"] = "tvo"
    partitions: PositiveInt = 20
    """Intervals of its path."""


Bound: TypeAlias = Annotated[
    ELBO | IWAE | Renyi | VRMax | MIWAE | PIWAE | CIWAE | TVO,
    BeforeValidator(named("elbo")),
    Field(discriminator="name"),
]

# -- training and evaluation ---------------------------------------------------------------------------------

Decay: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class Adam(Table):
    """Adam."""

    name: Literal["adam"] = "adam"
    betas: Annotated[tuple[Decay, Decay], Field(strict=False)] = (0.9, 0.999)
    """Decay of the means of the gradient and of its square."""
    eps: PositiveFloat = 1e-8
    """What keeps the quotient finite."""


class AdamW(Table):
    """Adam with decoupled weight decay."""

    name: Literal["adamw"] = "adamw"
    betas: Annotated[tuple[Decay, Decay], Field(strict=False)] = (0.9, 0.999)
    """Decay of the means of the gradient and of its square."""
    weight_decay: NonNegativeFloat = 0.01
    """How fast weights shrink."""


class Adamax(Table):
    """Adam with the largest gradient in place of the mean square."""

    name: Literal["adamax"] = "adamax"
    betas: Annotated[tuple[Decay, Decay], Field(strict=False)] = (0.9, 0.999)
    """Decay of the mean of the gradient and of its largest size."""


class SGD(Table):
    """Stochastic gradient descent."""

    name: Literal["sgd"] = "sgd"
    momentum: Decay = 0.0
    """Decay of the running gradient."""


Optimizer: TypeAlias = Annotated[
    Adam | AdamW | Adamax | SGD, BeforeValidator(named("adam")), Field(discriminator="name")
]


class Training(Table):
    """How the bound is maximised."""

    epochs: PositiveInt | None = None
    """Passes over the data; these or `steps`."""
    steps: PositiveInt | None = None
    """Updates; these or `epochs`."""
    batch_size: PositiveInt = 100
    """Data per update."""
    optimizer: Optimizer = Adam()
    """What makes a step of a gradient."""
    learning_rate: PositiveFloat = 1e-3
    """The size of the steps, at first."""
    schedule: Literal["constant", "burda", "cosine", "plateau"] = "constant"
    """How the learning rate falls: not, in Burda's stages, to zero along a cosine, or where validation stalls."""
    clip_norm: PositiveFloat | None = None
    """The largest norm of a gradient, where one is set."""
    patience: PositiveInt | None = None
    """Epochs without a better validation score after which to stop, where set."""
    report_every: PositiveInt = 50
    """Updates between two lines of the metrics."""
    checkpoint_seconds: NonNegativeFloat = 20.0
    """The least time between two checkpoints."""
    mode: Mode = "auto"
    """How the programs are run: compiled, from their tensor graph, as they are, or what is quickest."""

    @model_validator(mode="after")
    def _check_length(self) -> Training:
        if (self.epochs is None) == (self.steps is None):
            given = "neither" if self.epochs is None else f"{self.epochs} and {self.steps}"
            raise ValueError(f"exactly one of `training.epochs` and `training.steps` must be given, got {given}")
        return self


class Evaluation(Table):
    """What a fitted pair is judged by."""

    bounds: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("elbo", "iwae:5", "iwae:50")
    """The rungs of the ladder: `elbo`, `iwae:K`, `renyi:ALPHA:K` or `vrmax:K`."""
    num_particles: PositiveInt = 5000
    """K of the estimate of log p(x)."""
    num_data: NonNegativeInt = 0
    """How many data, the first of the split; 0 for all."""
    batch_size: PositiveInt = 100
    """Data at a time."""
    seed: NonNegativeInt = 0
    """Seeds the draws, and the one draw of dynamic pixels that all runs are judged on."""
    mode: Mode = "auto"
    """How the programs are run, as in `training`."""


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
    """How latents are inferred."""
    bound: Bound = ELBO()
    """What is maximised."""
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
        guide = named("amortized_normal")(tables.get("guide", {}))
        shared = {key: model[key] for key in ("hidden", "activation") if key in model}
        return {**tables, "guide": {**shared, **guide} if isinstance(guide, dict) else guide}

    @model_validator(mode="after")
    def _check_parts(self) -> Recipe:
        layers, guide, patience = len(self.model.z_dim), self.guide.name, self.training.patience
        if layers > 1 and guide != "hierarchical_normal":
            raise ValueError(
                f"`guide.name` must be 'hierarchical_normal' for the {layers} layers of `model.z_dim`, got {guide!r}"
            )
        for key, hidden in (("model.hidden", self.model.hidden), ("guide.hidden", self.guide.hidden)):
            if len(hidden) not in (1, layers):
                raise ValueError(
                    f"`{key}` must be one list of widths, or one for each of the layers of `model.z_dim`, {layers}, "
                    f"got {len(hidden)}"
                )
        if patience is not None and not self.data.validation:
            raise ValueError(f"`data.validation` must be positive with `training.patience` = {patience}, got 0")
        if self.training.schedule == "plateau" and not self.data.validation:
            raise ValueError("`data.validation` must be positive with `training.schedule` = 'plateau', got 0")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The recipe in full, every default written out, as TOML can hold it."""
        return self.model_dump(mode="json", exclude_none=True)

    def dumps(self) -> str:
        """The recipe in full as TOML; loading it gives an equal recipe."""
        return tomli_w.dumps(self.to_dict())
