"""Our engines on a pair, in each of their modes: the one file of the benchmark that knows how they are called."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.optim import Optimizer

from benchmarks.gpu import synchronised
from benchmarks.hand import HIDDEN, X, Z, batches
from benchmarks.workload import Workload
from guides import AmortizedNormal
from inference.bounds import ELBO, IWAE
from inference.graph import GraphWarning, Mode
from inference.likelihood import FewParticlesWarning, LogLikelihood, log_likelihood
from inference.objectives import Objective, Phase, Variational
from inference.optim import adam
from inference.pair import Pair
from inference.stepper import Report, Stepper
from ppmodels.conditionals import ConditionalBernoulli, ConditionalNormal
from ppmodels.nets import MLP
from ppmodels.priors import StandardNormal
from ppmodels.vae import VAE


def burda() -> Pair:
    """784-200-200-50 tanh, both ways."""
    return Pair(VAE(StandardNormal(Z), ConditionalBernoulli(MLP(Z, (HIDDEN, HIDDEN)), X)), encoder())


def encoder() -> AmortizedNormal:
    """Burda's q(z | x)."""
    return AmortizedNormal(ConditionalNormal(MLP(X, (HIDDEN, HIDDEN)), Z))


def stepper(pair: Pair, phase: Phase, optimizer: Optimizer, mode: Mode) -> Callable[[Tensor, Tensor], object]:
    """One update, as `fit` makes it: on a CPU loss and gradient are looked at first."""
    step = Stepper(pair, phase, optimizer, mode, every=50)
    return step if next(iter(phase.parameters.values())).is_cuda else partial(step, check=_check)


def _check(report: Report) -> None:
    if not report.is_finite:
        raise ArithmeticError("the loss or its gradient is not finite")


def no_other_mode() -> None:
    """A row must not run in a lower mode than its name says: where the engine would warn of that, it stops."""
    warnings.simplefilter("error", GraphWarning)


@dataclass(frozen=True, eq=False)
class Training:
    """A step on a batch, with the clock that `fit` would keep."""

    phase: Phase
    update: Callable[[Tensor, Tensor], object]
    clock: Tensor

    def __call__(self, x: Tensor) -> object:
        self.clock.add_(1)
        return self.update(x, self.clock)

    def loss(self, x: Tensor) -> float:
        """Nats per datum, at the present parameters."""
        return self.phase.loss(x, self.clock).loss.item()


def ours(
    mode: Mode, K: int, batch: int, *, pair: Pair | None = None, objective: Objective | None = None, device: str = "cpu"
) -> Training:
    """A training step in one of our modes, on batches of that size."""
    no_other_mode()
    torch.manual_seed(0)
    pair = burda() if pair is None else pair
    for module in pair.modules().values():
        module.to(device)
    first = torch.bernoulli(torch.full((batch, X), 0.3)).to(device)
    objective = objective or Variational(ELBO() if K == 1 else IWAE(), num_particles=K)
    phase = objective.task(pair, first).phases[0]
    optimizer = adam(1e-3)(list(phase.parameters.values()))
    return Training(phase, stepper(pair, phase, optimizer, mode), torch.zeros((), device=device))


def training(mode: Mode, batch: int, K: int, *, device: str = "cpu") -> Workload:
    """Burda's pair on resident batches."""
    return resident(ours(mode, K, batch, device=device), batch, device)


def resident(step: Training, batch: int, device: str = "cpu") -> Workload:
    """A step over batches cut beforehand."""
    data = batches(batch, device)
    work = Workload(lambda i: step(data[i % len(data)]), loss=lambda: step.loss(data[0]))
    return synchronised(work) if device == "cuda" else work


def evaluate(mode: Mode, pair: Pair, x: Tensor, K: int) -> LogLikelihood:
    """Log p(x) of every row with K draws, as a user asks for it."""
    no_other_mode()
    warnings.simplefilter("ignore", FewParticlesWarning)  # random weights: of course
    return log_likelihood(pair.model, pair.guide, x, num_particles=K, progress=False, mode=mode)
