r"""One leapfrog of many chains, as one run of a graph.

.. math:: v \mathrel{+}= \tfrac{\epsilon}{2} F^\top \nabla \log \pi(q), \qquad q \mathrel{+}= \epsilon F v, \qquad
          v \mathrel{+}= \tfrac{\epsilon}{2} F^\top \nabla \log \pi(q)

F is a factor of the inverse mass, :math:`F F^\top \approx \mathrm{cov}(q)`: a vector for a diagonal one, a matrix for a
dense one. Momenta v are standard normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from inference.density import Batched, parts_of
from inference.graph import Mode

__all__ = ["Mover", "Phase"]


class Phase(NamedTuple):
    """Where chains are and how they move.

    Attributes:
        q: places, `(C, D)`.
        v: momenta, `(C, D)`.
        grad: of the log density, `(C, D)`.
        log_p: the log density, `(C,)`.
    """

    q: Tensor
    v: Tensor
    grad: Tensor
    log_p: Tensor

    def energy(self) -> Tensor:
        """The Hamiltonian, `(C,)`."""
        return 0.5 * self.v.square().sum(-1) - self.log_p


class Mover:
    """Moves chains along trajectories.

    Args:
        batched: their density.
        data: what it is called with, beside vectors.
        mode: how leapfrogs are run, see `inference.graph`.
        calls: leapfrogs to come, for the mode `auto`.
        num_chains: C.

    Attributes:
        gradient_calls: leapfrogs so far; each moves every chain.
    """

    def __init__(self, batched: Batched, data: Sequence[Tensor], mode: Mode, calls: int, num_chains: int) -> None:
        self.batched, self.data = batched, tuple(data)
        self.graph = batched.graphed(self._leapfrog, mode, lambda n: calls)
        self.num_parts = parts_of(batched.density, num_chains)
        self.gradient_calls = 0

    @property
    def mode(self) -> str:
        """How leapfrogs are run."""
        return self.batched.mode(self.graph)

    def at(self, q: Tensor, factor: Tensor) -> Phase:
        """Log densities and gradients at places, by a leapfrog of no length."""
        nothing = torch.zeros_like(q)
        start = Phase(q, nothing, nothing, nothing[:, 0])
        return self.trajectory(start, q.new_zeros(()), factor, 1)._replace(q=q)

    def trajectory(self, phase: Phase, step: Tensor, factor: Tensor, num_leapfrogs: int) -> Phase:
        """Where chains are after a number of leapfrogs of a length, with a factor of the inverse mass."""
        self.gradient_calls += num_leapfrogs
        if self.num_parts == 1:
            return self._moved(phase, step, factor, num_leapfrogs, self.data)
        parts = zip(
            *(value.tensor_split(self.num_parts) for value in phase),
            *(self._split(value, dim) for value, dim in zip(self.data, self.batched.dims, strict=True)),
            strict=True,
        )
        moved = [self._moved(Phase(*part[:4]), step, factor, num_leapfrogs, part[4:]) for part in parts]
        return Phase(*(torch.cat(values) for values in zip(*moved, strict=True)))

    def _split(self, value: Tensor, dim: int | None) -> Sequence[Tensor]:
        return [value] * self.num_parts if dim is None else value.tensor_split(self.num_parts, dim)

    def _moved(self, phase: Phase, step: Tensor, factor: Tensor, num_leapfrogs: int, data: Sequence[Tensor]) -> Phase:
        known = None
        for _ in range(num_leapfrogs):
            others = (phase.v, phase.grad, step, factor, *data)
            if known is None or known.call is None:
                (q, v, grad, log_p), _ = self.graph(phase.q, *others)
                after = self.graph.find(q, v, grad, step, factor, *data)[1] if num_leapfrogs > 2 else None
                known = after  # the graph of such as these: found once, not at every leapfrog
            else:
                with torch.no_grad():
                    q, v, grad, log_p = known.call(phase.q, *others)
            phase = Phase(q, v, grad, log_p)
        return phase

    def _leapfrog(
        self, q: Tensor, v: Tensor, grad: Tensor, step: Tensor, factor: Tensor, *data: Tensor
    ) -> tuple[Sequence[Tensor], Any]:
        half = 0.5 * step
        v = v + half * across(grad, factor, transpose=True)
        q = q + step * across(v, factor)
        log_p, grad = self.batched(q, *data)
        v = v + half * across(grad, factor, transpose=True)
        return (q.contiguous(), v.contiguous(), grad.contiguous(), log_p.contiguous()), None


def across(rows: Tensor, factor: Tensor, *, transpose: bool = False) -> Tensor:
    r""":math:`F v` of each row, or :math:`F^\top v`."""
    if factor.dim() == 1:
        return rows * factor
    return rows @ (factor if transpose else factor.T)
