r"""What warm-up adapts from transition to transition: the step, by dual averaging, and the length of trajectories.

The length climbs the ChEES criterion, the change of the squared distance from the centre over a trajectory,

.. math:: \mathrm{ChEES} = \tfrac{1}{4} \mathbb{E} \left[ (\lVert x_t - \bar x \rVert^2
          - \lVert x_0 - \bar x \rVert^2)^2 \right]

whose gradient in the length is an average over chains. All of it is a few numbers on the host, saved as such.

References:
    Hoffman, Radul and Sountsov, *An Adaptive-MCMC Scheme for Setting Trajectory Lengths in Hamiltonian Monte Carlo*,
    2021, AISTATS. Hoffman and Gelman, *The No-U-Turn Sampler*, 2014, arXiv 1111.4246 (dual averaging, section 3.2).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from inference.mcmc.leapfrog import Phase

__all__ = ["Length", "Step", "chees_gradient", "halton", "harmonic_mean"]


class Step(NamedTuple):
    """The step, by dual averaging of what its logarithm should be.

    Attributes:
        log_step: to use next.
        log_average: of the steps so far, to stay with in the end.
        shortfall: by how much acceptance has been too low, on average.
        centre: what the logarithm is drawn to.
        n: updates since the start.
    """

    log_step: float
    log_average: float
    shortfall: float
    centre: float
    n: float

    @classmethod
    def start(cls, step: float) -> Step:
        """Begin at a step, ready to take ten times as much."""
        return cls(math.log(step), math.log(step), 0.0, math.log(10 * step), 0.0)

    def update(self, acceptance: float, target: float) -> Step:
        """After a transition of some acceptance; equation 6 of Hoffman and Gelman."""
        n = self.n + 1
        shortfall = self.shortfall + ((target - acceptance) - self.shortfall) / (n + 10)
        log_step = min(max(self.centre - math.sqrt(n) / 0.05 * shortfall, -20.0), 5.0)
        gain = n**-0.75
        return Step(log_step, gain * log_step + (1 - gain) * self.log_average, shortfall, self.centre, n)

    @property
    def current(self) -> float:
        return math.exp(self.log_step)

    @property
    def settled(self) -> float:
        return math.exp(self.log_average)


class Length(NamedTuple):
    r"""The length of the longest trajectory, in whitened time, by Adam on the ChEES criterion.

    Attributes:
        log_length: to use next.
        log_average: of late, to stay with in the end.
        second: running mean of squared gradients.
        n: updates in all.
        since: updates since the metric was last set.
        least: what a trajectory must reach: a quarter of the period of the slowest direction,
            :math:`\tfrac{\pi}{2} \sqrt{\lambda_{\max}}`.
    """

    log_length: float
    log_average: float
    second: float
    n: float
    since: float
    least: float

    @classmethod
    def start(cls) -> Length:
        return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)

    def after_metric(self, slowest: float) -> Length:
        """A new metric leaves a variance `slowest` in its slowest direction; an outlier must not explode it."""
        least = math.pi / 2 * math.sqrt(min(slowest, 50.0))
        return self._replace(log_length=math.log(least), log_average=math.log(least), since=0.0, least=least)

    def update(self, gradient: float, step: float, most: float) -> Length:
        """Climb, by 0.35 in logarithm at most; stay between a step and `most`."""
        n, since = self.n + 1, self.since + 1
        second = 0.95 * self.second + 0.05 * gradient**2
        climb = 0.025 * gradient / (math.sqrt(second / (1 - 0.95**n)) + 1e-12)
        log_length = self.log_length + min(max(climb, -0.35), 0.35)
        log_length = min(max(log_length, math.log(max(step, self.least))), math.log(most))
        gain = since**-0.5
        average = (1 - gain) * self.log_average + gain * log_length
        return Length(log_length, average, second, n, since, self.least)

    @property
    def current(self) -> float:
        return math.exp(self.log_length)

    @property
    def settled(self) -> float:
        return math.exp(self.log_average)


def halton(n: int) -> float:
    """The n-th number of the sequence 1/2, 1/4, 3/4, 1/8, ...: trajectories of every part of the length.

    >>> [halton(n) for n in (1, 2, 3, 4)]
    [0.5, 0.25, 0.75, 0.125]
    """
    part, place = 0.0, 0.5
    while n > 0:
        part, place, n = part + place * (n % 2), place / 2, n // 2
    return part


def harmonic_mean(chance: Tensor) -> Tensor:
    """Of the chains' chances of acceptance: one that is stuck pulls it down, where the mean would not notice."""
    return 1 / (1 / chance.clamp(min=1e-10)).mean()


def chees_gradient(start: Phase, end: Phase, chance: Tensor, inverse: Tensor, time: float) -> Tensor:
    """The gradient of the criterion in the logarithm of the length, a scalar; places are whitened.

    Args:
        start: where trajectories began, `(C, D)`.
        end: where they would go.
        chance: that they are accepted, `(C,)`; what diverged counts for nothing.
        inverse: of the factor of the inverse mass.
        time: how long trajectories were.
    """
    weight = chance / chance.sum().clamp(min=1e-20)
    x0, x1 = (whiten(phase.q, inverse) for phase in (start, end))
    x1 = torch.where(chance.unsqueeze(-1) > 0, x1, x0)
    x0 = x0 - x0.mean(0)
    x1 = x1 - (weight.unsqueeze(-1) * x1).sum(0)
    change = x1.square().sum(-1) - x0.square().sum(-1)  # (C,)
    v = torch.where(chance.unsqueeze(-1) > 0, end.v, 0.0)
    return time * (weight * change * (x1 * v).sum(-1)).nan_to_num(0.0, 0.0, 0.0).sum()


def whiten(q: Tensor, inverse: Tensor) -> Tensor:
    """Places in units of the metric: the inverse factor across the rows."""
    return q * inverse if inverse.dim() == 1 else q @ inverse.T
