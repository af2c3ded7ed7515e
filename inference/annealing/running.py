"""Chains over a whole dataset: in batches of one shape, each under its own seed, saved as they go."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypedDict, get_args

import torch
from torch import Tensor

from inference.annealing.chains import Chains
from inference.annealing.hamiltonian import Kinetics
from inference.annealing.target import Target
from inference.batches import device_of
from inference.draws import default_chunk
from inference.flags import validating
from inference.graph import Mode, check_mode
from inference.journal import Journal, State
from inference.pair import Pair, first_tensor
from inference.particles import site_log_prob
from inference.progress import progress_bar
from inference.schedule import Annealing
from inference.seeds import seeded
from inference.sites import sample_sites
from inference.weights import Source
from ppmodels.contracts import Batch, Data

__all__ = ["How", "Run", "Work", "digest"]

NARROWEST = 128
"""Numbers that a layer is taken to hold for each chain at least, when it is told how many chains fit."""

Work: TypeAlias = Callable[[list[Chains], Tensor], State]
"""What is done on one batch: with its chains, some at a time, and the indices of its data. Gives tensors whose last
axis is the data's."""


class How(TypedDict, total=False):
    """How chains are run; none of it changes what they estimate.

    Attributes:
        seed: seeds the chains, and the data's own noise.
        mode: how the programs are run, see `inference.graph`.
        progress: show a bar; by default where there is a terminal.
        batch_size: data at a time, at most; by default as many as keep a layer near 8 MiB on a CPU, 256 elsewhere.
        checkpoint: a folder to save to and to go on from, with the same bits; results stay there at the end, so that
            the same call reads them back.
        checkpoint_seconds: least time between two saves.
    """

    seed: int
    mode: Mode
    progress: bool | None
    batch_size: int | None
    checkpoint: Path | None
    checkpoint_seconds: float


@dataclass(frozen=True, eq=False)
class Run:
    """Some kind of chains on every datum.

    Attributes:
        pair: the model and its guide.
        data: each datum is read once; the last batch is filled up with others, so that one graph serves all.
        annealing: the settings.
        source: what the chains draw from.
        transitions: of each chain, for the bar and for what is worth compiling.
        extra: what else must agree when a run is taken up again.
        how: see `How`.
    """

    pair: Pair
    data: Data
    annealing: Annealing
    source: Source
    transitions: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    how: How = field(default_factory=How)

    def __post_init__(self) -> None:
        if unknown := sorted(self.how.keys() - How.__annotations__.keys()):
            raise TypeError(f"`{unknown[0]}` is no option, expected some of {', '.join(How.__annotations__)}")
        check_mode(self.mode)
        size = self.how.get("batch_size")
        if size is not None and size < 1:
            raise ValueError(f"`batch_size` is {size}, expected at least 1")

    def results(self, work: Work) -> Generator[State, None, None]:
        """What `work` makes of each batch in turn, less the data that it was filled up with, and its `seconds`."""
        seconds = self.how.get("checkpoint_seconds", 60.0)
        journal = Journal(self.how.get("checkpoint"), self._identity(), seconds=seconds, device=self.device)
        kinetics: Kinetics | None = None
        if len(journal.results) < self.num_batches:
            with self._seeded(0):
                kinetics = self._kinetics(journal)
        total = self.num_batches * self.num_parts(kinetics) * self.transitions
        with progress_bar(self.source, total, done=journal.moves, show=self.how.get("progress")) as journal.bar:
            for b in range(self.num_batches):
                if kinetics is not None and b == len(journal.results):
                    with self._seeded(b):
                        self._run(work, b, journal, kinetics)
                    if b + 1 == self.num_batches:
                        journal.save()
                kept = min(self.rows, len(self.data) - b * self.rows)
                yield {name: value[..., :kept] for name, value in journal.results[b].items()}

    def _kinetics(self, journal: Journal) -> Kinetics:
        """What moves chains, from a look at the first batch."""
        batch = self.data.batch(self._index(0))
        target = Target.of(self.pair, batch, self.annealing.start)
        kinetics = Kinetics(target, self.mode, lambda n: calls, journal.modes)
        calls = self.num_batches * self.num_parts(kinetics) * self.transitions * (1 + self.annealing.num_leapfrogs) // 2
        return kinetics

    def _run(self, work: Work, b: int, journal: Journal, kinetics: Kinetics) -> None:
        begun = time.perf_counter()
        index = self._index(b)
        batch = self.data.batch(index)
        kinetics.graph.look()  # anything may have happened since the last batch
        parts = self.num_parts(kinetics)
        size = math.ceil(self.annealing.num_chains / parts)
        result = work([Chains(self.annealing, kinetics, batch, journal, size, str(i)) for i in range(parts)], index)
        seconds = torch.full((self.rows,), time.perf_counter() - begun, dtype=torch.float64)
        journal.finish({**result, "seconds": seconds})

    def num_parts(self, kinetics: Kinetics | None) -> int:
        """Into how many parts the chains of a batch are split: more than one only where not all of one datum's fit."""
        at_once = 1 if kinetics is not None and not kinetics.target.layout.vectorized else self.most_rows
        return math.ceil(self.annealing.num_chains / at_once)

    @property
    def mode(self) -> Mode:
        return self.how.get("mode", "auto")

    @cached_property
    def device(self) -> torch.device:
        return device_of(self.data)

    @cached_property
    def most_rows(self) -> int:
        """Chains, over all data, that are moved at once."""
        with seeded(None):  # reading may draw noise
            one = first_tensor(self.data.batch(torch.zeros(1, dtype=torch.long)))
        return max(1, default_chunk(one) * one.numel() // max(one.numel(), NARROWEST))

    @cached_property
    def num_batches(self) -> int:
        most = self.how.get("batch_size") or max(1, self.most_rows // self.annealing.num_chains)
        return math.ceil(len(self.data) / most)

    @cached_property
    def rows(self) -> int:
        """Data in a batch, the same in each."""
        return math.ceil(len(self.data) / self.num_batches)

    def _index(self, b: int) -> Tensor:
        return torch.arange(b * self.rows, (b + 1) * self.rows) % len(self.data)

    @contextmanager
    def _seeded(self, b: int) -> Iterator[None]:
        """Evaluate, with noise that is a function of the seed, the kind of chains and the batch."""
        seed = (
            (self.how.get("seed", 0) + 1) * 1_000_003 + len(get_args(Source)) * b + get_args(Source).index(self.source)
        )
        with seeded(seed, self.device), self.pair.mode(training=False), torch.no_grad(), validating(enabled=False):
            yield

    def _identity(self) -> dict[str, Any]:
        """What a run that is taken up again must agree in."""
        if self.how.get("checkpoint") is None:
            return {}
        with self._seeded(0):
            batch = self.data.batch(self._index(0))
            state = self.pair.state(batch) | probe(self.pair, batch)
        return {
            "kind of chains": self.source,
            "annealing": asdict(self.annealing),
            "seed": self.how.get("seed", 0),
            "mode": self.mode,
            "batch size": self.rows,
            "data": json.loads(json.dumps(self.data.describe())),
            "pair": digest(state),
            **self.extra,
        }


def probe(pair: Pair, batch: Batch) -> dict[str, Tensor]:
    """What the programs say of one draw: it changes with what they close over, which no state holds."""
    return {
        f"{program}.{name}": site_log_prob(site).sum().reshape(1)
        for program, trace in zip(("guide", "model"), pair.traces(batch), strict=True)
        for name, site in sample_sites(trace).items()
    }


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values."""
    found = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        found.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
