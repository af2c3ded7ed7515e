r"""The Boltzmann machine: bits, each joined to each, some of them seen and the others not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppmodels.nets import check_size

from .units import bits_of

__all__ = ["BoltzmannMachine", "BoltzmannPath"]

MOST_HIDDEN = 20
"""Hidden units above which their states are not enumerated."""


class BoltzmannMachine(nn.Module):
    r"""A fully connected Boltzmann machine, :math:`p(s) \propto e^{-E(s)}` over bits :math:`s = (v, h)`.

    .. math:: E(s) = -\tfrac{1}{2} s^\top W s - b^\top s

    with W symmetric and of zero diagonal: of `weight` the part above the diagonal counts. Given the other units each is
    on with probability :math:`\sigma(W_i s + b_i)`, and neither layer is independent given the other, so units are
    drawn one by one. Up to 20 hidden units the free energy is exact, whatever the number of visible ones. Where these
    too are few, `inference.contrastive.ExactLikelihood` trains the machine; where not,
    `inference.clamped.BoltzmannLearning` does, by chains.

    Arguments:
        num_visible: bits that are data.
        num_hidden: bits that are not, 0 for none; then the likelihood is concave.
        scale: of the weights at first, which are normal.

    Raises:
        ValueError: a size is out of range.

    References:
        A Learning Algorithm for Boltzmann Machines (Ackley, Hinton and Sejnowski, 1985)

    Example:
        >>> machine = BoltzmannMachine(4, 2)
        >>> machine.free_energy(torch.eye(4)).shape, machine.sample(3, sweeps=10).shape
        (torch.Size([4]), torch.Size([3, 4]))
    """

    def __init__(self, num_visible: int, num_hidden: int = 0, *, scale: float = 0.1) -> None:
        super().__init__()
        self.num_visible = check_size("num_visible", num_visible)
        self.num_hidden = check_size("num_hidden", num_hidden, least=0)
        size = num_visible + num_hidden
        self.weight = nn.Parameter(scale * torch.randn(size, size))
        self.bias = nn.Parameter(torch.zeros(size))

    @property
    def coupling(self) -> Tensor:
        """W, symmetric and of zero diagonal."""
        above = self.weight.triu(1)
        return above + above.T

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E, `(..., num_visible)` and `(..., num_hidden)` to `(...)`, in nats."""
        return self._energy(torch.cat([v, h], -1))

    def _energy(self, s: Tensor) -> Tensor:
        return -((s @ self.weight.triu(1)) * s).sum(-1) - s @ self.bias

    def free_energy(self, v: Tensor) -> Tensor:
        r""":math:`-\log \sum_h e^{-E(v, h)}`, `(n, num_visible)` to `(n,)`, by all states of the hidden units."""
        if self.num_hidden > MOST_HIDDEN:
            raise ValueError(f"`num_hidden` is {self.num_hidden}, whose states are enumerated: expected at most 20")
        h = bits_of(torch.arange(2**self.num_hidden, device=v.device), self.num_hidden, like=v)
        coupling, D = self.coupling, self.num_visible
        field = v @ coupling[:D, D:]  # (n, num_hidden)
        joint = field @ h.T - self._energy(torch.cat([h.new_zeros(len(h), D), h], -1))  # (n, 2^num_hidden)
        return self._energy(torch.cat([v, v.new_zeros(len(v), self.num_hidden)], -1)) - joint.logsumexp(-1)

    def sides(self) -> Sequence[tuple[int, Callable[[Tensor], Tensor]]]:
        """The visible units: given them the hidden ones are enumerated too."""
        return [(self.num_visible, lambda k: self.free_energy(bits_of(k, self.num_visible, like=self.weight)))]

    @torch.no_grad()
    def sweep(self, state: Tensor, *, beta: Tensor | float = 1.0, clamp: bool = False) -> Tensor:
        """Draw every unit once, in order, given the others: leaves :math:`p(s)^\\beta` as it is.

        Arguments:
            state: of all units, `(n, num_visible + num_hidden)`.
            beta: inverse temperature; from low to high it is annealing.
            clamp: leave the visible units as they are.
        """
        return _sweep(state, beta * self.coupling, beta * self.bias, first=self.num_visible if clamp else 0)

    @torch.no_grad()
    def sample(self, n: int = 1, *, sweeps: int = 1000) -> Tensor:
        """The visible units of n Gibbs chains that begin at fair coins and cool down on the first half of the way."""
        s = self.bias.new_full((n, len(self.bias)), 0.5).bernoulli()
        for step in range(check_size("sweeps", sweeps)):
            s = self.sweep(s, beta=min(1.0, 2 * (step + 1) / sweeps))
        return s[:, : self.num_visible]

    def path(self) -> BoltzmannPath:
        """From independent bits with these biases to the machine."""
        return BoltzmannPath(self)


class BoltzmannPath:
    r"""Units without couplings at 0, the machine at 1: :math:`f_\beta(s) = e^{b^\top s + \beta s^\top W s / 2}`."""

    def __init__(self, machine: BoltzmannMachine) -> None:
        self.machine = machine

    @property
    def log_z0(self) -> Tensor:
        """0-d."""
        return softplus(self.machine.bias).sum()

    def start(self, n: int) -> Tensor:
        """Independent bits, `(n, units)`."""
        return torch.sigmoid(self.machine.bias).expand(n, -1).bernoulli()

    def advance(self, state: Tensor, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """The log ratio at `state`, `(n, units)` to `(n,)`, and a sweep at `there`."""
        machine = self.machine
        ratio = (there - here) * ((state @ machine.weight.triu(1)) * state).sum(-1)
        return ratio, _sweep(state, there * machine.coupling, machine.bias)


def _sweep(s: Tensor, coupling: Tensor, bias: Tensor, *, first: int = 0) -> Tensor:
    """Draw every unit from `first` on, in order, given all others, `(n, units)`."""
    s = s.clone()
    for i in range(first, s.shape[-1]):
        s[:, i] = torch.sigmoid(s @ coupling[i] + bias[i]).bernoulli()
    return s
