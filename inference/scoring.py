"""The score of validation data: what tells whether training still helps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from inference.batches import batches, device_of
from inference.graph import Graphed, Mode
from inference.pair import Pair
from inference.seeds import seeded
from inference.sites import first_line
from ppmodels.contracts import Batch, Data

__all__ = ["Scorer"]


@dataclass(eq=False)
class Scorer:
    """The mean of a score over a dataset, in evaluation mode, under the same noise every time.

    Attributes:
        pair: whose programs the score runs.
        function: one value per datum of a batch, higher is better.
        data: what is scored.
        batch_size: data at a time.
        seed: seeds the noise.
        times: how often the data will be scored.
        mode: how the score is run, see `inference.graph`.
        modes: the mode in use by the number of data in a batch.
        warned: reasons for a lower mode that were warned of already.
    """

    pair: Pair
    function: Callable[[Batch], Tensor]
    data: Data
    batch_size: int
    seed: int
    times: int
    mode: Mode = "auto"
    modes: dict[str, str] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.device = device_of(self.data)
        self.graph = Graphed(self.pair, self._tensors, self.mode, self._calls, self.modes, self.warned)

    def check(self) -> None:
        """Score one batch as it comes: what is wrong with the data shows before training."""
        try:
            with seeded(None, self.device), self.pair.mode(training=False), torch.no_grad():
                self.function(next(batches(self.data, self.batch_size)))
        except RuntimeError as error:
            raise ValueError(f"`validation` does not suit the pair: {first_line(error)}") from error

    def __call__(self) -> float:
        """The mean score; not finite where the pair rules a datum out."""
        with seeded(self.seed, self.device), self.pair.mode(training=False), torch.no_grad():
            values = [self.graph(batch)[0][0] for batch in batches(self.data, self.batch_size)]
        return float(torch.cat(values).mean())

    def _tensors(self, batch: Batch) -> tuple[list[Tensor], None]:
        return [self.function(batch)], None

    def _calls(self, n: int) -> int:
        full, rest = divmod(len(self.data), self.batch_size)
        return self.times * (full if n == self.batch_size else int(n == rest))
