"""What all recipes say, of whatever kind the model is: what is fitted to which data, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import tomli_w
from pydantic import Field, NonNegativeInt, model_validator

from .tables import Table
from .training import Judging, Training

__all__ = ["Data", "Kind", "Recipe"]

Kind: TypeAlias = Literal["directed", "energy", "implicit", "transition"]
"""The four kinds of model, as in `ppmodels.contracts`."""


PATTERNS = ("heartbeat", "encoder")
"""Data that are bits from the start, see `ppmodels.patterns`."""


class Data(Table):
    """The data, and how the model sees them."""

    name: str
    """A dataset `ppmodels.data.load` knows: digits, mnist or omniglot; or patterns of bits: heartbeat or encoder."""
    protocol: Literal["dynamic", "static", "threshold", "grey", "signed", "binary"] = "dynamic"
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
    """An experiment as data; its kinds say what else belongs to it."""

    kind: ClassVar[Kind]

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """What runs are called."""
    paper: str = ""
    """Whose experiment it is."""
    seed: NonNegativeInt = 0
    """Seeds the first parameters, the order of the data, and all noise."""
    data: Data
    """What is fitted."""
    training: Training
    """How it is fitted, and for how long."""

    @property
    def model_name(self) -> str:
        """The name of the model in the zoo."""
        model: Any = self.__dict__["model"]
        return str(model.name)

    @property
    def judging(self) -> Judging:
        """The table `evaluation`, whatever the kind."""
        found: Judging = self.__dict__["evaluation"]
        return found

    @property
    def aim(self) -> str:
        """The name of what is maximised or played."""
        tables = self.__dict__
        return str((tables["bound"] if "bound" in tables else tables["objective"]).name)

    @model_validator(mode="after")
    def _check_parts(self) -> Recipe:
        for problem in self.problems():
            raise ValueError(problem)
        return self

    def problems(self) -> Iterator[str]:
        """What does not go together, in words."""
        training, model, data = self.training, self.model_name, self.data
        if (data.name in PATTERNS) != (data.protocol == "binary"):
            wanted = "must be 'binary'" if data.name in PATTERNS else "must not be 'binary'"
            yield f"`data.protocol` {wanted} with `data.name` = {data.name!r}, got {data.protocol!r}"
        if self.data.labels and model != "m2":
            yield f"`data.labels` must be 0 for the model {model!r}, which takes none, got {self.data.labels}"
        if training.patience is not None and not self.data.validation:
            yield f"`data.validation` must be positive with `training.patience` = {training.patience}, got 0"
        if training.schedule == "plateau" and not self.data.validation:
            yield "`data.validation` must be positive with `training.schedule` = 'plateau', got 0"

    def without_score(self, of: str) -> Iterator[str]:
        """What cannot be asked where training has no score of held-out data."""
        if self.training.patience is not None:
            yield f"`training.patience` must be left out with `objective.name` = {of!r}, which has no score to wait for"
        if self.training.schedule == "plateau":
            yield f"`training.schedule` must not be 'plateau' with `objective.name` = {of!r}, which has no score"

    def to_dict(self) -> dict[str, Any]:
        """The recipe in full, every default written out, as TOML can hold it."""
        return self.model_dump(mode="json", exclude_none=True)

    def dumps(self) -> str:
        """The recipe in full as TOML; loading it gives an equal recipe."""
        return tomli_w.dumps(self.to_dict())
