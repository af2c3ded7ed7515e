"""What is wrong with a recipe, in one sentence: the key, what was expected, what was got."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from .tables import Table, tables_in

__all__ = ["RecipeError", "explain", "nearest"]


class RecipeError(ValueError):
    """A recipe is unknown, or says something it may not; the message names the key and the nearest valid one."""


def nearest(word: str, options: Iterable[str]) -> str:
    """The option most like a word, by its last part and as a whole.

    >>> nearest("training.epoch", ["training.steps", "training.epochs", "model.z_dim"])
    'training.epochs'
    >>> nearest("epochs", ["training.steps", "training.epochs", "model.z_dim"])
    'training.epochs'
    """

    def likeness(option: str) -> float:
        tails = difflib.SequenceMatcher(None, word.rpartition(".")[2], option.rpartition(".")[2])
        return tails.ratio() + difflib.SequenceMatcher(None, word, option).ratio()

    return max(options, key=likeness)


def explain(error: ValidationError, kind: type[Table]) -> str:
    """The first thing wrong with a recipe of a kind; an unknown key before a wrong value."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    key, tables = _locate(problem["loc"], kind)
    given, context = problem["input"], problem.get("ctx", {})
    match problem["type"]:
        case "extra_forbidden":
            return _unknown(key, tables, kind)
        case "value_error":
            return str(context["error"])
        case "missing":
            return f"`{key}` is missing. {_sentence(key, tables)}".rstrip()
        case "union_tag_invalid":
            names = [name.strip("'") for name in context["expected_tags"].split(", ")]
            near = nearest(context["tag"], names)
            return f"`{key}.name` must be one of {', '.join(names)}, got {context['tag']!r}; nearest is {near!r}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"`{key}` must be a table, got {given!r}"
        case "tuple_type":
            return f"`{key}` must be a list, got {given!r}"
    wanted = re.sub(r"^\w+ should |, not \d+$| after validation", "", problem["msg"])
    return f"`{key}` must {wanted}, got {given!r}"


def _locate(loc: tuple[int | str, ...], kind: type[Table]) -> tuple[str, list[type[Table]]]:
    """Where an error stands, as a dotted key without the tags of unions, and the tables that may stand there."""
    key = ""
    above: list[type[Table]] = []
    tables: list[type[Table]] = [kind]
    for part in loc:
        if len(tables) > 1:  # pydantic puts the name of the variant in between
            tables = [table for table in tables if table.model_fields["name"].default == part]
            continue
        above = tables
        key += f"[{part}]" if isinstance(part, int) else f".{part}"
        fields = tables[0].model_fields if tables else {}
        tables = list(tables_in(fields[part].annotation)) if part in fields else []
    return key.removeprefix("."), above


def _keys(table: type[Table], prefix: str = "") -> Iterator[str]:
    """Every key a table may hold, those of all variants of its parts included."""
    for name, field in table.model_fields.items():
        yield prefix + name
        for part in tables_in(field.annotation):
            yield from _keys(part, f"{prefix}{name}.")


def _unknown(key: str, tables: list[type[Table]], kind: type[Table]) -> str:
    prefix = key.rpartition(".")[0]
    beside = {f"{prefix}.{name}".removeprefix(".") for name in tables[0].model_fields}
    known = set(_keys(kind))
    if key in known:  # of another variant
        variant, takes = tables[0].model_fields["name"].default, ", ".join(f"`{k}`" for k in sorted(beside))
        return f"`{key}` is not known where `{prefix}.name` is {variant!r}, which takes {takes}"
    if any(key in _keys(other) for other in _siblings(kind)):  # of another kind of model
        takes = ", ".join(f"`{k}`" for k in sorted(beside))
        return f"`{key}` is not known for a model of the kind {getattr(kind, 'kind', '')!r}, which takes {takes}"
    return f"`{key}` is not known; nearest is `{nearest(key, sorted(known))}`"


def _siblings(kind: type[Table]) -> list[type[Table]]:
    """Other kinds of the same: recipes of other kinds of models."""
    above = [base for base in kind.__bases__ if issubclass(base, Table) and base is not Table]
    return [other for base in above for other in base.__subclasses__()]


def _sentence(key: str, tables: list[type[Table]]) -> str:
    """What a key is for."""
    field = tables[0].model_fields.get(key.rpartition(".")[2]) if tables else None
    return (field and field.description) or ""
