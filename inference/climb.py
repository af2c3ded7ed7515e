r"""One ladder: every source of draws is asked once, for all the bounds that are functions of its draws."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from inference.annealing import Pass, anneal_back, anneal_data, posterior_data
from inference.annealing.running import digest, probe
from inference.batches import device_of
from inference.bounds import AIS, ELBO, EUBO, Bound, Estimate, ReverseAIS, estimate, guarantee_of, label_of
from inference.bounds import source_of as source
from inference.bracket import Row
from inference.diagnostics.khat import pareto_khat
from inference.draws import gather
from inference.evaluation import weigh_data
from inference.graph import Mode
from inference.ladder import Ladder
from inference.pair import Pair
from inference.schedule import Annealing
from inference.seeds import seeded
from inference.simulate import Simulated
from inference.weights import Weights
from ppmodels.contracts import Data

__all__ = ["Climb", "How", "Rung", "on_simulated"]


LEAST_ACCEPTANCE = 0.3
"""Of a transition's moves; fewer for a datum are told of."""

LARGEST_RHAT = 1.05
"""Of the log weights of posterior draws; a larger one for a datum is told of."""


@dataclass(eq=False)
class Rung:
    """A bound, its K, and what has been found of it batch by batch."""

    bound: Bound
    num_particles: int
    found: list[Estimate] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def label(self) -> str:
        return label_of(self.bound, self.num_particles)

    @property
    def annealing(self) -> Annealing | None:
        """How its chains are annealed: as the bound says, else a chain for each draw of an annealed bound."""
        found: Annealing | None = getattr(self.bound, "annealing", None)
        if found is None and source(self.bound) in ("annealing", "reverse annealing"):
            return Annealing(num_chains=self.num_particles)
        return found

    def add(self, weights: Weights, drawing: float) -> None:
        """Judge the draws for a batch; `drawing` is what they took, all of them."""
        start = time.perf_counter()
        self.found.append(estimate(self.bound, weights, self.num_particles))
        share = self.num_particles / weights.num_particles
        self.seconds += share * drawing + time.perf_counter() - start

    def row(self) -> Row:
        """The batches put together."""
        numbers = Estimate(*(torch.cat(column) for column in zip(*self.found, strict=True)))
        return Row(
            label=self.label,
            family=self.bound.name,
            direction=self.bound.direction,
            guarantee=guarantee_of(self.bound),
            num_particles=self.num_particles,
            **numbers._asdict(),
            seconds=self.seconds,
            paper=getattr(self.bound, "paper", ""),
            source=source(self.bound),
        )


def on_simulated(rungs: Sequence[Rung]) -> list[Rung]:
    """What is compared on simulated data: the same, AIS beside reverse AIS, and the EUBO of exact draws."""
    found: dict[str, Rung] = {}
    for rung in rungs:
        bound: Bound = rung.bound
        if isinstance(bound, ReverseAIS):
            forward = Rung(AIS(bound.annealing), rung.num_particles)
            found.setdefault(forward.label, forward)
        if isinstance(bound, EUBO):
            bound = EUBO(exact=True)
        found[rung.label] = Rung(bound, rung.num_particles)
    return list(found.values())


@dataclass(frozen=True)
class How:
    """What every way to draw is told; see `compare_bounds`."""

    num_particles: int
    batch_size: int
    chunk: int | None
    seed: int
    mode: Mode
    progress: bool | None
    checkpoint: Path | None


@dataclass(eq=False)
class Climb:
    """Makes one ladder.

    Attributes:
        pair: the model and its guide.
        data: what log p(x) is bounded of.
        how: the settings of the draws.
        simulated: where the data are the model's own, these with the latents they were drawn with.
    """

    pair: Pair
    data: Data
    how: How
    simulated: Simulated | None = None

    def ladder(self, rungs: Sequence[Rung], beside: Ladder | None = None) -> Ladder:
        """Draw from every source that a rung needs, and judge the draws; `beside` is the ladder on simulated data."""
        groups: dict[tuple[str, Annealing | None, int], list[Rung]] = {}
        for rung in rungs:
            K = 0 if source(rung.bound) == "guide" else rung.num_particles  # shared by all, or its own
            groups.setdefault((source(rung.bound), rung.annealing, K), []).append(rung)
        khat, notes = torch.full((len(self.data),), math.nan), []
        for (kind, annealing, _), group in groups.items():
            if kind == "guide":
                khat = self._from_guide(group)
            else:
                notes += self._from_chains(group, annealing or Annealing())
        return Ladder(tuple(rung.row() for rung in rungs), khat, beside, tuple(notes))

    def _from_guide(self, rungs: Sequence[Rung]) -> Tensor:
        """Judge one set of draws by every rung; returns their k-hat per datum."""
        K = max(self.how.num_particles, *(rung.num_particles for rung in rungs))
        passes = weigh_data(
            self.pair,
            self.data,
            K,
            partial(gather, K=K),
            label="bounds",
            batch_size=self.how.batch_size,
            chunk=self.how.chunk,
            seed=self.how.seed,
            mode=self.how.mode,
            progress=self.how.progress,
            analytic_kl=any(isinstance(rung.bound, ELBO) and rung.bound.kl == "analytic" for rung in rungs),
        )
        khat = []
        with closing(passes):
            for weights, seconds in passes:
                for rung in rungs:
                    rung.add(weights, seconds)
                khat.append(pareto_khat(weights.log_w))
        return torch.cat(khat)

    def _from_chains(self, rungs: Sequence[Rung], annealing: Annealing) -> list[str]:
        """Judge annealed or posterior draws; returns what is to be noted of the chains."""
        found = []
        with closing(self._chains(rungs[0], annealing)) as passes:
            for one in passes:
                for rung in rungs:
                    rung.add(one.weights, one.seconds)
                found.append(one)
        return notes_on(rungs[0], found)

    def _chains(self, rung: Rung, annealing: Annealing) -> Generator[Pass, None, None]:
        """The draws of a rung's source, one batch of data after another."""
        how = self.how
        where = how.checkpoint and how.checkpoint / self._name(rung)
        given: Any = {"seed": how.seed, "mode": how.mode, "progress": how.progress, "checkpoint": where}
        kind = source(rung.bound)
        if kind == "annealing":
            return anneal_data(self.pair, self.data, annealing, **given)
        if kind == "reverse annealing":
            assert self.simulated is not None
            return anneal_back(self.pair, self.simulated, annealing, **given)
        draws = math.ceil(rung.num_particles / annealing.num_chains)
        exact = self.simulated.latents if self.simulated else None
        return posterior_data(self.pair, self.data, draws, annealing, latents=exact, **given)

    def _name(self, rung: Rung) -> str:
        """A folder's name for the state of a rung's chains: another pair, other data or settings have their own."""
        on = "simulated" if self.simulated else "data"
        stands_on = hashlib.sha256(f"{self._identity} {rung.annealing} {self.how.mode}".encode()).hexdigest()[:8]
        name = f"{on}-{rung.label}-seed{self.how.seed}-{stands_on}"
        return "".join(letter if letter.isalnum() or letter in "-._" else "-" for letter in name)

    @cached_property
    def _identity(self) -> str:
        """The data, where they are, and the pair's parameters."""
        device = device_of(self.data)
        with seeded(self.how.seed, device), self.pair.mode(training=False), torch.no_grad():
            batch = self.data.batch(torch.arange(1))
            state = self.pair.state(batch) | probe(self.pair, batch)
        return f"{json.dumps(self.data.describe(), sort_keys=True)} {device} {digest(state)}"


def notes_on(rung: Rung, passes: Sequence[Pass]) -> list[str]:
    """What a reader should know of the chains behind a row: few moves accepted, or chains that disagree."""
    acceptance, rhat = (torch.cat([getattr(one, name) for one in passes]) for name in ("acceptance", "rhat"))
    notes = []
    if (stuck := float((acceptance < LEAST_ACCEPTANCE).double().mean())) > 0:
        notes.append(
            f"{rung.label}: fewer than {LEAST_ACCEPTANCE:.0%} of the moves were accepted for {stuck:.0%} of the data: "
            "it is loose there; take more temperatures"
        )
    if guarantee_of(rung.bound) == "limit" and (apart := float((rhat > LARGEST_RHAT).double().mean())) > 0:
        notes.append(
            f"{rung.label}: R-hat is above {LARGEST_RHAT} for {apart:.0%} of the data (the worst "
            f"{float(rhat.nan_to_num().max()):.2f}): the chains have not all found the posterior there, and it may be "
            "off"
        )
    return notes
