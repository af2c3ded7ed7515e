"""What commands print: tables for people, JSON for scripts, one line for what went wrong."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["line", "markdown", "print_table", "to_json"]

Row = Mapping[str, Any]


def to_json(value: Any) -> str:
    """A JSON document; numbers that are not finite, which JSON lacks, become null.

    >>> print(to_json({"khat": float("nan"), "n": (1, 2)}))
    {
      "khat": null,
      "n": [
        1,
        2
      ]
    }
    """
    return json.dumps(_finite(value), indent=2, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def line(label: str, message: object) -> None:
    """Say something on standard error, on one line."""
    print(f"{label}: {' '.join(str(message).split())}", file=sys.stderr)


def print_table(rows: Sequence[Row]) -> None:
    """Print rows under their keys: drawn with rich on a terminal, in plain columns elsewhere."""
    cells = _cells(rows)
    if sys.stdout.isatty():
        _draw(cells, _numeric(rows))
        return
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        justified = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, _numeric(rows), strict=True)
        ]
        print("  ".join(justified).rstrip())


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    head, *body = _cells(rows)
    rule = ["---:" if right else "---" for right in _numeric(rows)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *body))


def _draw(cells: list[list[str]], numeric: list[bool]) -> None:
    from rich.console import Console
    from rich.table import Table

    head, *body = cells
    table = Table(box=None, header_style="bold")
    for name, right in zip(head, numeric, strict=True):
        table.add_column(name, justify="right" if right else "left")
    for row in body:
        table.add_row(*row)
    Console().print(table, markup=False)


def _cells(rows: Sequence[Row]) -> list[list[str]]:
    names = list(rows[0]) if rows else []
    return [names, *([_text(row[name]) for name in names] for row in rows)]


def _numeric(rows: Sequence[Row]) -> list[bool]:
    return [isinstance(value, int | float) for value in rows[0].values()] if rows else []


def _text(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
