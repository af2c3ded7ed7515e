"""Estimators by the names a recipe or a command line gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from inference.estimators.base import Estimator
from inference.estimators.continuous import STL, DReG, Pathwise
from inference.estimators.discrete import VIMCO, Control, ReweightedWakeSleep, ScoreFunction, ThermodynamicCovariance
from inference.estimators.enumeration import Enumeration
from inference.estimators.relaxed import GumbelSoftmax, StraightThrough

__all__ = ["SPELLINGS", "parse_estimator"]

SPELLINGS = (
    "pathwise",
    "stl",
    "dreg",
    "score[:CONTROL]",
    "vimco",
    "vimco-arithmetic",
    "rws",
    "rws-dreg",
    "tvo-covariance",
    "enumeration",
    "gumbel:TEMPERATURE",
    "straight-through:TEMPERATURE",
)
"""What `parse_estimator` reads; what stands in brackets may be left out."""


def parse_estimator(text: str) -> Estimator:
    """Read an estimator: `pathwise`, `stl`, `dreg`, `score:batch`, `vimco`, `rws-dreg`, `gumbel:0.5`, ...

    Raises:
        ValueError: if the text is none of `SPELLINGS`, or its number or control is out of range.

    >>> parse_estimator("gumbel:0.5"), parse_estimator("vimco")
    (GumbelSoftmax(temperature=0.5), VIMCO(mean='geometric'))
    """
    name, colon, setting = text.strip().lower().partition(":")
    if not colon and name in _PLAIN:
        return _PLAIN[name]()
    if setting and name == "score":
        return ScoreFunction(cast(Control, setting))
    try:
        if setting and name in _TEMPERED:
            return _TEMPERED[name](float(setting))
    except ValueError as error:
        raise ValueError(f"`estimator` is {text!r}: {error}") from None
    raise ValueError(f"`estimator` is {text!r}, expected one of {', '.join(SPELLINGS)}")


_PLAIN: dict[str, Callable[[], Estimator]] = {
    "pathwise": Pathwise,
    "stl": STL,
    "dreg": DReG,
    "score": ScoreFunction,
    "vimco": VIMCO,
    "vimco-arithmetic": lambda: VIMCO("arithmetic"),
    "rws": ReweightedWakeSleep,
    "rws-dreg": lambda: ReweightedWakeSleep("dreg"),
    "tvo-covariance": ThermodynamicCovariance,
    "enumeration": Enumeration,
}
_TEMPERED: dict[str, Callable[[float], Estimator]] = {
    "gumbel": GumbelSoftmax,
    "straight-through": StraightThrough,
}
