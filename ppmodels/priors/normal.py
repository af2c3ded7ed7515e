"""Diagonal normals."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn

from ppmodels.distributions import as_vector
from ppmodels.nets import check_size

from .settings import hold, log_positive

__all__ = ["Normal", "StandardNormal", "diagonal_normal"]


class Normal(nn.Module):
    r"""A diagonal normal, :math:`p(z) = \mathcal{N}(z;\, \mu, \operatorname{diag} \sigma^2)`.

    Arguments:
        loc: the location :math:`\mu`, `(z_dim,)`.
        scale: the scale :math:`\sigma`, a number or `(z_dim,)`.
        learned: whether both are parameters; otherwise they are buffers.

    Raises:
        ValueError: `loc` is no vector, or `scale` is not positive or of another length.

    Example:
        >>> prior = Normal(torch.zeros(5), 2.0)
        >>> prior().event_shape, float(prior().log_prob(torch.zeros(5)))
        (torch.Size([5]), -8.060428619384766)
    """

    loc: Tensor
    log_scale: Tensor

    def __init__(self, loc: Tensor, scale: float | Tensor, *, learned: bool = False) -> None:
        super().__init__()
        if loc.ndim != 1 or not len(loc):
            raise ValueError(f"`loc` must be a vector of shape (z_dim,), got shape {tuple(loc.shape)}")
        hold(self, learned=learned, loc=loc, log_scale=log_positive("scale", scale, loc))

    def forward(self) -> TorchDistribution:
        return diagonal_normal(self.loc, self.log_scale)


class StandardNormal(Normal):
    r"""The usual prior, :math:`p(z) = \mathcal{N}(z;\, 0, I)`.

    Arguments:
        z_dim: the length of `z`.

    Example:
        >>> StandardNormal(50)().event_shape
        torch.Size([50])
    """

    def __init__(self, z_dim: int) -> None:
        super().__init__(torch.zeros(check_size("z_dim", z_dim)), 1.0)


def diagonal_normal(loc: Tensor, log_scale: Tensor) -> TorchDistribution:
    """A diagonal normal by the logarithm of its scale; other leading dimensions are the batch."""
    return as_vector(dist.Normal(loc, log_scale.exp()))
