r"""Bounds by name, as a command line and a recipe write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from inference.bounds.base import Bound
from inference.bounds.lower import CIWAE, ELBO, IWAE, MIWAE, PIWAE
from inference.bounds.posterior import AIS, EUBO, ReverseAIS
from inference.bounds.renyi import CUBO, Renyi, VRMax
from inference.bounds.thermodynamic import TVO
from inference.schedule import Annealing

__all__ = ["SPELLINGS", "parse_bound"]

Numbers = Sequence[str]

SPELLINGS = (
    "elbo", "iwae[:K]", "miwae:M:K", "piwae:M:K", "ciwae:BETA[:K]", "renyi:ALPHA[:K]", "vrmax[:K]", "tvo[:PARTS[:K]]",
    "ais[:T[:CHAINS]]", "tvo-right[:PARTS[:K]]", "cubo:N[:K]", "eubo[:K]", "bdmc[:T[:CHAINS]]",
)  # fmt: skip
"""How bounds are written; what stands in brackets may be left out."""


def parse_bound(text: str) -> tuple[Bound, int | None]:
    """Read a bound and its K, `None` where not given: `elbo`, `iwae:50`, `renyi:0.5:50`, `miwae:8:5`, `cubo:2`, ...

    K counts all draws: `miwae:8:5` takes 40. `bdmc` is reverse AIS, and brings AIS on the same data with it.

    >>> parse_bound("renyi:0.5:50")
    (Renyi(alpha=0.5), 50)
    >>> parse_bound("tvo-right")
    (TVO(partitions=20, side='right', first=0.01), None)
    """
    name, *numbers = text.strip().lower().split(":")
    try:
        bound, rest = _READERS[name.replace("-", "")](numbers)
        K = int(rest[0]) if rest else None
        if len(rest) > 1 or (K is not None and K < 1):
            raise ValueError
    except (KeyError, ValueError, IndexError) as error:
        if str(error).startswith("`"):  # the bound's own reason
            raise ValueError(f"`bounds` has {text!r}: {error}") from None
        raise ValueError(f"`bounds` has {text!r}, expected one of {', '.join(SPELLINGS)}, with K >= 1") from None
    return bound, K


def _grouped(make: Callable[[int], Bound]) -> Callable[[Numbers], tuple[Bound, Numbers]]:
    def read(numbers: Numbers) -> tuple[Bound, Numbers]:
        groups, K = map(int, numbers)
        return make(groups), [str(groups * K)]

    return read


def _annealed(make: Callable[[Annealing], Bound]) -> Callable[[Numbers], tuple[Bound, Numbers]]:
    def read(numbers: Numbers) -> tuple[Bound, Numbers]:
        settings = Annealing()
        if numbers:
            settings = replace(settings, num_temperatures=int(numbers[0]))
        if len(numbers) > 1:
            settings = replace(settings, num_chains=int(numbers[1]))
        return make(settings), [str(settings.num_chains), *numbers[2:]]

    return read


def _thermodynamic(numbers: Numbers, *, right: bool) -> tuple[Bound, Numbers]:
    partitions = int(numbers[0]) if numbers else TVO.partitions
    return TVO(partitions, side="right" if right else "left"), numbers[1:]


def _elbo(numbers: Numbers) -> tuple[Bound, Numbers]:
    if numbers:
        raise ValueError
    return ELBO(), ["1"]


_READERS: dict[str, Callable[[Numbers], tuple[Bound, Numbers]]] = {
    "elbo": _elbo,
    "iwae": lambda numbers: (IWAE(), numbers),
    "vrmax": lambda numbers: (VRMax(), numbers),
    "eubo": lambda numbers: (EUBO(), numbers),
    "renyi": lambda numbers: (Renyi(float(numbers[0])), numbers[1:]),
    "ciwae": lambda numbers: (CIWAE(float(numbers[0])), numbers[1:]),
    "cubo": lambda numbers: (CUBO(float(numbers[0])), numbers[1:]),
    "miwae": _grouped(MIWAE),
    "piwae": _grouped(PIWAE),
    "tvo": lambda numbers: _thermodynamic(numbers, right=False),
    "tvoright": lambda numbers: _thermodynamic(numbers, right=True),
    "ais": _annealed(AIS),
    "bdmc": _annealed(ReverseAIS),
}
