r"""The restricted Boltzmann machine: a layer of data, a layer of causes, and weights between the two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import pyro
import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.nn.functional import softplus

from ppmodels.distributions import as_vector
from ppmodels.nets import check_size

from .units import BernoulliUnits, Units, bits_of

__all__ = ["RBM", "HiddenGuide", "RBMPath"]


class RBM(nn.Module):
    r"""A restricted Boltzmann machine, :math:`p(v, h) \propto e^{-E(v, h)}` with bits :math:`h`, centred or not.

    .. math:: E(v, h) = E_{vis}(v) - c^\top (h - \lambda) - (s(v) - \mu)^\top W (h - \lambda)

    where the units of the data say what :math:`E_{vis}` and :math:`s` are: for bits :math:`-b^\top v` and :math:`v`.
    The offsets :math:`\mu, \lambda` change which gradient is followed, not which laws there are: at zero it is the
    plain machine, near the means of the units the centred one, which learns better and the same on flipped data. What
    trains it moves them, see `centre`.

    As a Pyro program it is one over the hidden units given the visible: in the plate `data` site `h` is drawn from
    :math:`p(h \mid v)` and the factor `x` adds :math:`-F(v)`, so that the log joint is :math:`-E(v, h)`, short of
    :math:`\log Z`. Called without `x` it draws `n` data by Gibbs sampling.

    Arguments:
        visible: the layer of the data, or how many bits it has.
        num_hidden: how many hidden bits there are.
        scale: of the weights at first, which are normal.

    Raises:
        ValueError: a size or `scale` is not positive.

    References:
        Training Products of Experts by Minimizing Contrastive Divergence (Hinton, 2002)
        How to Center Deep Boltzmann Machines (Melchior, Fischer and Wiskott, 2016), arXiv:1311.1354

    Example:
        >>> rbm = RBM(4, 3)
        >>> v = torch.eye(4)
        >>> rbm.free_energy(v).shape, rbm.hidden(v).sample().shape, rbm(n=5).shape
        (torch.Size([4]), torch.Size([4, 3]), torch.Size([5, 4]))
    """

    mu: Tensor
    la: Tensor

    def __init__(self, visible: Units | int, num_hidden: int, *, scale: float = 0.01) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"`scale` is {scale}, expected a positive number: equal hidden units would stay equal")
        units: Any = BernoulliUnits(visible) if isinstance(visible, int) else visible
        self.visible_units: Units = units
        self.num_hidden = check_size("num_hidden", num_hidden)
        self.weight = nn.Parameter(scale * torch.randn(units.size, num_hidden))
        self.hidden_bias = nn.Parameter(torch.zeros(num_hidden))
        self.register_buffer("mu", torch.zeros(units.size))
        self.register_buffer("la", torch.zeros(num_hidden))

    def _field(self, v: Tensor) -> Tensor:
        """What the hidden units see of the data, `(..., num_hidden)`."""
        return self.visible_units.statistic(v) @ self.weight + (self.hidden_bias - self.mu @ self.weight)

    def _linear(self, v: Tensor, field: Tensor) -> Tensor:
        """The part of the energy that no hidden unit is in, `(...)`."""
        return self.visible_units.energy(v) + field @ self.la

    def energy(self, v: Tensor, h: Tensor) -> Tensor:
        """E, `(..., num_visible)` and `(..., num_hidden)` to `(...)`, in nats."""
        field = self._field(v)
        return self._linear(v, field) - (h * field).sum(-1)

    def free_energy(self, v: Tensor, hidden: Distribution | None = None) -> Tensor:
        r""":math:`F(v) = -\log \sum_h e^{-E(v, h)}`, `(...)`; `hidden` is `self.hidden(v)` where it is at hand."""
        field = self._field(v) if hidden is None else cast(Any, hidden).base_dist.logits
        return self._linear(v, field) - softplus(field).sum(-1)

    def hidden_free_energy(self, h: Tensor) -> Tensor:
        """Minus the log of the sum, or the integral, of exp(-E) over the data, `(..., num_hidden)` to `(...)`."""
        away = h - self.la
        pull = away @ self.weight.T  # (..., num_visible)
        return pull @ self.mu - away @ self.hidden_bias - self.visible_units.log_partition(pull)

    def hidden(self, v: Tensor) -> TorchDistribution:
        """p(h | v): independent bits."""
        return as_vector(cast(Any, dist.Bernoulli(logits=self._field(v))))

    def visible(self, h: Tensor) -> TorchDistribution:
        """p(v | h): independent units."""
        return self.visible_units.conditional((h - self.la) @ self.weight.T)

    def forward(self, x: Tensor | None = None, *, n: int = 1) -> Tensor:
        x = self.sample(n) if x is None else x
        with pyro.plate("data", len(x), dim=-1):
            hidden = self.hidden(x)
            pyro.sample("h", hidden)
            pyro.factor("x", -self.free_energy(x, hidden))
        return x

    @torch.no_grad()
    def sample(self, n: int = 1, *, sweeps: int = 1000, start: Tensor | None = None, mean: bool = False) -> Tensor:
        """States of n Gibbs chains after so many sweeps, `(n, num_visible)`, from a fair coin for each hidden unit.

        Arguments:
            n: how many chains; where `start` is given, as many as it has rows.
            sweeps: of both layers.
            start: where the chains begin, `(chains, num_visible)`.
            mean: give the means of the last sweep given the hidden units, smoother to look at than draws.
        """
        if start is None:
            h = self.weight.new_full((n, self.num_hidden), 0.5).bernoulli()
        else:
            h = self.hidden(start).sample()
        for _ in range(check_size("sweeps", sweeps) - 1):
            h = self.hidden(self.visible(h).sample()).sample()
        last = self.visible(h)
        return last.mean if mean else last.sample()

    @torch.no_grad()
    def centre(self, x: Tensor, rate: float) -> None:
        """Let the offsets follow the means of data, `(n, num_visible)`, and of their causes; the law stays as it is."""
        mu, la = self.visible_units.statistic(x).mean(0), self.hidden(x).mean.mean(0)
        self.move_offsets(self.mu.lerp(mu, rate), self.la.lerp(la, rate))

    @torch.no_grad()
    def move_offsets(self, mu: Tensor, la: Tensor) -> None:
        """Put the offsets elsewhere, and the biases so that the law stays as it is."""
        self.visible_units.bias.add_(self.weight @ (la - self.la))
        self.hidden_bias.add_((mu - self.mu) @ self.weight)
        self.mu.copy_(mu)
        self.la.copy_(la)

    def sides(self) -> Sequence[tuple[int, Callable[[Tensor], Tensor]]]:
        """Both layers, or the hidden one where the data are real."""
        hidden: list[tuple[int, Callable[[Tensor], Tensor]]] = [(self.num_hidden, self._of_hidden_states)]
        if self.visible_units.countable:
            hidden.append((self.visible_units.size, self._of_visible_states))
        return hidden

    def _of_hidden_states(self, numbers: Tensor) -> Tensor:
        return self.hidden_free_energy(bits_of(numbers, self.num_hidden, like=self.weight))

    def _of_visible_states(self, numbers: Tensor) -> Tensor:
        return self.free_energy(bits_of(numbers, self.visible_units.size, like=self.weight))

    def path(self, base: Units | None = None) -> RBMPath:
        """From independent data by the law of `base`, by default these units in no field, to the machine."""
        return RBMPath(self, self.visible_units if base is None else base)


class RBMPath:
    r"""Data of `base` and fair hidden bits at 0, the machine at 1; in between (Salakhutdinov and Murray 2008)

    .. math:: f_\beta(v) = e^{-(1 - \beta) E_{base}(v) - \beta E_{lin}(v)} \prod_j (1 + e^{\beta a_j(v)})

    with :math:`a(v)` the field of the hidden units and :math:`E_{lin}` what of the energy they are not in.

    Arguments:
        rbm: the machine.
        base: units of the same kind, at best those fitted to the data's means alone.
    """

    def __init__(self, rbm: RBM, base: Units) -> None:
        if type(base) is not type(rbm.visible_units) or base.size != rbm.visible_units.size:
            raise ValueError(
                f"`base` is {base.size} {type(base).__name__}, expected {rbm.visible_units.size} "
                f"{type(rbm.visible_units).__name__}, the units of the machine"
            )
        self.rbm, self.base = rbm, base

    @property
    def log_z0(self) -> Tensor:
        """0-d."""
        nothing = torch.zeros_like(self.rbm.mu)
        return self.base.log_partition(nothing) + softplus(torch.zeros_like(self.rbm.la)).sum()

    def start(self, n: int) -> Tensor:
        """Data of the base law, `(n, num_visible)`."""
        return self.base.conditional(torch.zeros_like(self.rbm.mu)).sample(torch.Size([n]))

    def advance(self, state: Tensor, here: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """The log ratio at `state`, `(n, num_visible)` to `(n,)`, and a sweep at `there`."""
        rbm, field = self.rbm, self.rbm._field(state)
        tilt = (there - here) * (self.base.energy(state) - rbm._linear(state, field))
        ratio = tilt + (softplus(there * field) - softplus(here * field)).sum(-1)
        h = torch.sigmoid(there * field).bernoulli()
        pull = (h - rbm.la) @ rbm.weight.T
        return ratio, rbm.visible_units.between(self.base, there, pull).sample()


class HiddenGuide(nn.Module):
    r"""The exact posterior :math:`p(h \mid v)` of an RBM as a guide: every importance weight is :math:`e^{-F(v)}`.

    Example:
        >>> rbm = RBM(4, 3)
        >>> guide = HiddenGuide(rbm)
        >>> guide(torch.zeros(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(self, rbm: RBM) -> None:
        super().__init__()
        self.rbm = rbm

    def forward(self, x: Tensor) -> Tensor:
        with pyro.plate("data", len(x), dim=-1):
            return pyro.sample("h", self.rbm.hidden(x))
