"""A table as a page holds it: the rows that are read at first as text, and every row as JSON at full precision."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Context, Decimal
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from markupsafe import Markup

from inference.report.blocks import Table

__all__ = ["Column", "Grid", "grid_of", "shown"]

Cell: TypeAlias = str | int | float | bool | None
Kind: TypeAlias = Literal["number", "count", "text"]
"""Of a column: numbers, numbers that are all whole, or anything else."""

NOT_FINITE = ("NaN", "inf", "-inf")
EXACT = 2**53
"""From here on JavaScript's numbers skip integers."""


@dataclass(frozen=True)
class Column:
    """The head of a column: what its cells are, and the term of the glossary that defines it."""

    name: str
    kind: Kind
    term: str | None


@dataclass(frozen=True, eq=False)
class Grid:
    """A table as a page holds it.

    Attributes:
        columns: in their order.
        top: the rows that are there without a script, as they are read.
        rows: how many there are in all.
        data: all of them as JSON, column by column, which nothing in it can end.
    """

    columns: tuple[Column, ...]
    top: list[tuple[str, ...]]
    rows: int
    data: Markup


def grid_of(table: Table, glossary: Mapping[str, str]) -> Grid:
    """The grid of a table; terms that the glossary lacks are left out."""
    frame = table.frame
    cells = [_cells(frame.iloc[:, j]) for j in range(frame.shape[1])]
    terms = [table.terms.get(name) for name in frame.columns]
    columns = tuple(
        Column(str(name), _kind(column), term if term in glossary else None)
        for name, column, term in zip(frame.columns, cells, terms, strict=True)
    )
    top = [[shown(cell, column.kind) for cell in of[: table.top]] for column, of in zip(columns, cells, strict=True)]
    data = {"columns": [one.name for one in columns], "kinds": [one.kind for one in columns], "cells": cells}
    return Grid(columns, list(zip(*top, strict=True)), len(frame), _json(data))


def shown(cell: Cell, kind: Kind = "number") -> str:
    """A cell as it is read: whole numbers in full, others to 4 significant digits; `page.js` does the same.

    >>> [shown(cell) for cell in (0.123456, 2.0, 1234567.8, 1.2345e-07, "NaN", None)]
    ['0.1235', '2.000', '1,234,568', '1.235e-7', 'NaN', '–']
    >>> shown(12345, "count")
    '12,345'
    """
    if cell is None or isinstance(cell, bool):
        return "–" if cell is None else "yes" if cell else "no"
    if isinstance(cell, str):
        return cell
    if cell == 0 or (kind != "number" and _whole(cell)):
        return f"{int(cell):,}"
    rounded = Context(prec=4, rounding=ROUND_HALF_UP).create_decimal(Decimal(cell))
    if 1000 <= abs(rounded) < 10**9:
        return f"{Decimal(cell).quantize(Decimal(1), ROUND_HALF_UP):,f}"
    if Decimal("1e-4") <= abs(rounded) < 1000:
        return f"{rounded.quantize(Decimal(1).scaleb(rounded.adjusted() - 3)):f}"
    return f"{rounded:.3e}"


def _json(data: Any) -> Markup:
    """JSON in ASCII that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("&", r"\u0026").replace("<", r"\u003c").replace(">", r"\u003e"))


def _cells(column: pd.Series[Any]) -> list[Cell]:
    if isinstance(column.dtype, pd.api.extensions.ExtensionDtype):  # where what is missing may look like NaN
        pairs = zip(column.astype(object), column.isna(), strict=True)
        return [None if missing else _plain(value) for value, missing in pairs]
    return [_plain(value) for value in column.to_numpy()]


def _plain(value: Any) -> Cell:
    """A value as JSON can hold it: what is not finite, and integers too long for JavaScript, as text."""
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, np.datetime64) and np.isnat(value)):
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, np.float32 | np.float16):
        value = float(str(value))  # as short as it was written
    if isinstance(value, Integral):
        return int(value) if abs(int(value)) < EXACT else str(value)
    if isinstance(value, Real):
        number = float(value)
        return number if math.isfinite(number) else "NaN" if math.isnan(number) else f"{number}"
    return str(value)


def _kind(cells: Sequence[Cell]) -> Kind:
    finite = [cell for cell in cells if cell is not None and cell not in NOT_FINITE]
    if any(isinstance(cell, str | bool) for cell in finite) or all(cell is None for cell in cells):
        return "text"
    return "count" if finite and all(_whole(cell) for cell in finite) else "number"


def _whole(cell: Cell) -> bool:
    return isinstance(cell, int | float) and float(cell).is_integer() and abs(cell) < EXACT
