"""Recipes of implicit models: a generator, what tells its draws from data, and the game between the two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from .experiment import Kind, Recipe
from .priors import NoisePrior, UniformPrior
from .tables import Activation, Sizes, Table, Widths, named
from .training import Judging

__all__ = [
    "GAN",
    "Adversarial",
    "ConvCritic",
    "Critic",
    "ImplicitEvaluation",
    "ImplicitModel",
    "ImplicitRecipe",
    "MLPCritic",
    "MaxoutCritic",
]

Dropped: TypeAlias = Annotated[float, Field(ge=0, lt=1)]


class GAN(Table):
    """A generator: noise from a prior, and a net that makes a datum of it."""

    name: Literal["gan"] = "gan"
    z_dim: PositiveInt = 100
    """Size of the noise."""
    prior: NoisePrior = UniformPrior()
    """Its distribution."""
    net: Literal["mlp", "conv"] = "mlp"
    """Dense layers, or transposed convolutions for square images."""
    hidden: Widths = (400, 400)
    """Widths of the dense layers."""
    channels: Sizes = (64, 32)
    """Feature maps of the convolutions, from the noise on."""
    activation: Activation = "relu"
    """What stands between the dense layers."""
    batch_norm: bool = True
    """Whether layers are normalised over the batch."""
    start_at_mean: bool = True
    """Whether the last bias of dense layers begins at the data's mean."""


ImplicitModel: TypeAlias = Annotated[GAN, BeforeValidator(named("gan"))]


class MaxoutCritic(Table):
    """Layers of maxout with dropout, as in the paper."""

    name: Literal["maxout"] = "maxout"
    units: Sizes = (240, 240)
    """Units of each layer."""
    pieces: PositiveInt = 5
    """Linear maps of each unit, of which the largest counts."""
    dropout: Dropped = 0.5
    """The probability of dropping a unit."""
    dropout_input: Dropped = 0.2
    """The probability of dropping an input."""
    init_range: PositiveFloat = 0.005
    """Weights begin uniform between plus and minus this."""


class MLPCritic(Table):
    """Dense layers."""

    name: Literal["mlp"] = "mlp"
    hidden: Widths = (256, 256)
    """Widths of the layers."""
    activation: Activation = "leaky_relu"
    """What stands between them."""
    dropout: Dropped = 0.0
    """The probability of dropping a unit."""


class ConvCritic(Table):
    """Convolutions, for square images."""

    name: Literal["conv"] = "conv"
    channels: Sizes = (32, 64)
    """Feature maps after each."""


Critic: TypeAlias = Annotated[
    MaxoutCritic | MLPCritic | ConvCritic, BeforeValidator(named("maxout")), Field(discriminator="name")
]


class Adversarial(Table):
    """The game: a discriminator tells draws from data, the generator makes it err."""

    name: Literal["adversarial"] = "adversarial"
    loss: Literal["non_saturating", "minimax"] = "non_saturating"
    """The generator's."""
    smoothing: Dropped = 0.0
    """What the discriminator's targets for data fall short of 1."""
    every: PositiveInt = 1
    """Updates of the discriminator to one of the generator."""
    noise: NonNegativeFloat = 0.0
    """The scale of normal noise on all that the discriminator sees, data and draws alike."""
    generator_rate: PositiveFloat | None = None
    """The generator's learning rate, where it is not `training.learning_rate`."""


class ImplicitEvaluation(Judging):
    """What draws are judged by."""


class ImplicitRecipe(Recipe):
    """A model known by its draws alone."""

    kind: ClassVar[Kind] = "implicit"

    model: ImplicitModel
    """What draws."""
    discriminator: Critic = MaxoutCritic()
    """What tells the draws from data."""
    objective: Adversarial = Adversarial()
    """What is played."""
    evaluation: ImplicitEvaluation = ImplicitEvaluation()
    """What the result is judged by."""

    def problems(self) -> Iterator[str]:
        """What does not go together."""
        yield from super().problems()
        if self.data.protocol == "signed":
            yield f"`data.protocol` must not be 'signed' for the model {self.model.name!r}, whose draws end at 0 and 1"
        yield from self.without_score(self.objective.name)
