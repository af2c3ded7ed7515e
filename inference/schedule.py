r"""How chains are annealed: the path's temperatures and what is spent on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Annealing"]


@dataclass(frozen=True)
class Annealing:
    r"""Settings of annealed importance sampling along the geometric path :math:`q^{1 - \beta} p^\beta`.

    The temperatures follow a sigmoid, closest together at both ends, as in Wu et al. (2017):

    .. math:: \beta_t \propto \sigma\bigl(\delta (2t / T - 1)\bigr) - \sigma(-\delta), \qquad \beta_0 = 0, \beta_T = 1

    Attributes:
        num_temperatures: T, steps along the path.
        num_chains: chains per datum.
        num_leapfrogs: the most gradients of one Hamiltonian transition, whose number of them is drawn from 1 to this;
            there is one transition per temperature.
        start: where the path begins: at the guide, or at the model's prior.
        radius: :math:`\delta`; 0 for evenly spaced temperatures.
        target_acceptance: what the pilot run sets each datum's step size for.
        num_pilot: temperatures of the pilot run, which sets the step sizes and is thrown away.
        num_warmup: transitions at the posterior before draws are kept there, or before chains that begin at one exact
            draw set off from it.

    References:
        Wu, Burda, Salakhutdinov and Grosse, *On the Quantitative Analysis of Decoder-Based Generative Models*, 2017,
        arXiv 1611.04273.

    >>> Annealing(num_temperatures=4).betas()
    tensor([0.0000, 0.1050, 0.5000, 0.8950, 1.0000], dtype=torch.float64)
    """

    num_temperatures: int = 1000
    num_chains: int = 16
    num_leapfrogs: int = 10
    start: Literal["guide", "prior"] = "guide"
    radius: float = 4.0
    target_acceptance: float = 0.65
    num_pilot: int = 100
    num_warmup: int = 50

    def __post_init__(self) -> None:
        for name in ("num_temperatures", "num_chains", "num_leapfrogs", "num_pilot", "num_warmup"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"`{name}` is {value!r}, expected a whole number, at least 1")
        if self.start not in ("guide", "prior"):
            raise ValueError(f'`start` is {self.start!r}, expected "guide" or "prior"')
        if not 0 <= self.radius <= 30:
            raise ValueError(f"`radius` is {self.radius}, expected 0 (evenly spaced) to 30")
        if not 0 < self.target_acceptance < 1:
            raise ValueError(f"`target_acceptance` is {self.target_acceptance}, expected a rate between 0 and 1")

    def betas(self, num: int | None = None) -> Tensor:
        """The path's temperatures, from 0 to 1, one more than there are steps, in float64."""
        steps = torch.linspace(-1, 1, (num or self.num_temperatures) + 1, dtype=torch.float64)
        beta = (self.radius * steps).sigmoid() if self.radius else steps
        return (beta - beta[0]) / (beta[-1] - beta[0])
