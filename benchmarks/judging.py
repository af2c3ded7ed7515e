"""Runs of samplers in turn, and what their draws are worth: all are judged here, by the same functions."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from arviz_stats.base.array import array_stats

from benchmarks.environments import UnavailableError
from benchmarks.harness import Row, Worker, build
from benchmarks.posteriors import Draws, Posterior
from benchmarks.report import Quartiles, quartiles


@dataclass(frozen=True)
class Score:
    """One run, judged.

    Attributes:
        seconds: of warm-up and draws.
        divergences: after warm-up.
        ess: the least bulk ESS of the reference's scalars.
        rhat: the largest of the scalars.
        err: of means, the largest in standard deviations of the reference; `nan` where there is none.
    """

    seconds: float
    divergences: int
    ess: float = math.nan
    rhat: float = math.nan
    err: float = math.nan

    @property
    def speed(self) -> float:
        """Effective draws a second."""
        return self.ess / self.seconds


Judge: TypeAlias = Callable[[Mapping[str, Draws], float, int], Score]  # of draws by site, seconds and divergences


@dataclass
class Found:
    """What was found of one sampler.

    Attributes:
        name: as the tables call it.
        build: seconds of its first call beside warm-up and draws, with nothing cached.
        scores: one a round.
        reason: why it was not measured.
    """

    name: str
    build: float = math.nan
    scores: list[Score] = field(default_factory=list)
    reason: str | None = None

    def spread(self, of: str) -> Quartiles:
        """Of an attribute of the scores, over the rounds."""
        return quartiles([getattr(score, of) for score in self.scores])

    def worst(self, of: str) -> str:
        """The largest of an attribute of the scores."""
        largest = max(getattr(score, of) for score in self.scores)
        return "-" if math.isnan(largest) else f"{largest:.3f}"

    def over(self, other: Found) -> Quartiles | None:
        """How many times as fast, taken in every round; `None` where one of them was not measured."""
        if self.reason or other.reason:
            return None
        return quartiles([a.speed / b.speed for a, b in zip(self.scores, other.scores, strict=True)])


def judge(posterior: Posterior, draws: Mapping[str, Draws], seconds: float, divergences: int) -> Score:
    """Draws by site, against the moments of the reference."""
    scalars, moments = posterior.scalars(draws), posterior.moments()
    return Score(
        seconds,
        divergences,
        ess=min(float(array_stats.ess(value, method="bulk")) for value in scalars.values()),
        rhat=max(float(array_stats.rhat(value)) for value in scalars.values()),
        err=max((float(abs(scalars[n].mean() - mean)) / sd for n, (mean, sd) in moments.items()), default=math.nan),
    )


def measure(rows: Sequence[Row], judged: Judge, rounds: int) -> list[Found]:
    """Build all, then have them sample in turn; what they write is judged and thrown away."""
    with ExitStack() as stack:
        built = [start(row, stack) for row in rows]
        for i in range(1, rounds + 1):
            for worker, found, out in built if i % 2 else reversed(built):
                if worker is None or found.reason:
                    continue
                print(f"round {i}, {found.name}", file=sys.stderr, flush=True)
                try:
                    worker.run(0.0)  # one call, however long it takes
                except UnavailableError as error:
                    found.reason = str(error)
                    continue
                draws, costs = taken(out / f"{i}.npz")
                found.scores.append(judged(draws, costs["seconds"], int(costs["divergences"])))
    return [found for _, found, _ in built]


def start(row: Row, stack: ExitStack) -> tuple[Worker | None, Found, Path]:
    """A sampler that has run once, in a folder of its own, with an empty cache for what it compiles."""
    out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(out / "cache")}
    worker, result = build(replace(row, options={**row.options, "out": str(out)}, variables=cache), stack)
    found = Found(row.name, reason=result.reason)
    if worker is not None:
        found.build = taken(out / "0.npz")[1]["build"]
    return worker, found, out


def taken(path: Path) -> tuple[dict[str, Draws], dict[str, float]]:
    """Draws by site, and costs; the file is removed."""
    with np.load(path) as file:
        values = {name: file[name] for name in file.files}
    path.unlink()
    costs = {name: float(values.pop(name)) for name in ("seconds", "build", "divergences")}
    return values, costs
