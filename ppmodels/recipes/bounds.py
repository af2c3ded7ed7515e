"""The bounds a recipe may name."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from .tables import Table, named

__all__ = ["CIWAE", "ELBO", "IWAE", "MIWAE", "PIWAE", "TVO", "Bound", "Maximised", "Renyi", "VRMax", "WakeSleep"]


class Maximised(Table):
    """What all bounds take."""

    name: str
    num_particles: PositiveInt = 1
    """K, the draws per datum."""
    kl_warmup: NonNegativeInt = 0
    """Steps over which the weight of the KL rises from 0 to 1, 0 for none."""
    label_weight: NonNegativeFloat = 0.0
    """What the log-probability of a known label counts beside the bound, on average over the labelled data."""
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


class WakeSleep(Maximised):
    """The importance-weighted bound for the model; for the guide, data in its wake, dreams in its sleep, or both."""

    name: Literal["wake_sleep"] = "wake_sleep"
    wake: NonNegativeFloat = 0.0
    """The weight of the wake phase in the guide's gradient."""
    sleep: NonNegativeFloat = 1.0
    """The weight of the sleep phase."""
    sleep_every: PositiveInt = 1
    """Updates from one sleep to the next."""


Bound: TypeAlias = Annotated[
    ELBO | IWAE | Renyi | VRMax | MIWAE | PIWAE | CIWAE | TVO | WakeSleep,
    BeforeValidator(named("elbo")),
    Field(discriminator="name"),
]
