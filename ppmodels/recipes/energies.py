"""Recipes of energy models: what has an energy, how it learns without its normaliser, and how that is then found."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from .experiment import Kind, Recipe
from .tables import Table, named
from .training import Judging

__all__ = [
    "RBM",
    "Boltzmann",
    "BoltzmannLearning",
    "ContrastiveDivergence",
    "EnergyEvaluation",
    "EnergyModel",
    "EnergyObjective",
    "EnergyRecipe",
    "ExactLikelihood",
    "PersistentContrastiveDivergence",
]

Rate: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
FewBits: TypeAlias = Annotated[int, Field(ge=0, le=20)]


class RBM(Table):
    """A restricted Boltzmann machine."""

    name: Literal["rbm"] = "rbm"
    num_hidden: PositiveInt = 500
    """Hidden bits."""
    units: Literal["bernoulli", "gaussian"] = "bernoulli"
    """What data are: bits, or real numbers."""
    start_at_mean: bool = True
    """Whether the biases of the data's units begin at the data's means."""
    scale: PositiveFloat = 0.01
    """Of the weights at first."""


class Boltzmann(Table):
    """A Boltzmann machine, every unit joined to every other; hidden ones are summed over exactly, and so few."""

    name: Literal["boltzmann"] = "boltzmann"
    num_hidden: FewBits = 0
    """Hidden bits."""
    scale: PositiveFloat = 0.1
    """Of the weights at first."""


EnergyModel: TypeAlias = Annotated[RBM | Boltzmann, BeforeValidator(named("rbm")), Field(discriminator="name")]


class ExactLikelihood(Table):
    """log p(v) itself, its normaliser enumerated at every update: for few bits."""

    name: Literal["exact_likelihood"] = "exact_likelihood"
    most_bits: PositiveInt = 20
    """Refuse to enumerate more."""


class ContrastiveDivergence(Table):
    """Chains of k sweeps that begin at the data."""

    name: Literal["contrastive_divergence"] = "contrastive_divergence"
    k: PositiveInt = 1
    """Sweeps."""
    centre: Rate = 0.0
    """How fast offsets follow the means of the units, 0 for a plain machine."""


class PersistentContrastiveDivergence(Table):
    """Chains that go on from update to update."""

    name: Literal["persistent_contrastive_divergence"] = "persistent_contrastive_divergence"
    k: PositiveInt = 1
    """Sweeps of each chain per update."""
    num_chains: PositiveInt | None = None
    """How many chains; as many as a batch has data where not given."""
    centre: Rate = 0.0
    """How fast offsets follow the means of the units, 0 for a plain machine."""


class BoltzmannLearning(Table):
    """Chains with the data clamped against chains that run free: for a machine too large to enumerate."""

    name: Literal["boltzmann_learning"] = "boltzmann_learning"
    sweeps: PositiveInt = 1
    """Sweeps of each free chain per update."""
    clamped: PositiveInt = 10
    """Sweeps of the hidden units with the data held."""
    num_chains: PositiveInt | None = None
    """How many chains run free; as many as a batch has data where not given."""


EnergyObjective: TypeAlias = Annotated[
    ExactLikelihood | ContrastiveDivergence | PersistentContrastiveDivergence | BoltzmannLearning,
    BeforeValidator(named("persistent_contrastive_divergence")),
    Field(discriminator="name"),
]


class EnergyEvaluation(Judging):
    """How log Z is found, and the draws that the model is judged by."""

    most_bits: NonNegativeInt = 20
    """Enumerate the smaller layer where it has no more bits; anneal from both sides where it has."""
    num_temperatures: Annotated[int, Field(ge=2)] = 1000
    """Steps of an annealed chain."""
    num_chains: Annotated[int, Field(ge=2)] = 100
    """How many chains there are, each way."""
    sweeps: PositiveInt = 1000
    """Sweeps to a draw of the model, and before annealed chains come back."""


class EnergyRecipe(Recipe):
    """A model known up to its normaliser."""

    kind: ClassVar[Kind] = "energy"

    model: EnergyModel
    """What has an energy."""
    objective: EnergyObjective = PersistentContrastiveDivergence()
    """What is followed."""
    evaluation: EnergyEvaluation = EnergyEvaluation()
    """What the result is judged by."""

    @model_validator(mode="before")
    @classmethod
    def _default(cls, tables: Any) -> Any:
        """A machine whose layers are not independent learns exactly where nothing is said."""
        model = tables.get("model") if isinstance(tables, dict) else None
        if model == "boltzmann" or (isinstance(model, dict) and model.get("name") == "boltzmann"):
            return {"objective": "exact_likelihood", **tables}
        return tables

    def problems(self) -> Iterator[str]:
        """What does not go together."""
        yield from super().problems()
        model, objective, protocol = self.model, self.objective, self.data.protocol
        are_bits = protocol not in ("grey", "signed")
        if are_bits == (isinstance(model, RBM) and model.units == "gaussian"):
            wanted = "'dynamic', 'static', 'threshold' or 'binary'" if not are_bits else "'grey' or 'signed'"
            units = "bits" if not are_bits else "real numbers"
            yield f"`data.protocol` must be {wanted} for the model {model.name!r} of {units}, got {protocol!r}"
        if isinstance(objective, ExactLikelihood):
            return
        if isinstance(model, Boltzmann) != isinstance(objective, BoltzmannLearning):
            chains = "boltzmann_learning" if isinstance(model, Boltzmann) else "persistent_contrastive_divergence"
            wanted = f"'exact_likelihood' or '{chains}'"
            yield f"`objective.name` must be {wanted} for the model {model.name!r}, got {objective.name!r}"
        yield from self.without_score(objective.name)
