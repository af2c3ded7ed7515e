r"""A running mean of the parameters on their way, which is steadier than where they happen to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["MovingAverage"]


class MovingAverage:
    r"""The mean of all parameters so far, each weighed down by :math:`\beta` for every update since.

    .. math:: \bar\theta_T = \frac{1 - \beta}{1 - \beta^T} \sum_{t=1}^T \beta^{T - t} \theta_t

    About the last :math:`1 / (1 - \beta)` updates count, and what the parameters began as does not. Buffers of real
    numbers, such as the moments that batch normalisation keeps, are averaged as parameters are; of the others, such as
    counts, the last stands. No learning rate has to fall for the mean to settle: a game, whose players move about
    their optimum as long as they play, gains most.

    Arguments:
        state: parameters and buffers by name; tensors that are written in place as training goes on.
        decay: :math:`\beta`.

    Raises:
        ValueError: the decay is not between 0 and 1.

    References:
        Polyak and Juditsky, *Acceleration of Stochastic Approximation by Averaging*, 1992, SIAM J. Control Optim. 30
        Yazici, Foo, Winkler, Yap, Piliouras and Chandrasekhar, *The Unusual Effectiveness of Averaging in GAN
        Training*, 2019, arXiv 1806.04498

    >>> theta = torch.tensor([5.0])
    >>> average = MovingAverage({"theta": theta}, 0.5)
    >>> for value in (1.0, 4.0):
    ...     _ = theta.fill_(value)
    ...     average.add()
    >>> average.mean["theta"]  # (0.5 * 1 + 1 * 4) / 1.5
    tensor([3.])
    """

    def __init__(self, state: Mapping[str, Tensor], decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"`average` is {decay}, expected a decay between 0 and 1, such as 0.999, or None for none")
        self.decay, self.count = decay, 0
        self.state = {name: value.detach() for name, value in state.items()}
        self.mean = {name: value.clone() for name, value in self.state.items()}
        real = [name for name, value in self.state.items() if value.is_floating_point() and value.numel()]
        self._real = [self.state[name] for name in real], [self.mean[name] for name in real]
        self._other = [name for name in self.state if name not in real]

    @torch.no_grad()
    def add(self) -> None:
        """Count the parameters as they are now."""
        self.count += 1
        now, mean = self._real
        torch._foreach_lerp_(mean, now, (1 - self.decay) / (1 - self.decay**self.count))
        for name in self._other:
            self.mean[name].copy_(self.state[name])

    @torch.no_grad()
    def load(self, mean: Mapping[str, Tensor], count: int) -> None:
        """Be where an average was after so many updates."""
        self.count = count
        for name, value in self.mean.items():
            value.copy_(mean[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Have the mean where the parameters are, and put them back."""
        moving = {name: value.clone() for name, value in self.state.items()}
        self._put(self.mean)
        try:
            yield
        finally:
            self._put(moving)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, value in self.state.items():
            value.copy_(values[name])
