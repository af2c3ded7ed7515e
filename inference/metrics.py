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
        self.names: list[tuple[str, ...]] = []
        self.sums: list[Tensor] = []
        self.count = 0

    def add(self, reports: Sequence[Report]) -> None:
        """Count one step in; the reports of the phases, in order."""
        if not self.count:
            self.names = [report.names for report in reports]
            self.sums = [report.numbers.clone() for report in reports]
        else:
            for total, report in zip(self.sums, reports, strict=True):
                total += report.numbers
        self.count += 1

    def flush(self, phases: Sequence[Phase]) -> dict[str, float]:
        """The means since the last time, by name; with several phases, `phase/name`."""
        read = torch.cat([values.double() for values in self.sums]).tolist()
        prefixes = ["" if len(phases) == 1 else f"{phase.name}/" for phase in phases]
        names = [prefix + name for prefix, part in zip(prefixes, self.names, strict=True) for name in part]
        count, self.count = self.count, 0
        return {name: value / count for name, value in zip(names, read, strict=True)}
