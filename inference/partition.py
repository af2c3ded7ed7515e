r"""log Z of an energy model: exactly, by enumerating a side of it, or between two annealed estimates.

Chains annealed from a law of known normaliser to the model's give :math:`\mathbb{E}[\hat Z] = Z`, so their logarithm is
too low on average; chains annealed back from the model's own draws give :math:`\mathbb{E}[1 / \hat Z] = 1 / Z`, and are
too high. A number from below alone makes a model look better than it is, by an unknown amount.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from inference.display import fragment
from inference.seeds import seeded
from ppmodels.contracts import AnnealingPath, Energy

__all__ = ["LogZ", "annealed_log_z", "exact_log_z", "log_partition", "smallest_side"]

CHUNK = 2**14
"""States enumerated at a time."""

REACH = 2.241403
"""Standard errors to either end: 1.25 % beyond each, half of what 95 % allows, as a hundred weights are not normal."""


@dataclass(frozen=True)
class LogZ:
    """log Z of a model, in nats.

    Attributes:
        method: "exact", or how it was annealed.
        lower: the forward estimate, too low on average; the exact value where there is one.
        lower_se: its standard error over chains.
        upper: the reverse estimate, too high on average; `None` where only forward chains were run.
        upper_se: its standard error.
        seconds: what it took.
    """

    method: str
    lower: float
    lower_se: float
    upper: float | None
    upper_se: float
    seconds: float

    @property
    def low(self) -> float:
        """A lower end, 2.24 standard errors below the forward estimate."""
        return self.lower - REACH * self.lower_se

    @property
    def high(self) -> float:
        """An upper end; infinite where no chain came back."""
        return math.inf if self.upper is None else self.upper + REACH * self.upper_se

    @property
    def gap(self) -> float:
        """Reverse minus forward estimate; infinite where there is no reverse one."""
        return math.inf if self.upper is None else self.upper - self.lower

    def check_both_sides(self) -> None:
        """Refuse what is known from below alone."""
        if self.upper is None:
            raise ValueError(
                "`log_z` is known from below alone, which overstates every likelihood: expected `annealed_log_z` with "
                "`reverse=True`"
            )

    def to_frame(self) -> pd.DataFrame:
        """Both sides, a row each.

        Raises:
            ValueError: if only forward chains were run.
        """
        self.check_both_sides()
        rows = [("lower", self.lower, self.lower_se), ("upper", self.upper, self.upper_se)]
        return pd.DataFrame(rows, columns=["side", "log_z", "se"]).assign(method=self.method)

    def __str__(self) -> str:
        if self.method == "exact":
            return f"log Z = {self.lower:.3f} nats, exactly"
        if self.upper is None:
            return f"log Z at least {self.low:.3f} nats ({self.method}); nothing is known from above"
        return f"log Z in [{self.low:.3f}, {self.high:.3f}] nats at 95% or more, by {self.method}, {self.gap:.3f} apart"

    def _repr_html_(self) -> str:
        return fragment(str(self), None if self.upper is None else self.to_frame())


def smallest_side(model: Energy) -> tuple[int, Callable[[Tensor], Tensor]]:
    """The side of a model that has the fewest states, with its number of bits."""
    sides = model.sides()
    if not sides:
        raise ValueError(f"`{type(model).__name__}` has no side to enumerate: expected `annealed_log_z(model)`")
    return min(sides, key=lambda side: side[0])


def log_partition(model: Energy) -> Tensor:
    """log Z by enumeration, 0-d, with its gradient: for small models, all of whose states are in memory at once."""
    bits, free_energy = smallest_side(model)
    return torch.logsumexp(-free_energy(torch.arange(2**bits, device=_device(model))), 0)  # over (2^bits,)


@torch.no_grad()
def exact_log_z(model: Energy, *, most_bits: int = 25) -> LogZ:
    """log Z by enumerating the smaller layer, in bounded memory, summed in double precision.

    Args:
        model: with `sides()`, see `ppmodels.contracts.Energy`.
        most_bits: refuse to enumerate more: every bit doubles the time.

    Raises:
        ValueError: if the smallest side has more bits.
    """
    begun = time.monotonic()
    bits, free_energy = smallest_side(model)
    if bits > most_bits:
        raise ValueError(
            f"`model` has {bits} bits to enumerate, expected at most `most_bits` = {most_bits}: take `annealed_log_z`"
        )
    total, numbers = None, torch.arange(min(CHUNK, 2**bits), device=_device(model))
    for first in range(0, 2**bits, len(numbers)):
        part = torch.logsumexp(-free_energy(numbers + first).double(), 0)
        total = part if total is None else torch.logaddexp(total, part)
    assert total is not None
    return LogZ("exact", float(total), 0.0, float(total), 0.0, time.monotonic() - begun)


@torch.no_grad()
def annealed_log_z(
    model: Energy | AnnealingPath,
    *,
    num_temperatures: int = 1000,
    num_chains: int = 100,
    reverse: bool = True,
    sweeps: int = 1000,
    start: Tensor | None = None,
    also_from: Tensor | None = None,
    seed: int = 0,
) -> LogZ:
    """log Z by annealed importance sampling, forward and back.

    Half of the temperatures lie in the last tenth of the way, as in Salakhutdinov and Murray (2008). The chains that
    come back begin at draws of the model: the ends of the forward chains, drawn again by their weights, after so many
    sweeps more. Their side holds as far as these are draws of the model indeed; more sweeps, and starts of other
    sources, tell.

    Args:
        model: with `path()`, or a path of its own, from a base law of your choice.
        num_temperatures: steps of every chain.
        num_chains: how many there are, each way.
        reverse: whether to come back; without, the result is refused in tables.
        sweeps: of the model, before the way back.
        start: draws of the model to come back from, `(chains, ...)`, after the same sweeps.
        also_from: draws to come back from a second time, such as data, which find other modes; the higher end stands.
        seed: of all draws; the caller's random state is left as it is.

    References:
        Annealed Importance Sampling (Neal, 2001), physics/9803008
        On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov and Murray, 2008)
        Accurate and Conservative Estimates of MRF Log-likelihood using Reverse Annealing (Burda, Grosse and
        Salakhutdinov, 2015), arXiv:1412.8566
    """
    for name, value in {"num_temperatures": num_temperatures, "num_chains": num_chains}.items():
        if not isinstance(value, int) or value < 2:
            raise ValueError(f"`{name}` is {value}, expected a whole number, at least 2")
    if not isinstance(sweeps, int) or sweeps < 0:
        raise ValueError(f"`sweeps` is {sweeps}, expected a whole number, 0 for none")
    for name, rows in {"start": start, "also_from": also_from}.items():
        if rows is not None and len(rows) < 2:
            raise ValueError(f"`{name}` has {len(rows)} rows, expected at least 2 chains: one alone has no error")
    if also_from is not None and not reverse:
        raise ValueError("`also_from` is given, but `reverse` is False: nothing comes back")
    begun = time.monotonic()
    path: Any = model if hasattr(model, "advance") else model.path()
    log_z0 = path.log_z0.double()
    betas = _temperatures(num_temperatures).to(path.log_z0)
    with seeded(seed, log_z0.device):
        log_w, state = _anneal(path, path.start(num_chains), betas)
        lower, lower_se = _log_mean(log_w)
        upper, upper_se = None, math.nan
        if reverse:
            state = state[torch.softmax(log_w, 0).multinomial(num_chains, replacement=True)] if start is None else start
            ends = [_back(path, one, betas, sweeps) for one in (state, also_from) if one is not None]
            back, upper_se = max(ends, key=lambda end: REACH * end[1] - end[0])
            upper = float(log_z0) - back
    method = f"AIS-{num_temperatures}x{num_chains}"
    return LogZ(method, float(log_z0) + lower, lower_se, upper, upper_se, time.monotonic() - begun)


def _anneal(path: AnnealingPath, state: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
    """Log weights, `(chains,)`, and the states at the last temperature but for a sweep there."""
    log_w = torch.zeros(len(state), dtype=torch.float64, device=state.device)
    for here, there in pairwise(betas):
        ratio, state = path.advance(state, here, there)
        log_w += ratio
    return log_w, state


def _back(path: AnnealingPath, state: Tensor, betas: Tensor, sweeps: int) -> tuple[float, float]:
    """The log of the mean weight of chains that come back from `state`, after so many sweeps there, and its error."""
    one = betas[-1]
    for _ in range(sweeps):
        _, state = path.advance(state, one, one)
    return _log_mean(_anneal(path, state, betas.flip(0))[0])


def _temperatures(steps: int) -> Tensor:
    """From 0 to 1: a tenth of the steps up to 0.5, four tenths up to 0.9, the rest from there on."""
    places = torch.tensor([0.0, 0.1, 0.5, 1.0], dtype=torch.float64)
    values = torch.tensor([0.0, 0.5, 0.9, 1.0], dtype=torch.float64)
    at = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    segment = torch.searchsorted(places[1:-1], at, right=True)
    share = (at - places[segment]) / (places[segment + 1] - places[segment])
    return torch.lerp(values[segment], values[segment + 1], share)


def _log_mean(log_w: Tensor) -> tuple[float, float]:
    """The log of a mean of weights, and its standard error by the delta method."""
    weights = torch.exp(log_w - log_w.max())
    return float(log_w.max() + weights.mean().log()), float(weights.std() / weights.mean() / math.sqrt(len(weights)))


def _device(model: Any) -> torch.device:
    """Where the parameters are; a model without any is on the CPU."""
    parameters = model.parameters() if hasattr(model, "parameters") else ()
    return next((value.device for value in parameters), torch.device("cpu"))
