"""How a recipe's bound is maximised, and what the result is judged by."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import (
    BeforeValidator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from .tables import Mode, Table, named

__all__ = ["SGD", "Adam", "AdamW", "Adamax", "Evaluation", "Judging", "Optimizer", "Pretraining", "Training"]

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
    average: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a running mean of the parameters, such as 0.999, which is then what is judged; where set."""
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


class Pretraining(Table):
    """Training as an autoencoder before the bound is maximised; then a mixture prior is fitted to the codes."""

    epochs: NonNegativeInt = 0
    """Passes over the data, 0 for none."""
    learning_rate: PositiveFloat = 1e-3
    """The size of the steps."""
    log_scale: float = -2.0
    """Where the logarithm of the guide's scale begins afterwards, of which an autoencoder has learned nothing."""


class Judging(Table):
    """What all evaluations have in common."""

    num_data: NonNegativeInt = 0
    """How many data, the first of the split; 0 for all."""
    batch_size: PositiveInt = 100
    """Data at a time."""
    seed: NonNegativeInt = 0
    """Seeds the draws, and the one draw of dynamic pixels that all runs are judged on."""
    num_samples: Annotated[int, Field(ge=2)] = 10_000
    """Draws of the model, where it is judged by draws alone."""


class Evaluation(Judging):
    """What a fitted pair is judged by."""

    bounds: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = ("elbo", "iwae:5", "iwae:50")
    """The rungs of the ladder: `elbo`, `iwae:K`, `renyi:ALPHA:K` or `vrmax:K`."""
    num_particles: PositiveInt = 5000
    """K of the estimate of log p(x)."""
    mode: Mode = "auto"
    """How the programs are run, as in `training`."""
