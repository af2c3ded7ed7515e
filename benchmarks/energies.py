r"""A step of a restricted Boltzmann machine 784-500, batches and chains of 100: by hand, by our engine, and its floor.

.. math:: \Delta W = \epsilon\, (v^\top p - v'^\top p') / n, \qquad p = \sigma(v W + c), \quad p' = \sigma(v' W + c)

with :math:`v'` what Gibbs sweeps make of chains that go on (PCD-1) or of the data (CD-25). By hand nothing is in it
but that: no energies, no norm, no gradient that is stored; the weights are moved by the products themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus
from torch.optim import SGD

from benchmarks.floor import REPEATS, rate
from benchmarks.hand import X, batches
from benchmarks.harness import Row, Settings, measure, wanted
from benchmarks.kinds import WARMUP, in_modes, our_step
from benchmarks.steps import INDUCTOR, REPLAY
from benchmarks.tables import compare, target
from benchmarks.workload import Workload
from inference.contrastive import ContrastiveDivergence, PersistentContrastiveDivergence
from inference.graph import Mode
from ppmodels.rbm import RBM

HIDDEN, BATCH, RATE, LIMIT = 500, 100, 0.01, 1.1
HAND, COINS, AUTOGRAD = "hand-written, in place", "hand-written, in place, rand < p", "hand-written, autograd and SGD"
FLOOR = "floor: matrix products"
RATIOS = ((None, HAND), (None, FLOOR))


class Case(NamedTuple):
    """How many sweeps there are, and whether chains go on."""

    sweeps: int
    persistent: bool

    def __str__(self) -> str:
        return f"{'PCD' if self.persistent else 'CD'}-{self.sweeps}"


CASES = (Case(1, persistent=True), Case(25, persistent=False))


class Machine:
    """Weights, biases and chains of hidden bits, all moved in place."""

    def __init__(self, case: Case, coin: Callable[[Tensor], Tensor] = torch.bernoulli) -> None:
        self.case, self.coin = case, coin
        self.weight = 0.01 * torch.randn(X, HIDDEN)
        self.visible_bias, self.hidden_bias = torch.zeros(X), torch.zeros(HIDDEN)
        self.chains = torch.bernoulli(torch.full((BATCH, HIDDEN), 0.5))

    @property
    def parameters(self) -> list[Tensor]:
        """Weights and biases."""
        return [self.weight, self.visible_bias, self.hidden_bias]

    def up(self, v: Tensor) -> Tensor:
        """P(h = 1 | v), `(n, 500)`."""
        return torch.addmm(self.hidden_bias, v, self.weight).sigmoid_()

    def down(self, h: Tensor) -> Tensor:
        """P(v = 1 | h), `(n, 784)`."""
        return torch.addmm(self.visible_bias, h, self.weight.t()).sigmoid_()

    def swept(self, h: Tensor) -> Tensor:
        """The data of the last sweep, `(n, 784)`."""
        for _ in range(self.case.sweeps - 1):
            h = self.coin(self.up(self.coin(self.down(h))))
        return self.coin(self.down(h))

    @torch.no_grad()
    def step(self, v: Tensor) -> None:
        """The closed-form gradient: two products, the biases' sums."""
        p = self.up(v)
        fantasy = self.swept(self.chains if self.case.persistent else self.coin(p))
        p_fantasy = self.up(fantasy)
        if self.case.persistent:
            self.chains = self.coin(p_fantasy)
        rate = RATE / len(v)
        self.weight.addmm_(v.t(), p, alpha=rate).addmm_(fantasy.t(), p_fantasy, alpha=-rate)
        self.visible_bias.add_(v.sum(0).sub_(fantasy.sum(0)), alpha=rate)
        self.hidden_bias.add_(p.sum(0).sub_(p_fantasy.sum(0)), alpha=rate)

    def loss(self, v: Tensor) -> Tensor:
        """F at the data less F at the fantasies, whose slope autograd finds; the chains move on."""
        field = torch.addmm(self.hidden_bias, v, self.weight)
        with torch.no_grad():
            fantasy = self.swept(self.chains if self.case.persistent else self.coin(field.sigmoid()))
        at_fantasy = torch.addmm(self.hidden_bias, fantasy, self.weight)
        if self.case.persistent:
            self.chains = self.coin(at_fantasy.detach().sigmoid())
        free = -(v @ self.visible_bias) - softplus(field).sum(-1)
        return (free + fantasy @ self.visible_bias + softplus(at_fantasy).sum(-1)).mean()


def uniform_coin(p: Tensor) -> Tensor:
    """The same draws as `torch.bernoulli(p)`, quicker on a CPU."""
    return (torch.rand_like(p) < p).to(p.dtype)


def in_place(case: tuple[int, bool], *, quick_coins: bool = False) -> Workload:
    """The closed-form step."""
    torch.manual_seed(0)
    machine, data = Machine(Case(*case), uniform_coin if quick_coins else torch.bernoulli), batches(BATCH)
    return Workload(
        lambda i: machine.step(data[i % len(data)]), loss=lambda: missing(*machine.parameters, data[0]).item()
    )


def by_autograd(case: tuple[int, bool]) -> Workload:
    """The step that leaves the gradient to autograd and the update to `torch.optim.SGD`."""
    torch.manual_seed(0)
    machine, data = Machine(Case(*case)), batches(BATCH)
    optimizer = SGD([parameter.requires_grad_() for parameter in machine.parameters], lr=RATE)

    def step(i: int) -> None:
        optimizer.zero_grad(set_to_none=True)
        machine.loss(data[i % len(data)]).backward()
        optimizer.step()

    return Workload(step, loss=lambda: missing(*machine.parameters, data[0]).item())


def training(case: tuple[int, bool], mode: Mode) -> Workload:
    """Ours in one of our modes, by the same SGD."""
    torch.manual_seed(0)
    rbm, data, (sweeps, persistent) = RBM(X, HIDDEN), batches(BATCH), case
    objective = PersistentContrastiveDivergence(sweeps) if persistent else ContrastiveDivergence(sweeps)
    parameters = rbm.weight, rbm.visible_units.bias, rbm.hidden_bias
    loss = lambda: missing(*parameters, data[0]).item()  # noqa: E731
    return our_step(rbm, None, objective, data, mode, partial(SGD, lr=RATE), loss)


@torch.no_grad()
def missing(weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, v: Tensor) -> Tensor:
    """The cross-entropy of data to what the means of their causes make of them, in nats per datum."""
    logits = (v @ weight + hidden_bias).sigmoid() @ weight.t() + visible_bias
    return binary_cross_entropy_with_logits(logits, v, reduction="sum") / len(v)


def products(case: tuple[int, bool]) -> Workload:
    """The products no step can do without: k + 1 times up, k times down, two sums of outer products."""
    v, h, weight = torch.rand(BATCH, X), torch.rand(BATCH, HIDDEN), torch.randn(X, HIDDEN)
    above, below, slope = torch.empty_like(h), torch.empty_like(v), torch.empty_like(weight)
    sweeps = case[0]
    repeats = REPEATS if sweeps == 1 else 1
    work: list[tuple[int, Callable[[], object]]] = [
        (sweeps + 1, lambda: torch.mm(v, weight, out=above)),
        (sweeps, lambda: torch.mm(h, weight.t(), out=below)),
        (2, lambda: torch.mm(v.t(), h, out=slope)),
    ]

    def call(i: int) -> None:
        for count, product in work:
            for _ in range(repeats * count):
                product()

    flops = 2 * BATCH * X * HIDDEN * sum(count for count, _ in work)
    return Workload(call, units=repeats, notes={"MFLOP": flops / 1e6})


def rows(case: Case) -> list[Row]:
    """The floor, by hand in three ways, and ours in each mode."""
    found: list[tuple[str, str, Mapping[str, object]]] = [
        (FLOOR, "products", {}),
        (HAND, "in_place", {}),
        (COINS, "in_place", {"quick_coins": True}),
        (AUTOGRAD, "by_autograd", {}),
    ]
    hand = [Row(n, f"benchmarks.energies:{build}", {"case": case, **how}, warmup=WARMUP) for n, build, how in found]
    return [*hand, *in_modes("benchmarks.energies:training", case=case)]


def table(settings: Settings) -> str:
    """One table a case, then the targets."""
    parts = []
    for case in CASES:
        if settings.cases and str(case) not in settings.cases:
            continue
        results = measure(wanted(rows(case), settings), settings.rounds, settings.ms)
        asked = "; ".join(f"{mine} / {HAND}: {target(results, mine, HAND, LIMIT)}" for mine in (INDUCTOR, REPLAY))
        parts += [
            f"{case}, 784-500, b={BATCH}, SGD; the loss is that of a reconstruction:",
            compare(results, RATIOS, what="ms per step"),
            rate(results[FLOOR]) if FLOOR in results else "",
            f"Targets: {asked}.",
        ]
    return "\n\n".join(filter(None, parts))
