"""Means of what the steps report, kept on the device until somebody reads them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from inference.objectives import Phase
from inference.stepper import Report

__all__ = ["Window"]


class Window:
    """Running means of the reports of every phase.

    Reading them is the one time that training waits for the device.
    """

    def __init__(self) -> None:
        self.sums: dict[tuple[int, tuple[str, ...]], Tensor] = {}  # by the phase's place and the names of its parts
        self.counts: dict[tuple[int, tuple[str, ...]], int] = {}

    def add(self, reports: Sequence[Report | None]) -> None:
        """Count one step in; the reports of the phases, in order, `None` of one whose turn it was not."""
        for phase, report in enumerate(reports):
            if report is None:
                continue
            key = phase, report.names
            if key in self.sums:
                self.sums[key] += report.numbers
            else:
                self.sums[key] = report.numbers.to(torch.float64, copy=True)
            self.counts[key] = self.counts.get(key, 0) + 1

    def flush(self, phases: Sequence[Phase]) -> dict[str, float]:
        """The means since the last time, by name; with several phases, `phase/name`."""
        read = torch.cat(list(self.sums.values())).tolist()
        names = [(phase, name) for phase, parts in self.sums for name in parts]
        weights = [count for (_, parts), count in self.counts.items() for _ in parts]
        totals: dict[tuple[int, str], tuple[float, int]] = {}
        for key, value, count in zip(names, read, weights, strict=True):
            total, seen = totals.get(key, (0.0, 0))
            totals[key] = total + value, seen + count
        self.sums, self.counts = {}, {}
        prefixes = ["" if len(phases) == 1 else f"{phase.name}/" for phase in phases]
        return {f"{prefixes[phase]}{name}": total / count for (phase, name), (total, count) in totals.items()}
