"""What the tables of energies, games and denoising share: a training step of any objective, as `fit` makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyro
import torch
from torch import Tensor, nn

from benchmarks.harness import Row
from benchmarks.ours import no_other_mode, stepper
from benchmarks.steps import MODES
from benchmarks.workload import Workload
from inference.graph import Mode
from inference.objectives import Objective
from inference.optim import OptimizerFactory
from inference.pair import Pair, no_guide

__all__ = ["in_modes", "our_step"]

WARMUP = 60


def our_step(
    model: nn.Module,
    guide: nn.Module | None,
    objective: Objective,
    data: Sequence[Tensor],
    mode: Mode,
    optimizer: OptimizerFactory,
    loss: Callable[[], float],
) -> Workload:
    """Every phase of the objective, stepped once on a resident batch, with the clock and the looks that `fit` has."""
    no_other_mode()
    pyro.enable_validation(False)  # as `fit` does; the process is the worker's own
    pair = Pair(model, guide or no_guide, modules_only=True)
    phases = objective.task(pair, data[0]).phases
    updates = [stepper(pair, phase, optimizer(list(phase.parameters.values())), mode) for phase in phases]
    clock = torch.zeros(())

    def step(i: int) -> None:
        clock.fill_(i)
        for update in updates:
            update(data[i % len(data)], clock)

    return Workload(step, loss=loss)


def in_modes(build: str, **options: object) -> list[Row]:
    """A row for each of our modes."""
    return [Row(name, build, {"mode": mode, **options}, warmup=WARMUP) for name, mode in MODES.items()]
