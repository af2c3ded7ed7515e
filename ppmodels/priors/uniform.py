"""A box with the same density everywhere."""

from __future__ import annotations

import math
from typing import Any, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppmodels.distributions import as_vector
from ppmodels.nets import check_size

from .settings import hold

__all__ = ["UniformPrior"]


class UniformPrior(nn.Module):
    r"""Independent coordinates, each as likely anywhere in an interval, :math:`p(z) = \prod_i U(z_i;\, a, b)`.

    By default the interval is :math:`(-\sqrt 3, \sqrt 3)`, so that a coordinate has mean 0 and variance 1. Its ends are
    buffers and not learned: a datum outside would have no likelihood, and no gradient to fetch it back.

    Arguments:
        z_dim: the length of `z`.
        low: :math:`a`, where the interval begins.
        high: :math:`b`, where it ends.

    Raises:
        ValueError: `z_dim` is not positive, or `low` and `high` are no interval.

    References:
        Generative Adversarial Networks (Goodfellow et al., 2014), arXiv:1406.2661, whose generator it feeds

    Example:
        >>> prior = UniformPrior(100)
        >>> prior().event_shape, UniformPrior(2, low=0.0, high=2.0)().log_prob(torch.ones(2))
        (torch.Size([100]), tensor(-1.3863))
    """

    low: Tensor
    high: Tensor

    def __init__(self, z_dim: int, *, low: float = -math.sqrt(3), high: float = math.sqrt(3)) -> None:
        super().__init__()
        check_size("z_dim", z_dim)
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"`low` and `high` must be the ends of an interval, the lower first, got {low} and {high}")
        hold(self, learned=False, low=torch.full((z_dim,), low), high=torch.full((z_dim,), high))

    def forward(self) -> TorchDistribution:
        return as_vector(cast(Any, dist.Uniform(self.low, self.high)))
