"""From a TOML file to tables: what it extends is read first, what is asked for on the command line put last."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import ValidationError

from .messages import RecipeError, explain, nearest
from .tables import Table

__all__ = ["Overrides", "load", "names_in"]

Overrides: TypeAlias = Mapping[str, Any] | Iterable[str]
"""Values by dotted key, `{"bound.num_particles": 50}`, or texts `"bound.num_particles=50"`."""

Variants: TypeAlias = Mapping[str, Set[str]]
"""By the name of a variant, of whatever part, the keys it takes."""

AnyTable = TypeVar("AnyTable", bound=Table)


def names_in(folder: Path) -> list[str]:
    """The recipes of a folder, by name."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def load(
    kind_of: Callable[[Mapping[str, Any]], type[AnyTable]],
    source: str | Path | Mapping[str, Any],
    overrides: Overrides,
    *,
    folder: Path,
    variants: Variants,
    what: str,
) -> AnyTable:
    """Read a recipe by its name in a folder, from a TOML file, or from tables, and change some of it.

    `kind_of` says what kind of recipe the tables are.

    Raises:
        RecipeError: if there is no such recipe, or it says something it may not; the message names the key.
    """
    where: Any = {"folder": folder, "variants": variants, "what": what}
    tables = dict(source) if isinstance(source, Mapping) else _read(source, **where)
    changes = overrides.items() if isinstance(overrides, Mapping) else map(_parse, overrides)
    for key, value in changes:
        nested = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        tables = _merge(tables, nested, variants)
    kind = kind_of(tables)
    try:
        return kind.model_validate(tables)
    except ValidationError as error:
        raise RecipeError(explain(error, kind)) from None


def _read(
    source: str | Path,
    *,
    folder: Path,
    variants: Variants,
    what: str,
    seen: tuple[Path, ...] = (),
    beside: Path = Path(),
) -> dict[str, Any]:
    path = _path(source, folder, what, beside)
    if path in seen:
        raise RecipeError(f"`extends` of {path} leads back to itself: expected another recipe")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise RecipeError(f"{path} is not TOML: {error}") from None
    base = tables.pop("extends", None)
    if base is None:
        return tables
    before = _read(base, folder=folder, variants=variants, what=what, seen=(*seen, path), beside=path.parent)
    return _merge(before, tables, variants)


def _path(source: str | Path, folder: Path, what: str, beside: Path) -> Path:
    if Path(source).suffix == ".toml":
        return (beside / source).resolve()
    if source not in names_in(folder):
        near = nearest(str(source), names_in(folder))
        raise RecipeError(f"`{source}` is no {what}; nearest is `{near}`; a file of your own must end in .toml")
    return folder / f"{source}.toml"


def _parse(override: str) -> tuple[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"`--set` must be key=value, such as training.epochs=3, got {override!r}")
    try:
        (value,) = tomllib.loads(f"value = {text}").values()
    except ValueError:  # no TOML, or more than a value
        value = text
    return key.strip(), value


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any], variants: Variants) -> dict[str, Any]:
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
            change = _merge(_of_variant(before, change, variants), change, variants)
        merged[key] = change
    return merged


def _of_variant(before: Mapping[str, Any], change: Mapping[str, Any], variants: Variants) -> Mapping[str, Any]:
    """What is left of a table where a change names another variant: the keys that one has too."""
    name = change.get("name")
    if name in (None, before.get("name")) or name not in variants:
        return before
    return {key: value for key, value in before.items() if key in variants[name]}
