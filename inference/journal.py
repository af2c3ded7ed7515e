"""A long calculation as stages of small steps, saved now and then, and taken up again with the same bits.

A stage is a state, tensors by name, and a function that makes the next of it. What is saved is the state of the stage
in hand with that of torch's generators, what the stages before it came to, and the results of the batches done. A
calculation that is over leaves its results there: asked for again, they are read, not computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from inference.checkpoint import Checkpoint, checkpoints, load_checkpoint, save_checkpoint
from inference.progress import Progress
from inference.seeds import rng_state, set_rng_state

__all__ = ["Journal", "State"]

State: TypeAlias = dict[str, Tensor]


class Journal:
    """What has been done of a calculation.

    Args:
        folder: where it is kept; nowhere if `None`.
        identity: what must agree with the calculation found there, by name.
        seconds: least time between two saves.
        device: where tensors go that are read back.
        every: steps between two saves, in the place of `seconds`.

    Attributes:
        results: what the batches done came to, in order.
        moves: steps done.
        modes: the modes that graphs are run in, kept from the beginning.
        bar: told of every step.

    Raises:
        ValueError: if the folder holds another calculation; the message says in what it differs.
        CheckpointError: if what it holds cannot be read.
    """

    def __init__(
        self,
        folder: Path | None,
        identity: Mapping[str, Any],
        *,
        seconds: float = 60.0,
        device: torch.device,
        every: int | None = None,
    ) -> None:
        self.folder = None if folder is None else Path(folder)
        self.every = every
        self.identity, self.seconds, self.device = dict(identity), seconds, device
        self.results: list[State] = []
        self.modes: dict[str, str] = {}
        self.moves = 0
        self.bar: Progress | None = None
        self._done: dict[str, State] = {}
        self._current: tuple[str, int, State] | None = None
        self._rng: dict[str, Tensor] | None = None
        self._saved = time.monotonic()
        found = checkpoints(self.folder) if self.folder is not None else []
        if found:
            self._read(load_checkpoint(found[0]))

    def stage(
        self, name: str, start: Callable[[], State], step: Callable[[State, int], State], num_steps: int
    ) -> State:
        """The state after `num_steps`, from the start or from where it was left."""
        if name in self._done:
            return self._done[name]
        if self._rng is not None:  # the first stage that is not over: the generators stood so then
            set_rng_state(self._rng, self.device)
            self._rng = None
        first, state = 0, None
        if self._current is not None:
            assert self._current[0] == name
            _, first, state = self._current
            self._current = None
        if state is None:
            state = start()
        for t in range(first, num_steps):
            state = step(state, t)
            self.moves += 1
            if self.folder is not None and self._is_due():
                self.save((name, t + 1, state))
            if self.bar is not None:
                self.bar.advance(1)
        self._done[name] = state
        return state

    def _is_due(self) -> bool:
        if self.every is not None:
            return self.moves % self.every == 0
        return time.monotonic() - self._saved >= self.seconds

    def finish(self, result: State) -> None:
        """Keep what a batch came to, and forget how."""
        self.results.append(result)
        self._done = {}

    def save(self, current: tuple[str, int, State] | None = None) -> None:
        """Write down all there is, and the stage in hand."""
        if self.folder is None:
            return
        training = {
            "results": self.results,
            "done": self._done,
            "state": current[2] if current else {},
            "rng": rng_state(self.device),
        }
        progress = {"identity": self.identity, "modes": self.modes, "stage": current[:2] if current else None}
        here = tree_map_only(Tensor, lambda value: value.cpu(), training)
        save_checkpoint(self.folder, Checkpoint(self.moves, {}, here, progress), keep=1)
        self._saved = time.monotonic()

    def _read(self, found: Checkpoint) -> None:
        theirs = found.progress.get("identity", {})
        for name, mine in self.identity.items():
            if theirs.get(name) != mine:
                raise ValueError(
                    f"`checkpoint` {self.folder} is of another calculation: its {name} is {theirs.get(name)!r}, "
                    f"expected {mine!r}; remove that folder, or name another"
                )
        kept = {name: value for name, value in found.training.items() if name != "rng"}
        kept = tree_map_only(Tensor, lambda value: value.to(self.device), kept)
        self.results, self._done = kept["results"], kept["done"]
        stage = found.progress["stage"]
        self._current = (stage[0], stage[1], kept["state"]) if stage else None
        self._rng = found.training["rng"] if stage else None
        self.moves, self.modes = found.step, dict(found.progress["modes"])
