"""The priors a recipe may name."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt

from .tables import Table, Widths, named

__all__ = [
    "Autoregressive",
    "BernoulliPrior",
    "BitsPrior",
    "DirichletSticks",
    "FlowPrior",
    "GaussianMixture",
    "Horseshoe",
    "NADEPrior",
    "NoisePrior",
    "Normal",
    "Prior",
    "SpikeAndSlab",
    "StandardNormal",
    "StickBreaking",
    "StickBreakingMixture",
    "SticksPrior",
    "StudentT",
    "UniformPrior",
    "VampPrior",
]


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
    """A learned mixture of normals."""

    name: Literal["gaussian_mixture"] = "gaussian_mixture"
    components: PositiveInt = 10
    """How many normals."""
    covariance: Literal["diagonal", "full", "tied"] = "diagonal"
    """What shape they have: along the axes, any of its own, or any but all the same."""
    spread: Annotated[float, Field(ge=0, lt=1)] = 0.75
    """The share of the starting variance that lies between their locations."""
    weights: Literal["learned", "equal"] = "learned"
    """Whether some may weigh more than others."""


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


class StickBreakingMixture(Table):
    """A learned mixture of normals, weighted by a broken stick."""

    name: Literal["stick_breaking_mixture"] = "stick_breaking_mixture"
    components: Annotated[int, Field(ge=2)] = 20
    """How many normals, at most."""
    concentration: PositiveFloat = 1.0
    """How many of them count."""


class Autoregressive(Table):
    """Each coordinate a mixture of normals given those before it; needs the extra `flows`."""

    name: Literal["autoregressive"] = "autoregressive"
    hidden: Widths = (64,)
    """Widths of the net."""
    components: PositiveInt = 5
    """How many normals for each coordinate."""


class StudentT(Table):
    """Normals whose precision is drawn from a gamma."""

    name: Literal["student_t"] = "student_t"
    df: PositiveFloat = 5.0
    """Degrees of freedom: fewer have heavier tails."""
    learned: bool = False
    """Whether scales and degrees of freedom are parameters."""


class Horseshoe(Table):
    """Normals whose scale is drawn from a half-Cauchy: most coordinates near zero, some far from it."""

    name: Literal["horseshoe"] = "horseshoe"
    scale: PositiveFloat = 1.0
    """How far is far."""
    learned: bool = False
    """Whether it is a parameter."""


class SpikeAndSlab(Table):
    """Each coordinate a narrow normal or a wide one: next to zero, or anywhere."""

    name: Literal["spike_and_slab"] = "spike_and_slab"
    probs: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """How often a coordinate is anywhere."""
    spike: PositiveFloat = 0.05
    """The scale of the narrow one."""
    slab: PositiveFloat = 1.0
    """The scale of the wide one."""
    learned: bool = False
    """Whether all three are parameters."""


class StickBreaking(Table):
    """Breaks of a stick, each as likely as the last: the weights of a Dirichlet process."""

    name: Literal["stick_breaking"] = "stick_breaking"
    concentration: PositiveFloat = 5.0
    """How many weights count; where it starts, if it is learned."""
    learned: bool = False
    """Whether it is a parameter."""


class DirichletSticks(Table):
    """Breaks of a stick that make the weights of a symmetric Dirichlet."""

    name: Literal["dirichlet_sticks"] = "dirichlet_sticks"
    concentration: PositiveFloat = 1.0
    """1 is uniform, less makes few weights large."""


class BernoulliPrior(Table):
    """Independent bits."""

    name: Literal["bernoulli"] = "bernoulli"
    logit: float = 0.0
    """Where the logit of each bit starts."""


class NADEPrior(Table):
    """Bits that depend on those before them."""

    name: Literal["nade"] = "nade"
    features: PositiveInt | None = None
    """Hidden units; as many as there are bits where not given."""


class UniformPrior(Table):
    """A box around 0 with the same density everywhere: mean 0, variance 1."""

    name: Literal["uniform"] = "uniform"


BitsPrior: TypeAlias = Annotated[
    BernoulliPrior | NADEPrior, BeforeValidator(named("bernoulli")), Field(discriminator="name")
]

SticksPrior: TypeAlias = Annotated[
    StickBreaking | DirichletSticks, BeforeValidator(named("stick_breaking")), Field(discriminator="name")
]

Prior: TypeAlias = Annotated[
    StandardNormal
    | Normal
    | GaussianMixture
    | StickBreakingMixture
    | VampPrior
    | FlowPrior
    | Autoregressive
    | StudentT
    | Horseshoe
    | SpikeAndSlab,
    BeforeValidator(named("standard_normal")),
    Field(discriminator="name"),
]

NoisePrior: TypeAlias = Annotated[
    UniformPrior
    | StandardNormal
    | Normal
    | GaussianMixture
    | StickBreakingMixture
    | FlowPrior
    | Autoregressive
    | StudentT
    | Horseshoe
    | SpikeAndSlab,
    BeforeValidator(named("uniform")),
    Field(discriminator="name"),
]
"""Of what is only drawn from, and never inferred."""
