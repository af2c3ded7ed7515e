"""What a recipe of a posterior may say: a program and its data, or a fitted pair; and how they are sampled.

>>> recipe = load_posterior("eight-schools", ["sampler.num_samples=50"])
>>> recipe.program.name, recipe.sampler.num_samples
('eight_schools', 50)
>>> load_posterior("eight-schools", ["sampler.samples=50"])
Traceback (most recent call last):
ppmodels.recipes.messages.RecipeError: `sampler.samples` is not known; nearest is `sampler.num_samples`
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import tomli_w
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from .programs import STUDIES, Program, ProgramTable, Study, StudyTable
from .reading import Overrides, load, names_in
from .tables import Mode, Table, variants

__all__ = ["FittedPair", "Posterior", "Sampler", "load_posterior", "posterior_names"]

FOLDER = Path(__file__).parent / "posteriors"

Share: TypeAlias = Annotated[float, Field(gt=0, lt=1)]


class FittedPair(Table):
    """A fitted pair, of whose latents the posterior is wanted, datum by datum."""

    recipe: str | None = None
    """The recipe that it is fitted by, before anything is sampled."""
    changes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """What is changed of that recipe, each as `--set` takes it: "training.epochs=3"."""
    run: str | None = None
    """The folder of a run that has been fitted already, in the place of a recipe."""
    split: Literal["train", "valid", "test", "all"] = "test"
    """Which data."""
    num_data: PositiveInt = 20
    """How many of them, from the first on."""


class Sampler(Table):
    """How a posterior is sampled."""

    backend: Literal["auto", "chees", "nuts", "nutpie"] = "auto"
    """Whose chains: chees, many that adapt together; nuts or nutpie, a few; auto, as suits the program."""
    num_chains: PositiveInt | None = None
    """How many chains, of each datum where a pair's latents are sampled; by default as suits the backend."""
    num_samples: PositiveInt = 500
    """Draws of each chain that are kept."""
    num_warmup: NonNegativeInt = 500
    """Transitions before them, in which chains adapt."""
    seed: NonNegativeInt = 0
    """Seeds starts, transitions and predictions."""
    mode: Mode = "auto"
    """How the density is run."""
    metric: Literal["auto", "diag", "dense"] = "auto"
    """What chains know of the scales of the posterior."""
    target_acceptance: Share | None = None
    """The chance of acceptance that steps adapt to; by default the backend's."""


class Posterior(Table):
    """A posterior to be sampled, as data."""

    name: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    """What runs are called."""
    paper: str = ""
    """Whose experiment it is."""
    program: Program = None
    """What the data are taken to be drawn from."""
    data: Study = None
    """What is observed."""
    pair: FittedPair | None = None
    """A fitted pair, in the place of a program and its data."""
    sampler: Sampler = Sampler()
    """How it is sampled."""

    @model_validator(mode="after")
    def _check_parts(self) -> Posterior:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def _problems(self) -> Iterator[str]:
        """What does not go together."""
        if (self.program is None) == (self.pair is None):
            what = "neither" if self.program is None else "both"
            yield f"`program` or `pair` must be given, one of the two, got {what}"
        if self.program is not None:
            known, got = STUDIES[self.program.name], None if self.data is None else self.data.name
            if got not in known:
                of = f"the program {self.program.name!r}"
                yield f"`data.name` must be one of {', '.join(known)} for {of}, got {got!r}"
        if self.pair is not None:
            if self.data is not None:
                yield "`data` must be left out with `pair`, which has data of its own"
            if (self.pair.recipe is None) == (self.pair.run is None):
                what = "neither" if self.pair.run is None else "both"
                yield f"`pair.recipe` or `pair.run` must be given, one of the two, got {what}"
            if self.pair.changes and self.pair.recipe is None:
                yield "`pair.changes` must be left out with `pair.run`, which is fitted already"
            for key in ("backend", "metric"):
                if (got := getattr(self.sampler, key)) != "auto":
                    yield f"`sampler.{key}` must be left out with `pair`, whose chains are of one kind, got {got!r}"

    def to_dict(self) -> dict[str, Any]:
        """The recipe in full, every default written out, as TOML can hold it."""
        return self.model_dump(mode="json", exclude_none=True)

    def dumps(self) -> str:
        """The recipe in full as TOML; loading it gives an equal recipe."""
        return tomli_w.dumps(self.to_dict())


def posterior_names() -> list[str]:
    """The recipes of posteriors that come with the library."""
    return names_in(FOLDER)


def load_posterior(source: str | Path | Mapping[str, Any], overrides: Overrides = ()) -> Posterior:
    """Read a recipe of a posterior by name, from a TOML file, or from tables, and change some of it; see `load_recipe`.

    Raises:
        RecipeError: if there is no such recipe, or it says something it may not; the message names the key.
    """
    known = {**variants(ProgramTable), **variants(StudyTable)}
    return load(lambda _: Posterior, source, overrides, folder=FOLDER, variants=known, what="recipe of a posterior")
