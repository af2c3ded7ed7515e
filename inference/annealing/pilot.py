"""What a pilot run finds out: how far each datum's chains may step, at every temperature and in every direction."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d

from inference.annealing.target import Target
from ppmodels.contracts import Batch

__all__ = ["Steps", "first_step", "scale_of"]

DRAWS = 64
"""Draws of the path's beginning that a scale is told from."""

WINDOW = 5
"""Temperatures on either side over which steps are averaged."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Frozen steps: each datum's own, shared by its chains.

    Attributes:
        scale: of each datum's coordinates, `(n, D)`.
        log_steps: of the pilot run at each of its temperatures, as it adapted, `(T, n)`.
        betas: its temperatures, rising, the last of them 1.
    """

    scale: Tensor
    log_steps: Tensor
    betas: tuple[float, ...]

    def __post_init__(self) -> None:
        smooth = avg_pool1d(self.log_steps.T, 2 * WINDOW + 1, 1, WINDOW, count_include_pad=False).T
        object.__setattr__(self, "log_steps", smooth)

    def at(self, beta: float) -> Tensor:
        """The step at a temperature, between those at the pilot's neighbouring ones, `(n,)`."""
        right = min(bisect_left(self.betas, beta), len(self.betas) - 1)
        left = max(right - 1, 0)
        span = self.betas[right] - self.betas[left]
        part = min(max((beta - self.betas[left]) / span, 0.0), 1.0) if span else 0.0
        return torch.lerp(self.log_steps[left], self.log_steps[right], part).exp()


def scale_of(target: Target, batch: Batch, num_chains: int) -> Tensor:
    """The spread of each datum's latents where the path begins, `(n, D)`."""
    parts = [target.draw(batch, num_chains) for _ in range(-(-DRAWS // num_chains))]
    scale = torch.cat(parts).std(0)
    return torch.where(scale.isfinite() & (scale > 0), scale, 1.0)


def first_step(scale: Tensor) -> Tensor:
    """Log of a step that suits D independent normal coordinates of that scale, `(n,)`."""
    return torch.full_like(scale[:, 0], 1.2 * scale.shape[1] ** -0.25).log()
