"""Priors that draw one coordinate after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from ppmodels.distributions import load_zuko
from ppmodels.nets import check_size

from .mixtures import even_normal, mixture
from .settings import check_widths

__all__ = ["Autoregressive", "ChainLaw"]

SPREAD = 0.75  # of the starting variance between components, as in `GaussianMixture`
LIMIT = 7.0  # of log scales, which are bent towards it: e^7 = 1097


class Autoregressive(nn.Module):
    r"""Each coordinate a mixture of normals given those before it, :math:`p(z) = \prod_i p(z_i \mid z_{<i})`.

    .. math:: p(z_i \mid z_{<i}) = \sum_m \pi_m(z_{<i})\, \mathcal{N}(z_i;\, \mu_m(z_{<i}), \sigma_m^2(z_{<i}))

    One masked net makes the parameters of all coordinates at once, so that a density takes one pass however large
    `z_dim` is; a draw takes `z_dim` passes. It starts near N(0, I), where a net that was made for that expects it.

    Arguments:
        z_dim: the length of `z`.
        hidden: widths of the net, each at least `z_dim - 1`: a unit of each layer for those that each coordinate
            has before it.
        components: the number of normals in each conditional.

    Raises:
        ImportError: zuko is not installed.
        ValueError: a size is not positive, or the net is too narrow to tell the coordinates apart.

    References:
        Masked Autoencoder for Distribution Estimation (Germain, Gregor, Murray and Larochelle, 2015),
        arXiv:1502.03509, for the net
        RNADE: The real-valued neural autoregressive density-estimator (Uria, Murray and Larochelle, 2013),
        arXiv:1306.0186, for mixtures as conditionals
        Variational Lossy Autoencoder (Chen et al., 2017), arXiv:1611.02731, for such priors

    Example:
        >>> prior = Autoregressive(5, (32,))
        >>> prior()().shape, prior().log_prob(torch.zeros(7, 5)).shape
        (torch.Size([5]), torch.Size([7]))
    """

    def __init__(self, z_dim: int, hidden: Sequence[int] = (64,), *, components: int = 5) -> None:
        super().__init__()
        check_size("z_dim", z_dim)
        spread = SPREAD if check_size("components", components) > 1 else 0.0
        loc = even_normal(components, z_dim).T * spread**0.5  # (z_dim, components)
        log_scale = torch.full_like(loc, math.log(1 - spread) / 2)
        self.start = nn.Parameter(torch.stack([torch.zeros_like(loc), loc, log_scale], -2))
        """What the conditionals of all coordinates have for parameters before the net says more, `(z_dim, 3, M)`."""
        widths = check_widths(hidden, z_dim - 1)
        self.net = None if z_dim == 1 else _masked_net(z_dim, widths, self.start[0].numel())

    def forward(self) -> TorchDistribution:
        return ChainLaw(self.conditionals, self.start.new_zeros(len(self.start)))

    def conditionals(self, z: Tensor) -> TorchDistribution:
        """Of each coordinate given those before it in `z`, `(..., z_dim)`, which is the shape of the batch."""
        start = self.start.expand(*z.shape[:-1], *self.start.shape)
        parameters = start if self.net is None else start + self.net(z).reshape(start.shape)
        logits, loc, log_scale = parameters.unbind(-2)  # (..., z_dim, M) each
        return mixture(logits, dist.Normal(loc, (LIMIT * torch.tanh(log_scale / LIMIT)).exp()))


class ChainLaw(TorchDistribution):
    """A vector whose every coordinate is drawn given those before it.

    Arguments:
        conditionals: from vectors `(..., d)` to a distribution of batch shape `(..., d)`; that of the i-th coordinate
            must depend on those before the i-th alone.
        like: a tensor `(d,)`, for its length, dtype and device.
        batch_shape: of independent vectors, all of the same law.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.real_vector

    def __init__(
        self, conditionals: Callable[[Tensor], TorchDistribution], like: Tensor, batch_shape: Sequence[int] = ()
    ) -> None:
        self.conditionals, self.like = conditionals, like
        super().__init__(torch.Size(batch_shape), like.shape, validate_args=False)

    def expand(self, batch_shape: Any, _instance: Any = None) -> ChainLaw:
        return type(self)(self.conditionals, self.like, batch_shape)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with torch.no_grad():
            z = self.like.new_zeros(self._extended_shape(torch.Size(sample_shape)))
            for i in range(len(self.like)):
                z[..., i] = self.conditionals(z).sample()[..., i]
        return z

    def log_prob(self, value: Tensor) -> Tensor:
        log_p: Tensor = self.conditionals(value).log_prob(value).sum(-1)
        return log_p.expand(torch.broadcast_shapes(log_p.shape, self.batch_shape))


def _masked_net(z_dim: int, widths: tuple[int, ...], parameters: int) -> nn.Module:
    """A net from `z` to so many parameters of each coordinate, which know of those before it alone."""
    before = torch.ones(z_dim, z_dim).tril(-1).bool().repeat_interleave(parameters, 0)
    net = cast(nn.Sequential, load_zuko().nn.MaskedMLP(before, widths, activation=nn.Tanh))
    last: Any = net[-1]
    last.bias = None  # `start` is there for that
    with torch.no_grad():
        last.weight.mul_(0.1)
    return net
