r"""Hamiltonian transitions of many chains at once, at one temperature, with steps that are given.

.. math:: v \sim N(0, I), \qquad v \mathrel{+}= \tfrac{\epsilon}{2} s \nabla \log \pi_\beta(z), \qquad
          z \mathrel{+}= \epsilon s v, \qquad v \mathrel{+}= \tfrac{\epsilon}{2} s \nabla \log \pi_\beta(z)

The scale s of each datum and coordinate is the square root of an inverse mass; the step of each datum is shared by its
chains. So that no trajectory closes on itself, every transition draws one number of leapfrogs and one factor of the
step for all chains: trajectories of one length mix worse, in the directions whose period that length is, and cost more.

References:
    Neal, *MCMC using Hamiltonian dynamics*, 2011, arXiv 1206.1901.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inference.annealing.target import Point, Target
from inference.graph import Graphed, Mode
from ppmodels.contracts import Batch

__all__ = ["DIVERGED", "JITTER", "Kinetics", "Move"]

JITTER = 0.2
"""How far a step may be from its setting, as a part of it."""


DIVERGED = 1000.0
"""Energy that a trajectory may gain before it counts as divergent."""


class Move(NamedTuple):
    """What a transition came to.

    Attributes:
        point: where the chains are.
        chance: with which the ends of their trajectories were accepted, `(C, n)`.
        energy: of where they are, with the momentum they came there or set off with, `(C, n)`.
        diverging: whether their trajectories gained more energy than they may, `(C, n)`.
    """

    point: Point
    chance: Tensor
    energy: Tensor
    diverging: Tensor


class Kinetics:
    """Moves chains; one leapfrog is one run of a graph.

    Args:
        target: the two ends of the path.
        mode: how leapfrogs are run, see `inference.graph`.
        calls: how many leapfrogs with a batch of n data are to come.
        modes: the mode in use by n; what is there beforehand is used as it is.
    """

    def __init__(
        self, target: Target, mode: Mode, calls: Callable[[int], int], modes: dict[str, str] | None = None
    ) -> None:
        self.target = target
        self.graph = Graphed(
            target.pair, self._leapfrog, mode, calls, {} if modes is None else modes, every=1_000_000
        )  # nothing else runs between leapfrogs: whoever lets something else run calls `look`

    def at(self, batch: Batch, z: Tensor) -> Point:
        """Log densities and gradients at z: a leapfrog of no length."""
        nothing = torch.zeros_like(z)
        point, _ = self._move(batch, z, nothing, nothing, nothing, z.new_zeros(()), nothing[0])
        return point._replace(z=z)

    def transition(
        self, batch: Batch, point: Point, beta: Tensor, step: Tensor, scale: Tensor, num_leapfrogs: int
    ) -> Move:
        r"""A transition that leaves :math:`\pi_\beta` as it is.

        What has no finite energy is not gone to.

        Args:
            batch: the data.
            point: where the chains are.
            beta: the temperature, a tensor without axes.
            step: the leapfrogs' length, `(n,)`.
            scale: of each coordinate, `(n, D)`.
            num_leapfrogs: the most in one trajectory; how many is drawn, from 1 to this.
        """
        length = int(torch.randint(1, num_leapfrogs + 1, (), device="cpu"))  # of the host's generator: nobody waits
        v = torch.randn_like(point.z)  # (C, n, D)
        jitter = 1 + JITTER * (2 * torch.rand((), dtype=v.dtype, device=v.device) - 1)
        move = (jitter * step).unsqueeze(-1) * scale  # (n, D)
        before = _energy(point, v, beta)
        new = point
        for _ in range(length):
            new, v = self._move(batch, new.z, v, new.grad_q, new.grad_p, beta, move)
        after = _energy(new, v, beta)  # (C, n)
        chance = (before - after).clamp_max(0).exp().where(after.isfinite(), 0.0).nan_to_num(nan=0.0)
        accepted = torch.rand_like(chance) < chance
        there = Point(*(_choose(accepted, a, b) for a, b in zip(new, point, strict=True)))
        return Move(there, chance, torch.where(accepted, after, before), ~(after - before < DIVERGED))

    def _move(self, batch: Batch, *others: Tensor) -> tuple[Point, Tensor]:
        (*point, v), _ = self.graph(batch, *others)
        return Point(*point), v

    def _leapfrog(
        self, batch: Batch, z: Tensor, v: Tensor, grad_q: Tensor, grad_p: Tensor, beta: Tensor, move: Tensor
    ) -> tuple[Sequence[Tensor], Any]:
        v = v + 0.5 * move * _mix(beta, grad_q, grad_p)
        point = self.target(batch, z + move * v)
        v = v + 0.5 * move * _mix(beta, point.grad_q, point.grad_p)
        return (*point, v), None


def _mix(beta: Tensor, q: Tensor, p: Tensor) -> Tensor:
    """Between the ends; at beta = 1 it is p, whatever q may be there."""
    return beta * p + ((1 - beta) * q).masked_fill(beta >= 1, 0.0)


def _energy(point: Point, v: Tensor, beta: Tensor) -> Tensor:
    """The Hamiltonian, `(C, n)`."""
    return 0.5 * v.square().sum(-1) - _mix(beta, point.log_q, point.log_p) - point.log_det


def _choose(accepted: Tensor, new: Tensor, old: Tensor) -> Tensor:
    return torch.where(accepted.unsqueeze(-1) if new.dim() == 3 else accepted, new, old)
