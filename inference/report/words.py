"""Numbers with their errors, and names, as sentences say them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

__all__ = ["ends", "listed", "measured", "number", "of_data", "percent", "shortened"]


def number(value: float | None) -> str:
    """A number by itself.

    >>> number(0.012344), number(1950.3), number(-math.inf), number(math.nan)
    ('0.01234', '1,950', 'minus infinity', 'not a number')
    """
    if value is None:
        return "not known"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinity" if value > 0 else "minus infinity"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def measured(value: float, error: float, unit: str = "") -> str:
    """A number with its standard error, both to two digits of the error.

    >>> measured(-18.2987, 0.0123), measured(3.0, 0.0, "nats"), measured(3.14159, math.nan)
    ('-18.299 (s.e. 0.012)', '3 nats (s.e. 0)', '3.142 (s.e. not known)')
    """
    shown = f" {unit}" if unit else ""
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return f"{number(value)}{shown} (s.e. {'0' if error == 0 else 'not known'})"
    digits = min(6, max(0, 1 - math.floor(math.log10(error))))
    return f"{value:,.{digits}f}{shown} (s.e. {error:,.{digits}f})"


def percent(share: float, error: float | None = None) -> str:
    """A share, with its standard error where there is one.

    >>> percent(0.123, 0.0147), percent(0.123)
    ('12.3 % (s.e. 1.5 %)', '12.3 %')
    """
    if math.isnan(share):
        return "an unknown share"
    if error is None:
        return f"{100 * share:.1f} %"
    return f"{100 * share:.1f} % (s.e. {'not known' if math.isnan(error) else f'{100 * error:.1f} %'})"


def of_data(share: float, n: int) -> str:
    """A share of n data, whose error is the binomial's.

    >>> of_data(0.25, 300), of_data(0.0, 500)
    ('25.0 % (s.e. 2.5 %) of 300 data', 'none of 500 data')
    """
    if share in (0.0, 1.0):  # the formula has no error there, and chance has
        return f"{'all' if share else 'none'} of {n:,} data"
    return f"{percent(share, math.sqrt(share * (1 - share) / n))} of {n:,} data"


def listed(names: Sequence[object], most: int = 3) -> str:
    """The first few names, and how many more there are.

    >>> listed(["mu", "tau"]), listed(list("abcde"))
    ('`mu`, `tau`', '`a`, `b`, `c` and 2 more')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"`{name}`" for name in names[:most]) + more


def shortened(name: str, most: int = 40) -> str:
    """A name that fits.

    >>> shortened("abcdef", 4)
    'abc…'
    """
    return name if len(name) <= most else f"{name[: most - 1]}…"


def ends(values: Iterable[float]) -> tuple[float, float, float]:
    """The least, the median and the largest of those that are finite; NaN where none is.

    >>> ends([3.0, math.nan, 1.0, math.inf])
    (1.0, 2.0, 3.0)
    """
    finite = [value for value in map(float, values) if math.isfinite(value)]
    return (min(finite), statistics.median(finite), max(finite)) if finite else (math.nan, math.nan, math.nan)
