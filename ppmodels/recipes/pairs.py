"""Recipes of directed models: a story of the data, a guide to its latents, and the bound that both maximise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import model_validator

from .bounds import ELBO, Bound, WakeSleep
from .experiment import Kind, Recipe
from .models import GMVAE, GUIDES, AmortizedNormal, Guide, Helmholtz, Model, VaDE
from .tables import named
from .training import Evaluation, Pretraining

__all__ = ["PairRecipe"]


class PairRecipe(Recipe):
    """A model and its guide, fitted together."""

    kind: ClassVar[Kind] = "directed"

    model: Model
    """What the data are taken to be drawn from."""
    guide: Guide = AmortizedNormal()
    """How latents are inferred; by default as suits the model."""
    bound: Bound = ELBO()
    """What is maximised."""
    pretraining: Pretraining = Pretraining()
    """What comes before, for models that begin at an autoencoder's codes."""
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

    def problems(self) -> Iterator[str]:
        """What does not go together."""
        model, guide, layers = self.model.name, self.guide.name, self.model.layers
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
        yield from super().problems()
        if self.data.protocol == "signed" and self.model.likelihood != "normal":
            yield f"`model.likelihood` must be 'normal' with `data.protocol` = 'signed', got {self.model.likelihood!r}"
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
