"""What stands in a layer of an energy model: bits, or real numbers of a scale that is learned."""

from __future__ import annotations

import math
from typing import Any, Protocol, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.nn.functional import softplus

from ppmodels.distributions import as_vector
from ppmodels.nets import check_size

__all__ = ["BernoulliUnits", "GaussianUnits", "Units", "bits_of", "log_odds"]


class Units(Protocol):
    r"""A layer by itself: :math:`p(v) \propto e^{-E(v) + s(v)^\top f}` in a field :math:`f` that the others make.

    `energy(v)` is E, `statistic(v)` is s, `conditional(f)` the law, `log_partition(f)` the log of its normaliser,
    `between(base, beta, f)` the law of :math:`(1-\beta) E_{base} + \beta (E - s^\top f)`. `countable` says whether
    its states can be enumerated.
    """

    size: int
    bias: nn.Parameter
    countable: bool

    def energy(self, v: Tensor) -> Tensor: ...

    def statistic(self, v: Tensor) -> Tensor: ...

    def conditional(self, field: Tensor) -> TorchDistribution: ...

    def log_partition(self, field: Tensor) -> Tensor: ...

    def between(self, base: Units, beta: Tensor, field: Tensor) -> TorchDistribution: ...


class BernoulliUnits(nn.Module):
    r"""Bits, :math:`E(v) = -b^\top v`, so that each is on with probability :math:`\sigma(b_i + f_i)`.

    Arguments:
        size: how many.
        logits: :math:`b` at first, `(size,)`; zeros where not given. The log-odds of the data's mean are a good start.

    Raises:
        ValueError: `size` is not positive, or `logits` has another shape.

    Example:
        >>> units = BernoulliUnits(3, logits=torch.tensor([0.0, 1.0, -1.0]))
        >>> units.energy(torch.tensor([1.0, 1.0, 0.0])), units.log_partition(torch.zeros(3))
        (tensor(-1., grad_fn=<...>), tensor(2.3197, grad_fn=<...>))
    """

    countable = True

    def __init__(self, size: int, *, logits: Tensor | None = None) -> None:
        super().__init__()
        self.size = check_size("size", size)
        self.bias = nn.Parameter(_start("logits", logits, size))

    def energy(self, v: Tensor) -> Tensor:
        """`(..., size)` to `(...)`."""
        return -(v @ self.bias)

    def statistic(self, v: Tensor) -> Tensor:
        """What meets the weights: the bits themselves."""
        return v

    def conditional(self, field: Tensor) -> TorchDistribution:
        """Independent bits in a field, `(..., size)`."""
        return as_vector(cast(Any, dist.Bernoulli(logits=self.bias + field)))

    def log_partition(self, field: Tensor) -> Tensor:
        """`(..., size)` to `(...)`."""
        return softplus(self.bias + field).sum(-1)

    def between(self, base: Units, beta: Tensor, field: Tensor) -> TorchDistribution:
        """Independent bits, their log-odds a mean of both."""
        return as_vector(cast(Any, dist.Bernoulli(logits=torch.lerp(base.bias, self.bias + field, beta))))


class GaussianUnits(nn.Module):
    r"""Real numbers, :math:`E(v) = \sum_i (v_i - b_i)^2 / 2\sigma_i^2` and :math:`s(v) = v / \sigma^2`.

    So :math:`v_i` in a field is normal around :math:`b_i + f_i` with scale :math:`\sigma_i`, whatever the field.

    Arguments:
        size: how many.
        loc: :math:`b` at first, `(size,)`; zeros where not given.
        scale: :math:`\sigma` at first, the same for all.

    Raises:
        ValueError: `size` or `scale` is not positive, or `loc` has another shape.

    References:
        Improved Learning of Gaussian-Bernoulli Restricted Boltzmann Machines (Cho, Ilin and Raiko, 2011)

    Example:
        >>> units = GaussianUnits(2, scale=0.5)
        >>> units.conditional(torch.tensor([1.0, 0.0])).mean
        tensor([1., 0.], grad_fn=<...>)
    """

    countable = False

    def __init__(self, size: int, *, loc: Tensor | None = None, scale: float = 1.0) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ValueError(f"`scale` is {scale}, expected a positive number: the noise of a unit")
        self.size = check_size("size", size)
        self.bias = nn.Parameter(_start("loc", loc, size))
        self.log_scale = nn.Parameter(torch.full_like(self.bias, math.log(scale)))

    @property
    def precision(self) -> Tensor:
        r""":math:`1 / \sigma^2`, `(size,)`."""
        return torch.exp(-2 * self.log_scale)

    def energy(self, v: Tensor) -> Tensor:
        """`(..., size)` to `(...)`."""
        return ((v - self.bias).square() * self.precision).sum(-1) / 2

    def statistic(self, v: Tensor) -> Tensor:
        """What meets the weights: the numbers over their variance."""
        return v * self.precision

    def conditional(self, field: Tensor) -> TorchDistribution:
        """Independent normals in a field, `(..., size)`."""
        return as_vector(cast(Any, dist.Normal(self.bias + field, self.log_scale.exp())))

    def log_partition(self, field: Tensor) -> Tensor:
        """`(..., size)` to `(...)`: the integral over all v."""
        shift = (self.bias * field + field.square() / 2) * self.precision
        return (shift + self.log_scale + math.log(2 * math.pi) / 2).sum(-1)

    def between(self, base: Units, beta: Tensor, field: Tensor) -> TorchDistribution:
        """Independent normals, their precisions a mean of both."""
        mine, its = beta * self.precision, (1 - beta) * cast(GaussianUnits, base).precision
        loc = (mine * (self.bias + field) + its * base.bias) / (mine + its)
        return as_vector(cast(Any, dist.Normal(loc, (mine + its).rsqrt())))


def bits_of(numbers: Tensor, bits: int, *, like: Tensor) -> Tensor:
    """Numbers in binary, the last bit changing fastest, `(...)` to `(..., bits)`, in the type of `like`.

    >>> bits_of(torch.arange(4), 2, like=torch.zeros(()))
    tensor([[0., 0.],
            [0., 1.],
            [1., 0.],
            [1., 1.]])
    """
    places = torch.arange(bits - 1, -1, -1, device=numbers.device)
    return (numbers.unsqueeze(-1) >> places & 1).to(like)


def log_odds(x: Tensor, *, smoothing: float = 1.0) -> Tensor:
    """The log-odds of the mean of bits, so many on and off added to each, `(n, d)` to `(d,)`.

    >>> log_odds(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    tensor([1.0986, 0.0000])
    """
    on = x.sum(0) + smoothing
    return torch.log(on) - torch.log(len(x) + 2 * smoothing - on)


def _start(name: str, given: Tensor | None, size: int) -> Tensor:
    value = torch.zeros(size) if given is None else given.detach().clone()
    if value.shape != (size,):
        raise ValueError(f"`{name}` must have shape ({size},), one for each unit, got {tuple(value.shape)}")
    return value
