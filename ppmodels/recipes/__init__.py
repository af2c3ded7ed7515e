"""Experiments as data: TOML files that say what is fitted to what, by which bound, and how it is judged.

Those of posteriors, which are sampled and not fitted, are in `ppmodels.recipes.posterior`.

>>> recipe = load_recipe("digits-vae", {"training.epochs": 3})
>>> recipe.bound.name, recipe.training.epochs
('elbo', 3)
>>> load_recipe("digits-vae", ["training.epoch=3"])
Traceback (most recent call last):
ppmodels.recipes.messages.RecipeError: `training.epoch` is not known; nearest is `training.epochs`
"""

from __future__ import annotations

from pathlib import Path

from .messages import RecipeError, nearest
from .reading import Overrides, load, names_in
from .schema import VARIANTS, Recipe, kind_of

__all__ = ["Recipe", "RecipeError", "load_recipe", "nearest", "recipe_names"]

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The recipes that come with the library."""
    return names_in(FOLDER)


def load_recipe(source: str | Path, overrides: Overrides = ()) -> Recipe:
    """Read a recipe by name, or from a TOML file, and change some of it.

    A file may begin with `extends = "digits-vae"` (a name, or a path seen from the file) and say only what differs.

    Args:
        source: the name of a recipe, or a path that ends in `.toml`.
        overrides: values by dotted key, `{"bound.num_particles": 50}`, or texts `"bound.num_particles=50"` whose
            right sides are read as TOML, or taken as they are where they are none.

    Raises:
        RecipeError: if there is no such recipe, or it says something it may not; the message names the key.
    """
    return load(kind_of, source, overrides, folder=FOLDER, variants=VARIANTS, what="recipe")
