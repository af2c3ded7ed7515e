"""What a worker runs: one repeatable piece of work. Standard library only, as peers' environments import it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Workload:
    """A piece of work that can be done again and again.

    Attributes:
        call: does it once; its argument counts the calls, so that batches rotate.
        units: how many steps (or images) one call is worth; times are reported per unit.
        loss: the loss per datum at present, in nats, so that a run shows that all learn the same thing.
        notes: facts for the table, such as a number of floating-point operations.
    """

    call: Callable[[int], object]
    units: float = 1
    loss: Callable[[], float] | None = None
    notes: Mapping[str, float] = field(default_factory=dict)


def run_for(workload: Workload, seconds: float, first: int) -> list[float]:
    """Call for that long, at least three units and one call; milliseconds per unit of each call."""
    end, times = time.perf_counter() + seconds, list[float]()
    while time.perf_counter() < end or not times or workload.units * len(times) < 3:
        start = time.perf_counter()
        workload.call(first + len(times))
        times.append(1e3 * (time.perf_counter() - start) / workload.units)
    return times


def fastest(choices: Iterable[Choice], make: Callable[[Choice], Workload], seconds: float = 0.3) -> Choice:
    """The choice whose workload has the least time per unit, after one call to warm up."""
    best, chosen = math.inf, None
    for choice in choices:
        workload = make(choice)
        workload.call(0)
        time_per_unit = min(run_for(workload, seconds, first=1))
        if time_per_unit < best:
            best, chosen = time_per_unit, choice
    assert chosen is not None
    return chosen
