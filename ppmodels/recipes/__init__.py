"""Experiments as data: TOML files that say what is fitted to what, by which bound, and how it is judged.

>>> recipe = load_recipe("digits-vae", {"training.epochs": 3})
>>> recipe.bound.name, recipe.training.epochs
('elbo', 3)
>>> load_recipe("digits-vae", ["training.epoch=3"])
Traceback (most recent call last):
ppmodels.recipes.messages.RecipeError: `training.epoch` is not known; nearest is `training.epochs`
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from .messages import RecipeError, explain, nearest
from .schema import VARIANTS, Recipe

__all__ = ["Recipe", "RecipeError", "load_recipe", "nearest", "recipe_names"]

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The recipes that come with the library."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(source: str | Path, overrides: Mapping[str, Any] | Iterable[str] = ()) -> Recipe:
    """Read a recipe by name, or from a TOML file, and change some of it.

    A file may begin with `extends = "digits-vae"` (a name, or a path seen from the file) and say only what differs.

    Args:
        source: the name of a recipe, or a path that ends in `.toml`.
        overrides: values by dotted key, `{"bound.num_particles": 50}`, or texts `"bound.num_particles=50"` whose
            right sides are read as TOML, or taken as they are where they are none.

    Raises:
        RecipeError: if there is no such recipe, or it says something it may not; the message names the key.
    """
    tables = _read(source)
    changes = overrides.items() if isinstance(overrides, Mapping) else map(_parse, overrides)
    for key, value in changes:
        nested = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        tables = _merge(tables, nested)
    try:
        return Recipe.model_validate(tables)
    except ValidationError as error:
        raise RecipeError(explain(error)) from None


def _read(source: str | Path, *, seen: tuple[Path, ...] = (), beside: Path = Path()) -> dict[str, Any]:
    path = _path(source, beside)
    if path in seen:
        raise RecipeError(f"`extends` of {path} leads back to itself: expected another recipe")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RecipeError(f"{path} is not TOML: {error}") from None
    base = tables.pop("extends", None)
    return tables if base is None else _merge(_read(base, seen=(*seen, path), beside=path.parent), tables)


def _path(source: str | Path, beside: Path) -> Path:
    if Path(source).suffix == ".toml":
        return (beside / source).resolve()
    if source not in recipe_names():
        near = nearest(str(source), recipe_names())
        raise RecipeError(f"`{source}` is no recipe; nearest is `{near}`; a file of your own must end in .toml")
    return FOLDER / f"{source}.toml"


def _parse(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"`--set` must be key=value, such as training.epochs=3, got {override!r}")
    try:
        (value,) = tomllib.loads(f"value = {text}").values()
    except ValueError:  # no TOML, or more than a value
        value = text
    return key.strip(), value


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Tables over tables, key by key; a variant given by name alone is a table of its name.

    Where a variant takes the place of another, what it does not have goes with the other.
    """
    merged = dict(base)
    if {"epochs", "steps"} & changes.keys():  # either of the two takes the place of the other
        merged = {key: value for key, value in merged.items() if key not in ("epochs", "steps")}
    for key, change in changes.items():
        before = merged.get(key)
        if isinstance(before, str):
            before = {"name": before}
        if isinstance(before, Mapping) and isinstance(change, Mapping):
            change = _merge(_of_variant(before, change), change)
        merged[key] = change
    return merged


def _of_variant(before: Mapping[str, Any], change: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is left of a table where a change names another variant: the keys that one has too."""
    name = change.get("name")
    if name in (None, before.get("name")) or name not in VARIANTS:
        return before
    return {key: value for key, value in before.items() if key in VARIANTS[name]}
