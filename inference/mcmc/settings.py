"""What is asked of a sampler, checked once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from inference.graph import Mode, check_mode
from inference.mcmc.metric import MetricName

__all__ = ["Settings"]


@dataclass(frozen=True, eq=False)
class Settings:
    """Settings of a run, the same for every backend.

    Attributes:
        num_chains: C.
        num_samples: draws of each chain that are kept, N.
        num_warmup: transitions before them, which adapt.
        seed: seeds starts and transitions.
        mode: how the density is run, see `inference.graph`.
        metric: "diag", "dense", or "auto".
        target_acceptance: what the step adapts to: the harmonic mean over chains of the chance of acceptance for
            `chees`, 0.651 unless given; its mean along trajectories for the others, 0.8 unless given.
        max_leapfrogs: the most in one trajectory.
        init: values to begin at, by site; else uniform on the unconstrained scale, within 2 of the origin.
        checkpoint: a folder to save to and to go on from.
        checkpoint_every: transitions between two saves.
        progress: show a bar; by default where there is a terminal.
    """

    num_chains: int
    num_samples: int = 500
    num_warmup: int = 500
    seed: int = 0
    mode: Mode = "auto"
    metric: MetricName = "auto"
    target_acceptance: float | None = None
    max_leapfrogs: int = 512
    init: Mapping[str, Tensor] | None = None
    checkpoint: Path | None = None
    checkpoint_every: int = 100
    progress: bool | None = None

    def __post_init__(self) -> None:
        check_mode(self.mode)
        least: dict[str, int] = {
            "num_chains": 1,
            "num_samples": 1,
            "num_warmup": 0,
            "max_leapfrogs": 1,
            "checkpoint_every": 1,
        }
        for name, minimum in least.items():
            value: Any = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
                raise ValueError(f"`{name}` is {value!r}, expected a whole number, at least {minimum}")
        if self.target_acceptance is not None and not 0 < self.target_acceptance < 1:
            raise ValueError(f"`target_acceptance` is {self.target_acceptance!r}, expected a number between 0 and 1")
