"""Bits with a pulse: sequences of which there are five, so that the best bound on them is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ppmodels.data import Dataset, from_array

__all__ = ["Heartbeat"]


@dataclass(frozen=True)
class Heartbeat:
    r"""Sequences with a 1 in every `period`-th place and 0 elsewhere, the first 1 anywhere: as many as the period.

    .. math:: k \sim \mathrm{uniform}\{0, \dots, P - 1\}, \quad x_i = 1 \text{ if } i \equiv k \bmod P \text{ else } 0

    So :math:`\log_2 p(x) = -\log_2 P`, which is -2.322 bits a sequence where the period is 5.

    Args:
        length: of a sequence.
        period: P, from one beat to the next.

    Raises:
        ValueError: if there is no beat for each period.

    Reference: Deep unsupervised learning using nonequilibrium thermodynamics, Sohl-Dickstein, Weiss,
    Maheswaranathan & Ganguli, 2015, arXiv 1503.03585.

    Example:
        >>> Heartbeat(10, 5).patterns()[0]
        tensor([1., 0., 0., 0., 0., 1., 0., 0., 0., 0.])
        >>> Heartbeat().sample(100, seed=1)
        Dataset(heartbeat, all, binary, 100 x 20, cpu)
    """

    length: int = 20
    period: int = 5

    def __post_init__(self) -> None:
        if not 1 <= self.period <= self.length:
            raise ValueError(f"`period` is {self.period}, expected from 1 to the `length`, {self.length}")

    def patterns(self) -> Tensor:
        """Return every possible sequence once, (period, length)."""
        places = torch.arange(self.length)
        return (places % self.period == torch.arange(self.period).unsqueeze(-1)).to(torch.get_default_dtype())

    def sample(self, n: int, *, seed: int = 0) -> Dataset:
        """Draw `n` sequences; the label is the place of the first beat."""
        if n < 1:
            raise ValueError(f"`n` must be at least 1, got {n}")
        k = torch.randint(self.period, (n,), generator=torch.Generator().manual_seed(seed))
        return from_array(self.patterns()[k], protocol="binary", name="heartbeat", labels=k, seed=seed)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x), (n, length) to (n,), in nats; -inf for what is no heartbeat."""
        known = (x.unsqueeze(-2) == self.patterns().to(x)).all(-1).any(-1)  # (n, period, length) to (n,)
        return x.new_full(known.shape, -math.log(self.period)).where(known, -math.inf)
