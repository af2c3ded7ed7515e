r"""Optimisers and schedules by name, as factories: `fit` makes one optimiser a phase."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

__all__ = ["OptimizerFactory", "ScheduleFactory", "adam", "burda_schedule"]

OptimizerFactory: TypeAlias = Callable[[Iterable[Tensor]], Optimizer]
ScheduleFactory: TypeAlias = Callable[[Optimizer], LRScheduler]


def adam(lr: float = 1e-3, *, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> OptimizerFactory:
    """Adam in one fused kernel.

    Raises:
        ValueError: if the learning rate is not positive.

    References:
        Kingma and Ba, *Adam: A Method for Stochastic Optimization*, 2015, arXiv 1412.6980.

    >>> adam(-1.0)
    Traceback (most recent call last):
    ValueError: `lr` is -1.0, expected a positive learning rate
    """
    if not lr > 0:
        raise ValueError(f"`lr` is {lr}, expected a positive learning rate")
    return partial(torch.optim.Adam, lr=lr, betas=betas, eps=eps, fused=True)


def burda_schedule(epochs: int = 3280) -> ScheduleFactory:
    r"""Burda's stages: in stage i = 0..7, :math:`3^i` epochs at :math:`10^{-i/7}` times the first learning rate.

    The eight stages take 3,280 epochs and bring 1e-3 down to 1e-4 (factors rounded to tenths of the last, as in the
    paper). With fewer epochs the stages shrink in proportion.

    References:
        Burda, Grosse and Salakhutdinov, *Importance Weighted Autoencoders*, 2016, arXiv 1509.00519, section 5.

    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-3)
    >>> schedule = burda_schedule()(optimizer)
    >>> [round(schedule.lr_lambdas[0](epoch), 2) for epoch in (0, 1, 4, 13, 40, 121, 364, 1093, 3279)]
    [1.0, 0.72, 0.52, 0.37, 0.27, 0.19, 0.14, 0.1, 0.1]
    """
    ends = [(3 ** (i + 1) - 1) / 2 * epochs / 3280 for i in range(8)]

    def factor(epoch: int) -> float:
        stage = next((i for i, end in enumerate(ends) if epoch < end), 7)
        return float(round(10 ** (1 - stage / 7), 1)) / 10

    return lambda optimizer: LambdaLR(optimizer, factor)
