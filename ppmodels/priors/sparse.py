"""Priors under which most coordinates are next to zero, and a few are not."""

from __future__ import annotations

import math
from typing import Any, ClassVar, cast

import pyro.distributions as dist
import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import constraints

from ppmodels.distributions import as_vector
from ppmodels.nets import check_size

from .mixtures import mixture
from .settings import hold, log_positive

__all__ = ["Horseshoe", "HorseshoeLaw", "SpikeAndSlab", "log_exp1e"]

EULER = 0.5772156649015329
MIDDLE = 3.0  # of `log_exp1e`: the series below it, the fraction above
TERMS = 24  # of either


class Horseshoe(nn.Module):
    r"""Carvalho, Polson and Scott's horseshoe: each coordinate has a scale of its own, half-Cauchy a priori.

    .. math:: z_i \mid \lambda_i \sim \mathcal{N}(0,\, \lambda_i^2 s_i^2), \quad \lambda_i \sim C^+(0, 1), \qquad
        p(z_i) = \frac{e^{u_i} E_1(u_i)}{\sqrt{2 \pi^3}\, s_i}, \quad u_i = \frac{z_i^2}{2 s_i^2}

    The local scales are integrated out in closed form. What is left has an infinite peak at 0, which draws
    coordinates that say nothing all the way there, and tails as heavy as Cauchy's, which leave the others alone.

    Arguments:
        z_dim: the length of `z`.
        scale: the global scale :math:`s`, a number or `(z_dim,)`; where it starts, if it is learned.
        learned: whether the scale is a parameter, one for each coordinate.

    Raises:
        ValueError: `scale` is not positive or of another length.

    References:
        The horseshoe estimator for sparse signals (Carvalho, Polson and Scott, 2010), Biometrika 97

    Example:
        >>> Horseshoe(5)().log_prob(torch.tensor([0.0, 0.01, 1.0, 10.0, 1000.0])).isfinite()
        tensor(True)
    """

    log_scale: Tensor

    def __init__(self, z_dim: int, *, scale: float | Tensor = 1.0, learned: bool = False) -> None:
        super().__init__()
        like = torch.zeros(check_size("z_dim", z_dim))
        hold(self, learned=learned, log_scale=log_positive("scale", scale, like))

    def forward(self) -> TorchDistribution:
        return as_vector(HorseshoeLaw(self.log_scale.exp()))


class SpikeAndSlab(nn.Module):
    r"""Each coordinate is next to zero, in the spike, or anywhere, in the slab.

    .. math:: p(z_i) = (1 - \rho_i)\, \mathcal{N}(z_i;\, 0, s_{0i}^2) + \rho_i\, \mathcal{N}(z_i;\, 0, s_{1i}^2)

    A spike of no width at all would be a point mass, which no continuous guide can match; this one is narrow.

    Arguments:
        z_dim: the length of `z`.
        probs: how often a coordinate is in the slab, :math:`\rho`.
        spike: the scale :math:`s_0` of the spike, a number or `(z_dim,)`.
        slab: the scale :math:`s_1` of the slab, a number or `(z_dim,)`.
        learned: whether all three are parameters, three for each coordinate.

    Raises:
        ValueError: `probs` is not in (0, 1), a scale is not positive, or the spike is no narrower than the slab.

    References:
        Variable Selection Via Gibbs Sampling (George and McCulloch, 1993), Journal of the American Statistical
        Association 88

    Example:
        >>> prior = SpikeAndSlab(50, probs=0.2)
        >>> (prior()((1000,)).abs() > 0.2).double().mean().round(decimals=1)  # what the slab makes, but for its middle
        tensor(0.2000, dtype=torch.float64)
    """

    logits: Tensor
    log_scale: Tensor

    def __init__(
        self,
        z_dim: int,
        *,
        probs: float = 0.5,
        spike: float | Tensor = 0.05,
        slab: float | Tensor = 1.0,
        learned: bool = False,
    ) -> None:
        super().__init__()
        if not 0.0 < probs < 1.0:
            raise ValueError(f"`probs` must lie in (0, 1), between only the spike and only the slab, got {probs}")
        zeros = torch.zeros(check_size("z_dim", z_dim))
        log_scale = torch.stack([log_positive("spike", spike, zeros), log_positive("slab", slab, zeros)], -1)
        if not bool((log_scale[:, 0] < log_scale[:, 1]).all()):
            raise ValueError(f"`spike` must be narrower than `slab`, got scales {spike} and {slab}")
        hold(self, learned=learned, logits=zeros + math.log(probs) - math.log1p(-probs), log_scale=log_scale)

    def forward(self) -> TorchDistribution:
        logits = torch.stack([torch.zeros_like(self.logits), self.logits], -1)  # (z_dim, 2)
        return as_vector(mixture(logits, dist.Normal(torch.zeros_like(logits), self.log_scale.exp())))


class HorseshoeLaw(TorchDistribution):
    r"""The horseshoe of a coordinate, :math:`p(z) = e^u E_1(u) / (\sqrt{2 \pi^3}\, s)`, :math:`u = z^2 / 2 s^2`.

    At 0, where the density is infinite, `log_prob` is that of the least number there is.

    Arguments:
        scale: :math:`s`, of any shape.

    Example:
        >>> HorseshoeLaw(1.0).log_prob(torch.tensor(1.0))
        tensor(-2.1439)
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {"scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, scale: Tensor | float, *, validate_args: bool | None = None) -> None:
        self.scale = torch.as_tensor(scale)
        super().__init__(self.scale.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> HorseshoeLaw:
        new = cast(HorseshoeLaw, cast(Any, self)._get_checked_instance(HorseshoeLaw, _instance))
        new.scale = self.scale.expand(batch_shape)
        super(HorseshoeLaw, new).__init__(torch.Size(batch_shape), validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(torch.Size(sample_shape))
        options: Any = {"dtype": self.scale.dtype, "device": self.scale.device}
        local = (math.pi / 2 * torch.rand(shape, **options)).tan()  # half-Cauchy
        return self.scale * local * torch.randn(shape, **options)

    def log_prob(self, value: Tensor) -> Tensor:
        limits = torch.finfo(self.scale.dtype)
        far = limits.max**0.5
        u = ((value / self.scale).clamp(-far, far).square() / 2).clamp_min(limits.tiny)
        return log_exp1e(u) - self.scale.log() - math.log(2 * math.pi**3) / 2


def log_exp1e(x: Tensor) -> Tensor:
    r""":math:`\log(e^x E_1(x))` of the exponential integral :math:`E_1(x) = \int_x^\infty e^{-t} / t\, dt`, x > 0.

    .. math:: E_1(x) = -\gamma - \log x - \sum_{k \ge 1} \frac{(-x)^k}{k\; k!}, \qquad
        e^x E_1(x) = \cfrac{1}{x + 1 - \cfrac{1^2}{x + 3 - \cfrac{2^2}{x + 5 - \cdots}}}

    The series is taken for x < 3, the continued fraction above, 24 terms of each. In float64 both err by less than
    1e-12, and gradients, which are theirs, by 1e-11 of themselves. Nothing but `x` is a tensor here, so a graph of it
    has no constants that would be copied to the device at every step.

    References:
        Handbook of Mathematical Functions (Abramowitz and Stegun, 1964), 5.1.11 and 5.1.22

    Example:
        >>> log_exp1e(torch.tensor([1e-30, 1.0, 1e30], dtype=torch.float64))
        tensor([  4.2268,  -0.5169, -69.0776], dtype=torch.float64)
    """
    small, large = x.clamp_max(MIDDLE), x.clamp_min(MIDDLE)
    series = torch.zeros_like(x)
    for k in range(TERMS, 0, -1):
        series = small * (series - (-1) ** k / (k * math.factorial(k)))
    fraction = large + 2 * TERMS + 1
    for k in range(TERMS, 0, -1):
        fraction = large + (2 * k - 1) - k**2 / fraction
    return torch.where(x < MIDDLE, small + (series - EULER - small.log()).log(), -fraction.log())
