"""Bits in a few patterns, each as likely as the next, so that the best that any model can do on them is known."""

from __future__ import annotations

import abc
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ppmodels.data import Dataset, from_array

__all__ = ["PATTERNS", "Encoder", "Heartbeat", "Patterns"]

NUM_TRAIN, NUM_TEST = 2000, 1000


class Patterns(abc.ABC):
    r"""P equally likely vectors of bits, so that :math:`\log p(x) = -\log P` of each and no model can have more."""

    name: ClassVar[str]

    @abc.abstractmethod
    def patterns(self) -> Tensor:
        """Return every possible vector once, (P, x_dim)."""

    def sample(self, n: int, *, seed: int = 0) -> Dataset:
        """Draw `n` vectors; the label is the number of the pattern."""
        if n < 1:
            raise ValueError(f"`n` must be at least 1, got {n}")
        every = self.patterns()
        k = torch.randint(len(every), (n,), generator=torch.Generator().manual_seed(seed))
        return from_array(every[k], protocol="binary", name=self.name, labels=k, seed=seed)

    def split(self, split: str, *, seed: int = 0) -> Dataset:
        """Return the first 2,000 of a draw under `seed` as "train", 1,000 more as "test", or "all"."""
        drawn = self.sample(NUM_TRAIN + NUM_TEST, seed=seed)
        of = {"train": slice(NUM_TRAIN), "test": slice(NUM_TRAIN, None), "all": slice(None)}
        return replace(drawn.subset(torch.arange(len(drawn))[of[split]]), split=split)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return log p(x), (n, x_dim) to (n,), in nats; -inf for what is no pattern."""
        every = self.patterns().to(x)
        known = (x.unsqueeze(-2) == every).all(-1).any(-1)  # (n, P, x_dim) to (n,)
        return x.new_full(known.shape, -math.log(len(every))).where(known, -math.inf)


@dataclass(frozen=True)
class Heartbeat(Patterns):
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
    name: ClassVar[str] = "heartbeat"

    def __post_init__(self) -> None:
        if not 1 <= self.period <= self.length:
            raise ValueError(f"`period` is {self.period}, expected from 1 to the `length`, {self.length}")

    def patterns(self) -> Tensor:
        """Return every possible sequence once, (period, length)."""
        places = torch.arange(self.length)
        return (places % self.period == torch.arange(self.period).unsqueeze(-1)).to(torch.get_default_dtype())


@dataclass(frozen=True)
class Encoder(Patterns):
    """Two groups of bits with the same one on in both: hidden units have to carry over which it is.

    Args:
        size: bits in a group, and so the number of patterns.

    Raises:
        ValueError: if a group is empty.

    Reference: A learning algorithm for Boltzmann machines, Ackley, Hinton & Sejnowski, 1985, section 4.

    Example:
        >>> Encoder(4).patterns()[1]
        tensor([0., 1., 0., 0., 0., 1., 0., 0.])
    """

    size: int = 4
    name: ClassVar[str] = "encoder"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"`size` is {self.size}, expected bits in each group, at least 1")

    def patterns(self) -> Tensor:
        """Return every possible vector once, (size, 2 * size)."""
        return torch.eye(self.size).repeat(1, 2)


PATTERNS: Mapping[str, Patterns] = {one.name: one for one in (Heartbeat(), Encoder())}
"""By name, as recipes call them."""
