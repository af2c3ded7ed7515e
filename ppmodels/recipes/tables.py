"""What every table of a recipe has in common: how it reads, and the kinds of values it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt

__all__ = [
    "Activation",
    "Hidden",
    "Mode",
    "Sizes",
    "Table",
    "Widths",
    "layered",
    "listed",
    "named",
    "tables_in",
    "variants",
]


class Table(BaseModel):
    """A table of a recipe: unknown keys, numbers written as text, and infinities are refused."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def named(default: str) -> Callable[[Any], Any]:
    """Read `"gaussian_mixture"` as `{name = "gaussian_mixture"}`, and a table without a name as the default's."""

    def read(value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        return {"name": default, **value} if isinstance(value, dict) else value

    return read


def variants(root: type[Table] = Table) -> Mapping[str, frozenset[str]]:
    """By the name of a variant, of whatever part, the keys it takes; of the tables made of `root` up to now."""
    found = list(_variants(root))
    return {name: frozenset().union(*(keys for other, keys in found if other == name)) for name, _ in found}


def _variants(table: type[Table]) -> Iterator[tuple[str, set[str]]]:
    """The names and the keys of all tables below one that have a name."""
    for one in table.__subclasses__():
        field = one.model_fields.get("name")
        if field is not None and isinstance(field.default, str):
            yield field.default, set(one.model_fields)
        yield from _variants(one)


def tables_in(annotation: Any) -> Iterator[type[Table]]:
    """The tables in an annotation: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        yield annotation
    for part in get_args(annotation):
        yield from tables_in(part)


def listed(value: Any) -> Any:
    """Read one number as a list of one."""
    return [value] if isinstance(value, int) else value


def layered(value: Any) -> Any:
    """Read the widths of one net as those of a list of one."""
    widths = listed(value)
    return [widths] if isinstance(widths, list | tuple) and all(isinstance(w, int) for w in widths) else widths


Sizes: TypeAlias = Annotated[tuple[PositiveInt, ...], Field(strict=False, min_length=1)]
Widths: TypeAlias = Annotated[tuple[PositiveInt, ...], Field(strict=False)]
Mode: TypeAlias = Literal["auto", "inductor", "replay", "eager"]
Hidden: TypeAlias = Annotated[tuple[Widths, ...], Field(strict=False, min_length=1), BeforeValidator(layered)]
Activation: TypeAlias = Literal["tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "softplus"]
