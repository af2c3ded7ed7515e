"""The programs and the data that a recipe of a posterior may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt

from .tables import Table, named

__all__ = [
    "STUDIES",
    "Clumps",
    "DPMixture",
    "EightSchools",
    "Groups",
    "HiddenMarkov",
    "HierarchicalLogistic",
    "Program",
    "ProgramTable",
    "Regimes",
    "Schools",
    "Study",
    "StudyTable",
]

AtLeastTwo: TypeAlias = Annotated[int, Field(ge=2)]


class ProgramTable(Table):
    """A program of `ppmodels.programs`, and its options."""

    name: str


class EightSchools(ProgramTable):
    """Effects that resemble each other."""

    name: Literal["eight_schools"] = "eight_schools"
    loc_scale: PositiveFloat = 5.0
    """The scale of the prior of their mean."""
    tau_scale: PositiveFloat = 5.0
    """The scale of the prior of their standard deviation."""


class HierarchicalLogistic(ProgramTable):
    """Logistic regression with coefficients by group."""

    name: Literal["hierarchical_logistic"] = "hierarchical_logistic"
    loc_scale: PositiveFloat = 2.5
    """The scale of the prior of a coefficient's mean over groups."""
    tau_scale: PositiveFloat = 1.0
    """The scale of the prior of its standard deviation over groups."""


class DPMixture(ProgramTable):
    """A Dirichlet process mixture of normals."""

    name: Literal["dp_mixture"] = "dp_mixture"
    sticks: AtLeastTwo = 8
    """The pieces that the stick is broken into: the truncation."""
    centre: float = 0.0
    """The mean of the locations."""
    spread: PositiveFloat = 1.0
    """Their standard deviation."""
    width: PositiveFloat = 0.3
    """The median of the scales."""


class HiddenMarkov(ProgramTable):
    """A hidden Markov model with normal emissions."""

    name: Literal["hidden_markov"] = "hidden_markov"
    states: AtLeastTwo = 2
    """How many states."""
    centre: float = 0.0
    """Where the lowest state's mean is expected."""
    spread: PositiveFloat = 1.0
    """Its standard deviation, and how far apart the means of states are expected."""
    width: PositiveFloat = 1.0
    """The scale of the prior of the states' scales."""
    persistence: Annotated[float, Field(ge=0)] = 2.0
    """What a state counts more among its own successors."""


class StudyTable(Table):
    """Data of `ppmodels.studies`, and their options."""

    name: str


class Schools(StudyTable):
    """The eight schools."""

    name: Literal["schools"] = "schools"


class Groups(StudyTable):
    """Synthetic outcomes in groups."""

    name: Literal["groups"] = "groups"
    n: PositiveInt = 400
    """How many data."""
    num_groups: PositiveInt = 12
    """How many groups."""
    covariates: PositiveInt = 2
    """How many covariates."""
    seed: NonNegativeInt = 0
    """Seeds the draw."""


class Clumps(StudyTable):
    """Synthetic numbers in clumps."""

    name: Literal["clumps"] = "clumps"
    n: PositiveInt = 80
    """How many data."""
    seed: NonNegativeInt = 0
    """Seeds the draw."""


class Regimes(StudyTable):
    """Synthetic series that switch between two levels."""

    name: Literal["regimes"] = "regimes"
    num_series: PositiveInt = 8
    """How many series."""
    length: PositiveInt = 25
    """Measurements in each."""
    seed: NonNegativeInt = 0
    """Seeds the draw."""


STUDIES: Mapping[str, tuple[str, ...]] = {
    "eight_schools": ("schools",),
    "hierarchical_logistic": ("groups",),
    "dp_mixture": ("clumps",),
    "hidden_markov": ("regimes",),
}
"""The studies that a program can be asked about."""

Program: TypeAlias = Annotated[
    EightSchools | HierarchicalLogistic | DPMixture | HiddenMarkov | None,
    BeforeValidator(named("eight_schools")),
    Field(discriminator="name"),
]

Study: TypeAlias = Annotated[
    Schools | Groups | Clumps | Regimes | None, BeforeValidator(named("schools")), Field(discriminator="name")
]
