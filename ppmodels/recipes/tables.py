"""What every table of a recipe has in common: how it reads, and the kinds of values it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt

__all__ = ["Activation", "Hidden", "Mode", "Sizes", "Table", "Widths", "layered", "listed", "named"]


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
