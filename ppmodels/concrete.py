"""Points between the corners of a simplex, where a one-hot vector would be a corner."""

from __future__ import annotations

import math
from typing import Any, cast

import pyro.distributions as dist
import torch
from torch import Size, Tensor
from torch.distributions import Transform, biject_to, constraints

__all__ = ["Concrete", "LogRatios", "OpenSimplex", "check_temperature"]


class OpenSimplex(constraints.Constraint):
    """Vectors of positive numbers that add up to one, which `biject_to` reaches by `LogRatios`."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value > 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-6)


class LogRatios(Transform):
    r"""From the reals to a simplex, :math:`z = \operatorname{softmax}(u_1, \dots, u_{C-1}, 0)`.

    The way back, :math:`u_c = \log z_c - \log z_C`, is exact next to the corners, where torch's own bijection takes
    differences to one and loses what is left.

    Example:
        >>> z = torch.tensor([1.0, 1e-30, 1e-20])
        >>> torch.allclose(LogRatios()(LogRatios().inv(z)) / z, torch.ones(3), atol=1e-4)
        True
    """

    domain = constraints.real_vector
    codomain = OpenSimplex()
    bijective = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LogRatios)

    __hash__ = None  # type: ignore[assignment]  # as torch's transforms

    def _call(self, x: Tensor) -> Tensor:
        return _log_softmax(x).exp().clamp_min(torch.finfo(x.dtype).tiny)

    def _inverse(self, y: Tensor) -> Tensor:
        return y[..., :-1].log() - y[..., -1:].log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return _log_softmax(x).sum(-1)

    def forward_shape(self, shape: Any) -> Size:
        return Size((*shape[:-1], shape[-1] + 1))

    def inverse_shape(self, shape: Any) -> Size:
        return Size((*shape[:-1], shape[-1] - 1))


@biject_to.register(OpenSimplex)  # type: ignore[untyped-decorator]
def _to_open_simplex(constraint: OpenSimplex) -> Transform:
    return LogRatios()


class Concrete(dist.RelaxedOneHotCategorical):  # type: ignore[misc]  # Pyro makes it of torch's, untyped
    r"""A one-hot draw made soft, :math:`z = \operatorname{softmax}((l + g) / \tau)`, :math:`g_c \sim \mathrm{Gumbel}`.

    .. math:: p(z) = (C - 1)!\; \tau^{C - 1}\,
        \frac{\prod_c \alpha_c z_c^{-\tau - 1}}{(\sum_c \alpha_c z_c^{-\tau})^C}, \qquad \alpha_c = e^{l_c}

    torch's, but safe at low temperatures: draws add up to one, samplers move in `LogRatios`, and an entry that would
    round to zero, where the density needs a logarithm, is the least number there is, 1e-38 in float32.

    Arguments:
        temperature: :math:`\tau`, a tensor of shape `()`.
        logits: :math:`l`, `(..., C)`.

    References:
        The Concrete Distribution: A Continuous Relaxation of Discrete Random Variables (Maddison, Mnih and Teh, 2017),
        arXiv:1611.00712
        Categorical Reparameterization with Gumbel-Softmax (Jang, Gu and Poole, 2017), arXiv:1611.01144

    Example:
        >>> p = Concrete(torch.tensor(0.01), logits=torch.zeros(10))
        >>> z = p.rsample((1000,))
        >>> bool((z > 0).all()), bool(p.log_prob(z).isfinite().all())
        (True, True)
    """

    support = OpenSimplex()

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        z = cast(Tensor, super().rsample(torch.Size(sample_shape)))
        return (z / z.sum(-1, keepdim=True)).clamp_min(torch.finfo(z.dtype).tiny)


def check_temperature(temperature: float) -> float:
    """The argument `temperature`, refused unless it is a positive number."""
    if not 0.0 < temperature < math.inf:
        raise ValueError(f"`temperature` must be a positive number, such as 0.5, got {temperature}")
    return float(temperature)


def _log_softmax(u: Tensor) -> Tensor:
    """With a last logit of 0."""
    return torch.cat([u, torch.zeros_like(u[..., :1])], -1).log_softmax(-1)
