"""One update of one phase: loss, gradients, their norm, and the optimiser's step, and as little else as can be.

What a phase computes is one function of the batch and the step, so that a graph can hold it whole; the optimiser works
on the gradients the graph gives. On a CUDA device graph and optimiser are recorded together and launched as one.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from inference.graph import Entry, Graphed, GraphWarning, Mode, Recording
from inference.objectives import Phase
from inference.optim import FusedAdam, Update, updater
from inference.pair import Pair
from inference.sites import first_line
from ppmodels.contracts import Batch

__all__ = ["Report", "Stepper"]

MOST_RECORDINGS = 8
"""Recorded steps kept at a time: one for each shape of batch, and each setting of the optimiser."""


@dataclass(frozen=True, eq=False)
class Report:
    """What a step says of itself.

    Attributes:
        names: of the parts of the loss, and `grad_norm`.
        numbers: what the names name, `(len(names),)`, on the device, not waited for.
        health: finite if the loss and its gradient are, 0-d.
        found: the gradients, clipped if that was asked for.
        places: the places of their parameters among all.
        every: the names of all parameters.
    """

    names: tuple[str, ...]
    numbers: Tensor
    health: Tensor
    found: list[Tensor]
    places: Sequence[int]
    every: Sequence[str]

    @property
    def gradients(self) -> dict[str, Tensor]:
        """The gradients by parameter."""
        return {self.every[i]: gradient for i, gradient in zip(self.places, self.found, strict=True)}

    @property
    def is_finite(self) -> bool:
        """Whether loss and gradient are finite; waits for the device."""
        return math.isfinite(self.health.item())


@dataclass(eq=False)
class Stepper:
    """Steps one phase.

    Attributes:
        pair: whose programs the phase runs.
        phase: the loss and the parameters it moves.
        optimizer: of these parameters.
        mode: how the phase is run, see `inference.graph`.
        calls: how many steps with a batch of n data are to come.
        modes: the mode in use by n; what is there beforehand is used as it is.
        clip_norm: largest norm of the gradient.
        warned: reasons for a lower mode that were warned of already.
        every: steps between two looks at whether the graph still holds, see `Graphed`.
    """

    pair: Pair
    phase: Phase
    optimizer: Optimizer
    mode: Mode = "auto"
    calls: Callable[[int], int] = lambda n: 1
    modes: dict[str, str] = field(default_factory=dict)
    clip_norm: float | None = None
    warned: set[str] = field(default_factory=set)
    every: int = 1

    def __post_init__(self) -> None:
        self.names = list(self.phase.parameters)
        self.parameters = list(self.phase.parameters.values())
        self.graph = Graphed(self.pair, self._gradients, self.mode, self.calls, self.modes, self.warned, self.every)
        self._update: Update | None = None
        self._recordings: dict[tuple[Entry, Any], Recording] = {}
        self._records = True

    def __call__(self, batch: Batch, step: Tensor, check: Callable[[Report], None] | None = None) -> Report:
        """Update the parameters once; `check` sees what was found before it has an effect."""
        if self._update is None:  # not before a checkpoint may have been loaded
            self._update = updater(self.optimizer, self.parameters)
        if check is None and self._records and step.device.type == "cuda" and isinstance(self._update, FusedAdam):
            report = self._replay(batch, step, self._update)
            if report is not None:
                return report
        report = self._report(*self.graph(batch, step))
        if check is not None:
            check(report)
        self._update(report.found, report.places)
        return report

    def _report(self, tensors: Sequence[Tensor], static: Any) -> Report:
        names, places = static
        health, numbers, *gradients = tensors
        return Report(names, numbers, health, gradients, places, self.names)

    def _replay(self, batch: Batch, step: Tensor, update: FusedAdam) -> Report | None:
        """Graph and optimiser in one launch, where there is a graph and it can be recorded."""
        leaves, entry = self.graph.find(batch, step)
        if entry.captured is None or len(entry.captured.static[1]) != len(self.parameters):
            return None
        if not (update.running or update.start()):
            return None
        update.read_rate()
        key = entry, update.settings
        if key not in self._recordings:
            if len(self._recordings) >= MOST_RECORDINGS:
                self._recordings.clear()  # each holds memory of its own
            try:
                self._recordings[key] = self.record(entry, leaves, update)
            except RuntimeError as error:  # an operation that waits for the device cannot be recorded
                self._records = False
                warnings.warn(
                    f"steps are launched one operation at a time: {first_line(error)}", GraphWarning, stacklevel=4
                )
                return None
        return self._report(self._recordings[key](leaves), entry.captured.static)

    def record(self, entry: Entry, leaves: Sequence[Tensor], update: FusedAdam, **how: Any) -> Recording:
        """Record a step; `how` goes to `Recording`."""
        captured, call = entry.captured, entry.call
        assert captured is not None
        assert call is not None

        def body(inputs: Sequence[Tensor]) -> Sequence[Tensor]:
            tensors = call(*inputs)
            update(list(tensors[2:]), captured.static[1], rate=update.rate)
            return tensors

        return Recording(body, leaves, [*update.state, *captured.writes], **how)

    def _gradients(self, batch: Batch, step: Tensor) -> tuple[Sequence[Tensor], Any]:
        """Health, parts and norm, gradients; and, what stays, the parts' names and whose gradients these are."""
        loss = self.phase.loss(batch, step)
        every = torch.autograd.grad(loss.loss, self.parameters, allow_unused=True)
        gradients = [gradient for gradient in every if gradient is not None]
        norm = get_total_norm(gradients)
        if self.clip_norm is not None:
            factor = (self.clip_norm / (norm + 1e-6)).clamp(max=1.0)
            gradients = [gradient * factor for gradient in gradients]
        numbers = torch.stack([value.detach().to(norm) for value in (*loss.parts.values(), norm)])
        found = tuple(i for i, gradient in enumerate(every) if gradient is not None)
        return (loss.loss.detach() + norm, numbers, *gradients), ((*loss.parts, "grad_norm"), found)
