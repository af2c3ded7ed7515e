"""Results as a notebook shows them: a headline, a table and notes, as HTML that sets no colour and leaks no style."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

__all__ = ["fragment", "shown", "spread"]

MOST = 30
"""Rows of a table that are shown unless more are asked for."""

LEFT, RIGHT = ' style="text-align:left"', ' style="text-align:right"'
CAPTION = ' style="caption-side:top; text-align:left; font-weight:bold; color:inherit"'


def fragment(
    headline: str,
    frame: pd.DataFrame | None = None,
    notes: Iterable[str] = (),
    *,
    most: int | None = MOST,
    last: bool = False,
) -> str:
    """A headline, a table below it, and notes below that, as HTML; whatever is text in them is escaped.

    Args:
        headline: what was found, in a sentence.
        frame: the numbers; an index that is no plain count is shown as columns.
        notes: sentences, one item each.
        most: rows that are shown at most; `None` for all of them.
        last: whether these are the last rows, not the first.

    >>> fragment("3 < 4", notes=["a & b"])
    '<p><b>3 &lt; 4</b></p><ul><li>a &amp; b</li></ul>'
    """
    said = [*notes]
    if frame is None or frame.empty:
        top = f"<p><b>{escape(headline)}</b></p>"
    else:
        rows = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
        if most is not None and len(rows) > most:
            said.append(f"the {'last' if last else 'first'} {most:,} of {len(rows):,} rows")
            rows = rows.tail(most) if last else rows.head(most)
        top = _table(headline, rows)
    items = "".join(f"<li>{escape(note)}</li>" for note in said)
    return f"{top}<ul>{items}</ul>" if items else top


def spread(columns: Mapping[str, ArrayLike] | pd.DataFrame) -> pd.DataFrame:
    """A row for each column: mean, least, median and largest of its numbers, and how many are NaN and left out.

    >>> spread({"khat": [0.25, 0.75, float("nan")]}).to_dict("records")
    [{'of': 'khat', 'mean': 0.5, 'least': 0.25, 'median': 0.5, 'largest': 0.75, 'undefined': 1}]
    """
    rows = []
    with np.errstate(invalid="ignore"):  # infinities of both signs have no mean
        for name, values in columns.items():
            of = pd.Series(np.asarray(values), dtype=float)
            row = {"mean": of.mean(), "least": of.min(), "median": of.median(), "largest": of.max()}
            rows.append({"of": name, **row, "undefined": int(of.isna().sum())})
    return pd.DataFrame(rows)


def shown(value: Any) -> str:
    """A cell as it is read: whole numbers in full, others to 4 significant digits, and NaN as NaN.

    >>> [shown(value) for value in (12345, 0.123456, 2.0, 1234567.8, 1.2345e-07, float("nan"), "VAE", None, True)]
    ['12,345', '0.1235', '2.000', '1,234,568', '1.235e-07', 'NaN', 'VAE', 'None', 'True']
    """
    if not _is_number(value):
        return str(value)
    if isinstance(value, Integral):
        return f"{int(value):,}"
    number = float(value)
    if number == 0:
        return "0"
    if 999.95 <= abs(number) < 1e9:
        return f"{number:,.0f}"
    return "NaN" if number != number else f"{number:#.4g}"


def _table(headline: str, frame: pd.DataFrame) -> str:
    """A table of cells; columns of numbers stand to the right, head and all."""
    columns = [frame.iloc[:, j].tolist() for j in range(frame.shape[1])]
    sides = [RIGHT if all(map(_is_number, column)) else LEFT for column in columns]
    head = _row("th", map(str, frame.columns), sides)
    body = "".join(_row("td", map(shown, cells), sides) for cells in zip(*columns, strict=True))
    caption = f"<caption{CAPTION}>{escape(headline)}</caption>" if headline else ""
    return f"<table>{caption}<thead>{head}</thead><tbody>{body}</tbody></table>"


def _row(tag: str, cells: Iterable[str], sides: Iterable[str]) -> str:
    found = (f"<{tag}{side}>{escape(cell)}</{tag}>" for cell, side in zip(cells, sides, strict=True))
    return f"<tr>{''.join(found)}</tr>"


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
